"""Plots, the HTML page, reliability, and the sets that verification reads."""

from __future__ import annotations

import io
import json
import pickle
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from matplotlib.figure import Figure
from PIL import Image
from scipy.stats import norm
from sklearn.calibration import calibration_curve

from models import checkpoint as checkpoints
from models.calibration import Calibration, CalibrationRow
from models.pretrained import RECOGNISER
from training.cli import main
from training.evaluation.calibration import BINS, CalibrationError, calibrate_pairs, pair_histogram
from training.evaluation.embeddings import EvaluationError
from training.evaluation.pair_sets import listed_pairs, packed_pairs
from training.evaluation.pairs import COLUMNS
from training.evaluation.plots import calibration_figure, detection_figure, verification_figure
from training.evaluation.reliability import reliability
from training.evaluation.web_report import write_report


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def scored(pairs: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    same = np.arange(pairs) % 5 == 0
    return np.clip(generator.normal(np.where(same, 0.5, 0.1), 0.15), -1, 1), same


class Page(HTMLParser):
    """What a page would load, and its text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.words: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loads += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_the_page_loads_nothing_and_says_everything(tmp_path: Path) -> None:
    figure = Figure(figsize=(2, 2))
    figure.subplots().plot([0, 1])
    document = {
        "model": "name<&>@1",
        "auc": 0.98765432,
        "tar_at_fmr": {"1e-2": 0.5},
        "fold_accuracy": [1.0, 0.5],
        "detector": None,
        "machine": {"cores": 2},
        "peer": {"other": {"auc": 0.25}},
    }
    write_report(tmp_path / "deep" / "out.html", "A <title>", document, {"Curves": figure})
    page = Page(tmp_path / "deep" / "out.html")
    assert len(page.loads) == 1
    assert page.loads[0].startswith("data:image/png;base64,")
    for words in ("A <title>", "name<&>@1", "0.987654", "tar_at_fmr.1e-2", "1, 0.5", "none", "Peer other", "cores"):
        assert words in page.words


def test_normal_scores_make_a_straight_det_curve() -> None:
    scores, same = scored()
    figure = verification_figure({"model": scores}, same)
    roc, det, histogram = figure.axes
    x, y = det.lines[0].get_data()
    inside = (np.abs(x) < 1.5) & (np.abs(y) < 1.5)
    slope, intercept = np.polyfit(x[inside], y[inside], 1)
    assert slope == pytest.approx(-1, abs=0.1)  # equal deviations
    assert intercept == pytest.approx(-(0.5 - 0.1) / 0.15, abs=0.1)
    assert det.get_xticks()[1] == pytest.approx(norm.ppf(1e-3))
    assert roc.get_xscale() == "log"
    assert histogram.get_title() == "cosines of model"


def test_reliability_equals_scikit_learn() -> None:
    scores, same = scored()
    table = Calibration(
        rows=[CalibrationRow(fmr=0.1, threshold=0.3), CalibrationRow(fmr=0.01, threshold=0.5)],
        impostor_pairs=16_000,
        genuine_pairs=4_000,
        slope=20.0,
        intercept=-6.5,
        prior=0.2,  # the pairs' own, so that scikit-learn's unweighted bins are the same
        data="synthetic",
    )
    measured = reliability(pair_histogram(scores, same), table, steps=10)
    observed, predicted = calibration_curve(same, table.probabilities(scores), n_bins=10)
    np.testing.assert_allclose(measured.observed, observed, atol=0.01)
    np.testing.assert_allclose(measured.predicted, predicted, atol=0.01)
    assert measured.weight.sum() == pytest.approx(1)
    assert measured.error == pytest.approx((measured.weight * np.abs(observed - predicted)).sum(), abs=0.005)
    fitted = calibrate_pairs(pair_histogram(scores, same), "synthetic")
    assert reliability(pair_histogram(scores, same), fitted).error < 0.02  # normal scores of one deviation are logistic
    assert len(calibration_figure(pair_histogram(scores, same), fitted).axes) == 2


def test_listed_pairs_are_counted_without_the_failed_ones() -> None:
    histogram = pair_histogram(np.array([-1.0, 1.0, 0.0, np.nan]), np.array([False, True, True, True]))
    assert (histogram.impostor.sum(), histogram.genuine.sum()) == (1, 2)
    assert histogram.impostor[0] == histogram.genuine[BINS - 1] == histogram.genuine[BINS // 2] == 1
    with pytest.raises(CalibrationError, match="too few pairs of different people"):
        calibrate_pairs(pair_histogram(np.full(50, 0.5), np.ones(50, bool)), "genuine alone")


def test_every_row_rests_on_thirty_expected_errors() -> None:
    for pairs, supported in ((2_999, None), (3_000, 2), (29_999, 2), (30_000, 3), (300_000, 4)):
        impostors = np.random.default_rng(0).normal(0, 0.1, pairs)
        scores, same = np.r_[impostors, np.full(100, 0.9)], np.r_[np.zeros(pairs, bool), np.ones(100, bool)]
        if supported is None:
            with pytest.raises(CalibrationError, match="at least 3000"):
                calibrate_pairs(pair_histogram(scores, same), "few")
            continue
        table = calibrate_pairs(pair_histogram(scores, same), "enough")
        assert len(table.rows) == supported
        for row in table.rows:
            assert row.fmr * pairs >= 30 - 1e-9
            assert (impostors >= row.threshold + 1e-9).sum() <= row.fmr * pairs


def test_detection_figure_tells_the_area() -> None:
    figure = detection_figure({"ours": (np.array([0.5, 1.0]), np.array([1.0, 0.5]))}, 16)
    assert figure.axes[0].get_legend().get_texts()[0].get_text() == "ours, AP 0.750"


@pytest.fixture(scope="module")
def faces(unpacked: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty people of cfp-dev with four photos each; pairs.csv: two folds of ten of them; groups.csv: odd, even."""
    folder = tmp_path_factory.mktemp("faces")
    people = sorted(unpacked("cfp-dev").iterdir())[:20]
    rows, groups = [",".join(COLUMNS)], ["image,group"]
    for number, person in enumerate(people):
        (folder / "images" / person.name).mkdir(parents=True)
        for image in sorted(person.glob("frontal_*"))[:4]:
            shutil.copy(image, folder / "images" / person.name)
            groups.append(f"{person.name}/{image.name},{'odd' if number % 2 else 'even'}")
        if number < 10:
            other = people[(number + 2) % 10]
            rows.append(f"{number // 5},{person.name},frontal_01,{person.name},frontal_02,1")
            rows.append(f"{number // 5},{person.name},frontal_01,{other.name},frontal_02,0")
    (folder / "pairs.csv").write_text("\n".join(rows))
    (folder / "groups.csv").write_text("\n".join(groups))
    return folder


def packed(file: Path, faces: Path) -> Path:
    """The listed pairs as InsightFace packs them."""
    pairs = listed_pairs(faces / "images", faces / "pairs.csv")
    encoded = []
    for position in np.stack([pairs.first, pairs.second], axis=1).ravel():
        with Image.open(pairs.images[position]) as image:
            buffer = io.BytesIO()
            image.save(buffer, format="png")
            encoded.append(buffer.getvalue())
    file.write_bytes(pickle.dumps((encoded, pairs.same.tolist())))
    return file


def test_a_packed_set_gives_the_figures_of_its_listed_pairs(faces: Path, tmp_path: Path) -> None:
    listed = run(
        *("evaluate", "verification", "--images", faces / "images", "--pairs", faces / "pairs.csv"),
        *("--groups", faces / "groups.csv", "--json", tmp_path / "listed.json", "--report", tmp_path / "listed.html"),
    )
    assert listed.exit_code == 0, listed.output
    document = json.loads((tmp_path / "listed.json").read_text())
    assert document["intervals"]["resampled"] == "identities"
    assert document["intervals"]["units"] == 10
    low, high = document["intervals"]["accuracy_mean"]
    assert low <= document["accuracy_mean"] <= high
    assert document["groups"]["at_fmr"]["1e-2"]["groups"]["odd"]["genuine_pairs"] == 5
    assert "groups.at_fmr.1e-2.groups.odd.fnmr" in Page(tmp_path / "listed.html").words

    file = packed(tmp_path / "lfw.bin", faces)
    result = run("evaluate", "verification", "--bin", file, "--json", tmp_path / "packed.json")
    assert result.exit_code == 0, result.output
    other = json.loads((tmp_path / "packed.json").read_text())
    assert other["auc"] == pytest.approx(document["auc"])
    assert (other["intervals"]["resampled"], other["intervals"]["units"]) == ("pairs", 20)
    both = ("--bin", file, "--images", faces, "--json", tmp_path / "x.json")
    for arguments, words in (
        (both, "either"),
        (("--json", tmp_path / "x.json"), "either"),
        (("--bin", file, "--pipeline", "--json", tmp_path / "x.json"), "aligned"),
        (("--bin", file, "--groups", faces / "groups.csv", "--json", tmp_path / "x.json"), "names"),
    ):
        refused = run("evaluate", "verification", *arguments)
        assert (refused.exit_code, words in refused.stderr) == (2, True), refused.output
    with pytest.raises(EvaluationError, match="names"):
        _ = packed_pairs(file).files


def test_identification_from_lists_with_strangers_and_distractors(
    faces: Path, unpacked: Callable[[str], Path], tmp_path: Path
) -> None:
    people = sorted((faces / "images").iterdir())
    rows = {"gallery": ["image,subject"], "probes": ["image,subject"]}
    for number, person in enumerate(people):
        first, second, *_ = sorted(person.iterdir())
        if number < 12:
            rows["gallery"].append(f"{person.name}/{first.name},{person.name}")
        rows["probes"].append(f"{person.name}/{second.name},{person.name}")
    for name, lines in rows.items():
        (tmp_path / f"{name}.csv").write_text("\n".join(lines))
    for stranger in sorted(unpacked("cfp-dev").iterdir())[30:45]:
        (tmp_path / "strangers" / stranger.name).mkdir(parents=True)
        shutil.copy(stranger / "frontal_01.webp", tmp_path / "strangers" / stranger.name)
    command = ("evaluate", "identification", "--images", faces / "images", "--probes", tmp_path / "probes.csv")
    lists = ("--gallery", tmp_path / "gallery.csv", "--distractors", tmp_path / "strangers")
    results = ("--json", tmp_path / "out.json", "--report", tmp_path / "out.html")
    result = run(*command, *lists, *results)
    assert result.exit_code == 0, result.output
    document = json.loads((tmp_path / "out.json").read_text())
    assert document["rank"]["1"] > 0.8  # the shipped recogniser knows frontal faces
    assert document["rank"] == document["image_rank"]  # one image a person
    assert set(document["distractor_rank_one"]) == {"10", "15"}
    assert (document["subjects"], document["distractors"]) == (12, 15)
    assert (document["probes"], document["mated_probes"]) == (20, 12)
    assert document["tpir_at_fpir"]["1e-1"]["tpir"] > 0.5
    assert document["intervals"]["rank"]["1"][0] <= document["rank"]["1"]
    refused = run(*command, *results)
    assert (refused.exit_code, "--gallery" in refused.stderr) == (2, True)


def test_calibrate_on_own_pairs_draws_reliability(faces: Path, tmp_path: Path) -> None:
    people = sorted(path.name for path in (faces / "images").iterdir())
    rows = [",".join(COLUMNS)]
    for number, name in enumerate(people):
        rows += [f"{number % 2},{name},frontal_0{i},{name},frontal_0{j},1" for i, j in ((1, 2), (1, 3), (2, 3))]
        others = [other for other in people if other > name]
        rows += [
            f"{number % 2},{name},frontal_0{i},{o},frontal_0{j},0"
            for o in others
            for i in (1, 2, 3, 4)
            for j in (1, 2, 3, 4)
        ]
    (tmp_path / "own.csv").write_text("\n".join(rows))
    checkpoint = shutil.copy(RECOGNISER, tmp_path / "own.safetensors")
    command = ("calibrate", checkpoint, "--images", faces / "images", "--pairs", tmp_path / "own.csv")
    result = run(*command, "--plot", tmp_path / "own.png")
    assert result.exit_code == 0, result.output
    table = checkpoints.read(checkpoint).metadata.calibration
    assert table is not None
    assert (table.genuine_pairs, table.impostor_pairs) == (60, 190 * 16)
    assert [row.fmr for row in table.rows] == [0.1, 0.01]
    assert table.data.startswith("own.csv: 3100 pairs")
    with Image.open(tmp_path / "own.png") as image:
        assert image.format == "PNG"
