"""Error rates by group, recomputed pair by pair."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from training.evaluation.bootstrap import Resampling
from training.evaluation.embeddings import EvaluationError
from training.evaluation.groups import group_rates, read_groups

NAMES = ["ash", "birch", "cedar"]


def people_of_groups(seed: int = 0, pairs: int = 3000) -> dict[str, np.ndarray]:
    """Ninety people in three groups (and one unlabelled person in ten); birches are harder to tell apart."""
    generator = np.random.default_rng(seed)
    group = np.where(np.arange(90) % 10 == 9, -1, np.arange(90) % 3)
    same = np.arange(pairs) % 2 == 0
    first = generator.integers(0, 90, pairs)
    second = np.where(same, first, (first + generator.integers(1, 90, pairs)) % 90)
    harder = np.where((group[first] == 1) & (group[second] == 1) & ~same, 0.25, 0)
    scores = generator.normal(np.where(same, 0.7, 0.1) + harder, 0.15)
    scores[::50] = np.nan
    return {"scores": scores, "same": same, "first": first, "second": second, "group": group}


def rates(data: dict[str, np.ndarray]) -> dict[str, dict]:
    resampling = Resampling.of(data["first"], data["second"], seed=0, samples=300)
    sides = (data["group"][data["first"]], data["group"][data["second"]])
    return group_rates(data["scores"], data["same"], *sides, NAMES, resampling)


def test_rates_equal_a_loop_over_pairs() -> None:
    data = people_of_groups()
    report = rates(data)
    point = report["at_fmr"]["1e-2"]
    impostors = sorted((s for s, m in zip(data["scores"], data["same"], strict=True) if not m), key=lambda s: -s)
    impostors = [score for score in impostors if not np.isnan(score)]
    allowed = int(0.01 * (~data["same"]).sum())
    assert sum(score >= point["threshold"] for score in impostors) <= allowed
    counts: dict[str, list[int]] = {f"{name} {kind}": [0, 0] for name in [*NAMES, "across"] for kind in (0, 1)}
    unlabelled = 0
    for score, same, a, b in zip(data["scores"], data["same"], data["first"], data["second"], strict=True):
        one, other = data["group"][a], data["group"][b]
        if one < 0 or other < 0:
            unlabelled += 1
            continue
        name = NAMES[one] if one == other else "across"
        match = bool(score >= point["threshold"])  # NaN matches nothing
        counts[f"{name} {int(same)}"][0] += 1
        counts[f"{name} {int(same)}"][1] += match != bool(same)
    assert report["unlabelled_pairs"] == unlabelled
    for name in NAMES:
        group = point["groups"][name]
        assert [group["impostor_pairs"], round(group["fmr"] * group["impostor_pairs"])] == counts[f"{name} 0"]
        assert [group["genuine_pairs"], round(group["fnmr"] * group["genuine_pairs"])] == counts[f"{name} 1"]
    assert point["between"]["impostor_pairs"] == counts["across 0"][0]
    assert point["between"]["fmr"] == pytest.approx(counts["across 0"][1] / counts["across 0"][0])


def test_the_worst_group_is_named_with_its_ratio_and_interval() -> None:
    point = rates(people_of_groups(pairs=30_000))["at_fmr"]["1e-2"]
    fmr = {name: group["fmr"] for name, group in point["groups"].items()}
    assert point["fmr"]["worst"] == "birch"
    assert point["fmr"]["ratio"] == pytest.approx(max(fmr.values()) / min(fmr.values()))
    low, high = point["fmr"]["ratio_interval"]
    assert low > 1
    assert high is None or high > point["fmr"]["ratio"]
    for group in point["groups"].values():
        assert group["fmr_interval"][0] <= group["fmr"] <= group["fmr_interval"][1]


def test_no_error_is_no_certainty() -> None:
    data = people_of_groups()
    data["scores"] = np.where(data["same"], 0.9, 0.1)
    point = rates(data)["at_fmr"]["1e-3"]
    assert point["fmr"] == {"worst": "ash", "best": "ash", "ratio": 1.0, "ratio_interval": [1.0, 1.0]}
    for group in point["groups"].values():
        assert group["fmr"] == group["fnmr"] == 0
        assert group["fnmr_interval"] == [0, pytest.approx(1 - 0.025 ** (1 / 27))]  # 27 people in each


def test_a_group_without_pairs_has_no_rate() -> None:
    data = people_of_groups()
    data["group"] = np.where(data["group"] == 2, 1, data["group"])
    groups = rates(data)["at_fmr"]["1e-2"]["groups"]
    assert groups["cedar"]["fmr"] is groups["cedar"]["fmr_interval"] is None
    assert groups["cedar"]["impostor_pairs"] == 0


def test_labels_are_read_by_subject_and_image(tmp_path: Path) -> None:
    images = [tmp_path / "Ada" / "1.webp", tmp_path / "Bo" / "1.png", tmp_path / "Cy" / "v1.2.png"]
    file = tmp_path / "groups.csv"
    file.write_text("image,group\nAda/1.jpg,old\nCy/v1.2,young\nelse/1,old\n")
    groups = read_groups(file, images)
    assert (groups.names, groups.codes.tolist()) == (["old", "young"], [0, -1, 1])
    for text, words in (
        ("image;group\n", "header"),
        ("image,group\nAda/1,old,x\n", ":2"),
        ("image,group\nAda/1,old\nAda/1.jpg,young\n", ":3"),
        ("image,group\nAda/1,old\nX/1,young\n", "Ada/1"),
    ):
        file.write_text(text)
        with pytest.raises(EvaluationError, match=words):
            read_groups(file, images)
