"""One-to-many figures against loops over probes and gallery."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import savemat

from training.evaluation.embeddings import EvaluationError
from training.evaluation.identification import (
    NOWHERE,
    Vectors,
    cumulative_match,
    distractor_rank_one,
    open_set,
    open_set_rates,
    rank_rates,
    search,
)
from training.evaluation.identification_lists import read_list, read_lists, read_tinyface


def crowd(seed: int, people: int, photos: int, spread: float = 0.8, lost: float = 0.1) -> Vectors:
    """Unit embeddings around a direction for each person; on some photos no face was found."""
    generator = np.random.default_rng(seed)
    subjects = np.repeat(np.arange(people), photos)
    vectors = np.random.default_rng(0).normal(size=(people, 8))[subjects]
    vectors = vectors + spread * generator.normal(size=vectors.shape)
    found = generator.random(len(subjects)) >= lost
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return Vectors(np.where(found[:, None], vectors, 0).astype(np.float32), subjects, found)


def only(faces: Vectors, chosen: np.ndarray) -> Vectors:
    return Vectors(faces.vectors[chosen], faces.subjects[chosen], faces.found[chosen])


def loop(probes: Vectors, gallery: Vectors) -> list[tuple[bool, float, float, int, int]]:
    """mated, mate, other, rank, image rank of each probe, one similarity at a time."""
    answers = []
    for vector, subject, found in zip(probes.vectors, probes.subjects, probes.found, strict=True):
        best: dict[int, float] = {}
        own, foreign = [], []
        for entry, owner, present in zip(gallery.vectors, gallery.subjects, gallery.found, strict=True):
            score = float(np.float32(vector @ entry)) if found and present else -np.inf
            best[owner] = max(best.get(owner, -np.inf), score)
            (own if owner == subject else foreign).append(score)
        mate = best.pop(subject, -np.inf)
        rank = image_rank = NOWHERE
        if np.isfinite(mate):
            rank = 1 + sum(score >= mate for score in best.values())
            image_rank = 1 + sum(score >= mate for score in foreign)
        answers.append((bool(own), mate, max(best.values(), default=-np.inf), rank, image_rank))
    return answers


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([0.3, 1.5]), st.integers(2, 6))
def test_search_equals_a_loop(seed: int, spread: float, enrolled: int) -> None:
    gallery = crowd(seed, 8, 3, spread)
    gallery = only(gallery, gallery.subjects < enrolled)
    gallery = only(gallery, np.random.default_rng(seed).permutation(len(gallery)))
    probes = crowd(seed + 1, 8, 2, spread)
    found = search(probes, gallery)
    for number, (mated, mate, other, rank, image_rank) in enumerate(loop(probes, gallery)):
        assert found.mated[number] == mated
        assert found.mate[number] == pytest.approx(mate, abs=1e-6)
        assert found.other[number] == pytest.approx(other, abs=1e-6)
        assert (found.rank[number], found.image_rank[number]) == (rank, image_rank)


def test_blocks_do_not_change_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    probes, gallery = crowd(1, 30, 3), crowd(2, 30, 2)
    whole = search(probes, gallery)
    monkeypatch.setattr("training.evaluation.identification._CELLS", 200)
    parts = search(probes, gallery)
    np.testing.assert_array_equal(parts.rank, whole.rank)
    np.testing.assert_allclose(parts.other, whole.other, rtol=1e-5)


def test_a_model_that_embeds_everybody_alike_recognises_nobody() -> None:
    alike = Vectors(np.tile(np.float32([1, 0]), (6, 1)), np.arange(6), np.ones(6, bool))
    found = search(alike, alike)
    assert rank_rates(found.rank, found.mated, ranks=(1, 5, 6)) == {"1": 0, "5": 0, "6": 1}


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([0.4, 1.2]), st.sampled_from([0.0, 0.05, 0.1, 0.34, 1.0]))
def test_tpir_is_the_best_of_all_thresholds_within_the_fpir(seed: int, spread: float, fpir: float) -> None:
    gallery = crowd(seed, 10, 2, spread)
    found = search(crowd(seed + 1, 20, 2, spread), only(gallery, gallery.subjects < 10))
    curve = open_set(found)
    alarms = found.other[~found.mated]
    hits = np.where(found.rank == 1, found.mate, -np.inf)[found.mated]
    best = 0.0
    for score in [*found.other, *found.mate, np.inf]:
        threshold = np.nextafter(score, np.float32(np.inf))
        if (alarms >= threshold).mean() <= fpir:
            best = max(best, float((hits >= threshold).mean()))
    if fpir == 1:
        best = float(np.isfinite(hits).mean())
    tpir, threshold = curve.at(fpir)
    assert tpir == pytest.approx(best)
    assert (alarms[np.isfinite(alarms)] >= threshold).sum() <= fpir * len(alarms) + 1e-9
    assert (np.diff(curve.fpir) >= 0).all()
    assert (np.diff(curve.fnir) <= 0).all()


def test_open_set_rates_are_named_by_fpir() -> None:
    gallery = crowd(5, 10, 2, 0.3)
    rates = open_set_rates(search(crowd(6, 20, 2, 0.3), gallery))
    assert set(rates) == {"1e-3", "1e-2", "1e-1"}
    assert 0 <= rates["1e-3"]["tpir"] <= rates["1e-1"]["tpir"] <= 1
    assert rates["1e-1"]["fnir"] == pytest.approx(1 - rates["1e-1"]["tpir"])


def test_rank_one_among_distractors_equals_a_loop_over_trials() -> None:
    faces, strangers = crowd(7, 12, 3, 0.7), crowd(8, 300, 1, 0.7, lost=0.2)
    rates = distractor_rank_one(faces, strangers, seed=3)
    usable = strangers.vectors[strangers.found]
    usable = usable[np.random.default_rng(3).permutation(len(usable))]
    assert set(rates) == {"10", "100", str(len(usable))}
    for size, rate in rates.items():
        right = trials = 0
        for probe in range(len(faces)):
            for mate in range(len(faces)):
                if probe != mate and faces.subjects[probe] == faces.subjects[mate]:
                    trials += 1
                    if faces.found[probe] and faces.found[mate]:
                        hardest = max(float(faces.vectors[probe] @ other) for other in usable[: int(size)])
                        right += float(faces.vectors[probe] @ faces.vectors[mate]) > hardest
        assert rate == pytest.approx(right / trials)
    assert list(rates.values()) == sorted(rates.values(), reverse=True)
    with pytest.raises(ValueError, match="two images"):
        distractor_rank_one(only(faces, np.array([0, 3])), strangers)


def test_cmc_counts_mated_probes_alone() -> None:
    rank = np.array([1, 3, NOWHERE, 1, NOWHERE])
    mated = np.array([True, True, True, True, False])
    np.testing.assert_allclose(cumulative_match(rank, mated, 4), [0.5, 0.5, 0.75, 0.75])
    assert rank_rates(rank, mated, ranks=(1, 3)) == {"1": 0.5, "3": 0.75}


def test_lists_refuse_what_would_flatter(tmp_path: Path) -> None:
    for name in ("a/1.png", "a/2.png", "b/1.png", "s/9.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    gallery, probes = tmp_path / "gallery.csv", tmp_path / "probes.csv"
    gallery.write_text("image,subject\na/1.png,a\n")
    probes.write_text("image,subject\na/2.png,a\nb/1.png,b\n")
    lists = read_lists(tmp_path, gallery, probes, tmp_path / "s")
    numbers = lists.numbered()
    assert [part.tolist() for part in numbers] == [[0], [0, 1], [2]]
    probes.write_text("image,subject\na/1.png,a\n")
    with pytest.raises(EvaluationError, match=r"enrolled too, such as a/1\.png"):
        read_lists(tmp_path, gallery, probes)
    for text, words in (("image\n", "header"), ("image,subject\n", "no image"), ("image,subject\nx.png,a\n", "x.png")):
        gallery.write_text(text)
        with pytest.raises(EvaluationError, match=words):
            read_list(tmp_path, gallery)


def test_tinyface_is_read_as_it_is_published(tmp_path: Path) -> None:
    for name in ("Gallery_Match/7_1.jpg", "Gallery_Match/9_2.jpg", "Probe/7_3.jpg", "Gallery_Distractor/1.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()

    def cells(*names: str) -> np.ndarray:
        array = np.empty((len(names), 1), object)
        array[:, 0] = names
        return array

    gallery = {"gallery_set": cells("7_1.jpg", "9_2.jpg"), "gallery_ids": np.uint16([[7], [9]])}
    savemat(tmp_path / "gallery_match_img_ID_pairs.mat", gallery)
    probes = {"probe_set": cells("7_3.jpg"), "probe_ids": np.uint16([[7]])}
    savemat(tmp_path / "probe_img_ID_pairs.mat", probes)
    lists = read_tinyface(tmp_path)
    assert (lists.gallery.subjects, lists.probes.subjects, len(lists.distractors)) == (["7", "9"], ["7"], 1)
    savemat(tmp_path / "probe_img_ID_pairs.mat", {"probe_ids": probes["probe_ids"]})
    with pytest.raises(EvaluationError, match=r"probe_img_ID_pairs\.mat"):
        read_tinyface(tmp_path)
