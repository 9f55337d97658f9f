"""Distillation losses against plain numpy, and teachers that say where they fall short."""

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from training.data.sources import DataError, SourceConfig
from training.losses.distillation import embedding_regression, relation_regression
from training.tasks.recognition import Distillation
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
    targets = teacher(torch.zeros(2, 3, 112, 112), torch.tensor([1, 0]))
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
    distillation = Distillation(config, 8, StoredTeacher(path, ["a/1", "x/1"]), centres)
    targets = distillation.targets(torch.zeros(2, 3, 112, 112), torch.tensor([0, 1]), torch.tensor([1, -1]))
    torch.testing.assert_close(targets, torch.tensor([[0.5**0.5, 0.5**0.5], [1.0, 0.0]]))
    assert "centres" not in distillation.state_dict()


def test_the_peer_as_a_teacher_gives_the_embeddings_stored_beside_the_data(shared: Path) -> None:
    source = SourceConfig(shards=str(shared / "data/faces-train-identified.tar.gz")).open()
    images = [image for _, image in islice(source.images(), 4)]
    views = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2) / 127.5 - 1
    teacher = OnnxTeacher(shared / "peers/mobilefacenet_128.onnx", threads=1)
    both = torch.nn.functional.normalize(teacher(views, torch.arange(4)) + teacher(views.flip(3), torch.arange(4)))
    stored = StoredTeacher(shared / "data/teacher-mobilefacenet-128.npz", source.keys[:4])
    assert (both * stored(views, torch.arange(4))).sum(1).min() > 0.99
