"""Distillation losses against plain numpy, and teachers that say where they fall short."""

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from models.registry import build
from training.config import ConfigError
from training.data.sources import DataError, SourceConfig
from training.evaluation.peers import PeerError
from training.losses.distillation import embedding_regression, relation_regression, spread, unexplained
from training.tasks.distillation import Distillation
from training.tasks.recognition_config import DistillationConfig
from training.teachers import OnnxTeacher, StoredTeacher


def _cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a / np.linalg.norm(a, axis=1, keepdims=True)) @ (b / np.linalg.norm(b, axis=1, keepdims=True)).T


def test_regression_is_one_minus_the_mean_cosine() -> None:
    generator = np.random.default_rng(0)
    student, teacher = generator.normal(size=(6, 8)), generator.normal(size=(6, 8))
    expected = 1 - np.diag(_cosines(student, teacher)).mean()
    assert embedding_regression(torch.from_numpy(student), torch.from_numpy(teacher)).item() == pytest.approx(
        expected, abs=1e-6
    )


def test_relation_compares_every_pair_but_an_image_with_itself() -> None:
    generator = np.random.default_rng(1)
    student, teacher = generator.normal(size=(6, 20)), generator.normal(size=(6, 8))
    difference = (_cosines(student, student) - _cosines(teacher, teacher)) ** 2
    expected = (difference.sum() - np.trace(difference)) / 30
    assert relation_regression(torch.from_numpy(student), torch.from_numpy(teacher)).item() == pytest.approx(
        expected, abs=1e-6
    )


def test_a_rotated_teacher_space_costs_nothing_in_relations_and_a_batch_of_one_has_none() -> None:
    generator = torch.Generator().manual_seed(0)
    teacher = torch.randn(5, 8, generator=generator)
    rotation, _ = torch.linalg.qr(torch.randn(8, 8, generator=generator))
    assert relation_regression(teacher @ rotation, teacher).item() == pytest.approx(0, abs=1e-9)
    assert relation_regression(teacher[:1], teacher[:1]).item() == 0


def test_stored_embeddings_are_found_by_key_and_a_missing_one_is_named(tmp_path: Path) -> None:
    path = tmp_path / "teacher.npz"
    np.savez(path, key=["b/2.webp", "a/1.webp"], embedding=np.array([[0, 2], [3, 0]], np.float16))
    teacher = StoredTeacher(path, ["a/1", "b/2"])
    targets, maps = teacher(torch.zeros(2, 3, 112, 112), torch.tensor([1, 0]))
    assert maps == []
    torch.testing.assert_close(targets, torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
    with pytest.raises(DataError, match="c/3"):
        StoredTeacher(path, ["c/3"])


def test_the_centre_of_an_identity_is_the_mean_of_its_stored_embeddings(tmp_path: Path) -> None:
    path = tmp_path / "teacher.npz"
    embeddings = np.array([[1, 0], [0, 1], [0, -1]], np.float16)
    np.savez(path, key=["a/1.webp", "a/2.webp", "c/1.webp"], embedding=embeddings)
    means = StoredTeacher(path, ["a/1", "a/2", "c/1"]).means(torch.tensor([0, 0, 2]), 3)
    torch.testing.assert_close(means, torch.tensor([[0.5**0.5, 0.5**0.5], [0.0, 0.0], [0.0, -1.0]]))


def test_a_known_identity_draws_the_target_to_its_centre_and_an_unknown_one_does_not(tmp_path: Path) -> None:
    path = tmp_path / "teacher.npz"
    np.savez(path, key=["a/1.webp", "x/1.webp"], embedding=np.array([[1, 0], [1, 0]], np.float16))
    config = DistillationConfig(embeddings=path, centres=path, centre_share=0.5)
    centres = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    distillation = Distillation(config, torch.nn.Identity(), 8, StoredTeacher(path, ["a/1", "x/1"]), centres)
    lesson = distillation.lesson(torch.zeros(2, 3, 112, 112), torch.tensor([0, 1]), torch.tensor([1, -1]))
    torch.testing.assert_close(lesson["targets"], torch.tensor([[0.5**0.5, 0.5**0.5], [1.0, 0.0]]))
    assert "centres" not in distillation.state_dict()


def test_the_peer_as_a_teacher_gives_the_embeddings_stored_beside_the_data(shared: Path) -> None:
    source = SourceConfig(shards=str(shared / "data/faces-train-identified.tar.gz")).open()
    images = [image for _, image in islice(source.images(), 4)]
    views = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2) / 127.5 - 1
    teacher = OnnxTeacher(shared / "peers/mobilefacenet_128.onnx", threads=1)
    index = torch.arange(4)
    both = torch.nn.functional.normalize(teacher(views, index)[0] + teacher(views.flip(3), index)[0])
    stored = StoredTeacher(shared / "data/teacher-mobilefacenet-128.npz", source.keys[:4])
    assert (both * stored(views, index)[0]).sum(1).min() > 0.99


def test_what_a_map_leaves_unexplained_is_the_residual_over_the_variance_and_one_for_the_means() -> None:
    generator = np.random.default_rng(3)
    teacher = generator.normal(size=(5, 3, 4, 4)) * np.array([1, 2, 3])[:, None, None] + 7
    student = teacher + generator.normal(size=teacher.shape)
    expected = np.square(student - teacher).mean() / teacher.var(axis=(0, 2, 3)).mean()
    ours, theirs = torch.from_numpy(student).float(), torch.from_numpy(teacher).float()
    assert unexplained(ours, theirs, spread(theirs)).item() == pytest.approx(expected, rel=1e-5)
    means = theirs.mean(dim=(0, 2, 3), keepdim=True).expand_as(theirs)
    assert unexplained(means, theirs, spread(theirs)).item() == pytest.approx(1, rel=1e-5)
    assert unexplained(theirs, theirs, spread(theirs)).item() == 0


HINTS = {"features.20": "/features/features.14/Add_output_0", "features.17": "/features/features.11/Add_output_0"}


@pytest.fixture(scope="module")
def peer(shared: Path) -> Path:
    return shared / "peers/mobilefacenet_128.onnx"


def _student(peer: Path, hints: dict[str, str]) -> tuple[torch.nn.Module, Distillation]:
    torch.manual_seed(0)
    network = build("mobilefacenet", embedding_size=64, activation="relu")
    teacher = OnnxTeacher(peer, 1, list(hints.values()))
    return network, Distillation(DistillationConfig(teacher=peer, hints=hints), network, 64, teacher)


def test_the_inside_of_the_teacher_is_learned_and_the_checkpoint_does_not_grow_by_it(peer: Path) -> None:
    network, distillation = _student(peer, HINTS)
    views = torch.rand(4, 3, 112, 112, generator=torch.Generator().manual_seed(1)) * 2 - 1
    lesson = distillation.lesson(views, torch.arange(4), torch.full((4,), -1))
    assert lesson["hint features.20"].shape == (4, 128, 7, 7)
    assert lesson["hint features.17"].shape == (4, 128, 14, 14)
    weights = set(network.state_dict())
    optimiser = torch.optim.Adam([*network.parameters(), *distillation.parameters()], lr=1e-3)
    left = []
    for _ in range(20):
        with distillation.hints.watched(network) as maps:
            embeddings = network(views)
        total, parts = distillation(embeddings, maps, lesson)
        expected = parts["regression"] + distillation.config.hint_weight * parts["hint"]
        assert total.item() == pytest.approx(expected.item(), rel=1e-5)
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        left.append(parts["hint"].item())
    assert left[-1] < 0.6 * left[0]
    assert set(network.state_dict()) == weights
    assert not any(module._forward_hooks for module in network.modules())


def test_hints_ask_nothing_of_a_trained_network_before_their_translations_have_learned(peer: Path) -> None:
    network, distillation = _student(peer, HINTS)
    views = torch.rand(2, 3, 112, 112, generator=torch.Generator().manual_seed(1)) * 2 - 1
    lesson = distillation.lesson(views, torch.arange(2), torch.full((2,), -1))
    with distillation.hints.watched(network) as maps:
        network(views)
    distillation.hints(maps, lesson).backward()

    assert all(parameter.grad is None or not parameter.grad.any() for parameter in network.parameters())
    assert all(translation.weight.grad.any() for translation in distillation.hints.translations)


@pytest.mark.parametrize(
    ("hints", "error", "text"),
    [
        ({"features.99": HINTS["features.20"]}, ConfigError, "no module 'features.99'"),
        ({"features.20": "/nowhere"}, PeerError, "no tensor named '/nowhere'"),
        ({"features.17": HINTS["features.20"]}, ConfigError, r"features\.17 gives \(128, 14, 14\)"),
        ({"embedding": HINTS["features.20"]}, ConfigError, "embedding gives"),
    ],
)
def test_a_hint_that_does_not_fit_is_refused_by_name(
    peer: Path, hints: dict[str, str], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        _student(peer, hints)


def test_stored_embeddings_have_no_inside_to_hint_at(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="stored embeddings have none"):
        DistillationConfig(embeddings=tmp_path / "teacher.npz", hints=HINTS)
