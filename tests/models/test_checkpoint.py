"""The checkpoint: what is written is read back, and every wrong file is its own clear error."""

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from safetensors.numpy import save_file

from models import checkpoint, probe
from models.checkpoint import CheckpointDamaged, Metadata, PickleRefused, WeightsMismatch
from models.network import instantiate, torch_forward, weights_of
from models.registry import UnknownArchitecture, build


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    network = build("mobilefacenet", embedding_size=64, activation="relu").eval()
    metadata = Metadata(
        task="recognition",
        name="test",
        architecture="mobilefacenet",
        arguments={"embedding_size": 64, "activation": "relu"},
        embedding_size=64,
    )
    path = tmp_path_factory.mktemp("checkpoint") / "test.safetensors"
    checkpoint.write(path, weights_of(network, np.float32), metadata)
    return path


def test_what_is_written_is_read_back(written: Path) -> None:
    loaded = checkpoint.read(written)
    assert loaded.model_id.startswith("test@")
    assert len(loaded.model_id) == len("test@") + 12
    network = instantiate(loaded)
    for name, array in weights_of(network, np.float32).items():
        np.testing.assert_array_equal(array, loaded.weights[name])


def test_the_model_id_follows_the_weights_and_not_the_metadata(written: Path, tmp_path: Path) -> None:
    loaded = checkpoint.read(written)
    renamed = checkpoint.write(
        tmp_path / "a.safetensors", loaded.weights, loaded.metadata.model_copy(update={"metrics": {"lfw": 0.9}})
    )
    assert renamed.model_id == loaded.model_id
    weights = dict(loaded.weights)
    weights["embedding.weight"] = weights["embedding.weight"] + np.float32(1e-3)
    assert checkpoint.write(tmp_path / "b.safetensors", weights, loaded.metadata).model_id != loaded.model_id


def test_a_header_as_long_as_a_pickles_first_bytes_is_no_pickle(tmp_path: Path) -> None:
    path = tmp_path / "long.safetensors"
    metadata = Metadata(task="recognition", name="long", architecture="mobilefacenet", arguments={}, embedding_size=64)
    for length in range(63_000, 67_000, 4):
        padded = metadata.model_copy(update={"training": {"padding": "x" * length}})
        checkpoint.write(path, {"weight": np.zeros(3, np.float32)}, padded)
        if path.read_bytes().startswith(b"\x80\x04"):
            break
    assert path.read_bytes().startswith(b"\x80\x04")
    assert checkpoint.read(path).weights.keys() == {"weight"}


@pytest.mark.parametrize("save", ["pickle", "torch", "old torch"])
def test_a_pickle_is_refused_unopened_with_the_command_that_converts_it(save: str, tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "exploded"),)

    path = tmp_path / "model.pth"
    if save == "pickle":
        path.write_bytes(pickle.dumps(Bomb()))
    else:
        torch.save({"bomb": Bomb()}, path, _use_new_zipfile_serialization=save == "torch")
    with pytest.raises(PickleRefused, match="convert it"):
        checkpoint.read(path)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("kept", [0, 4, 8, 100, -1000, -1])
def test_a_truncated_file_is_named(written: Path, tmp_path: Path, kept: int) -> None:
    path = tmp_path / "short.safetensors"
    path.write_bytes(written.read_bytes()[:kept])
    with pytest.raises(CheckpointDamaged, match=r"short\.safetensors"):
        checkpoint.read(path)


def test_a_single_changed_bit_of_the_weights_is_found(written: Path, tmp_path: Path) -> None:
    data = bytearray(written.read_bytes())
    data[-5000] ^= 1
    path = tmp_path / "altered.safetensors"
    path.write_bytes(data)
    with pytest.raises(CheckpointDamaged, match="digest"):
        checkpoint.read(path)


def test_a_missing_or_foreign_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointDamaged, match="nowhere"):
        checkpoint.read(tmp_path / "nowhere.safetensors")
    save_file({"w": np.zeros(3)}, tmp_path / "foreign.safetensors")
    with pytest.raises(CheckpointDamaged, match="without Facemargin metadata"):
        checkpoint.read(tmp_path / "foreign.safetensors")


def test_wrong_metadata_names_its_field(tmp_path: Path) -> None:
    document = json.dumps({"task": "recognition", "name": "x", "architecture": "mobilefacenet", "format": 9})
    save_file({"w": np.zeros(3)}, tmp_path / "future.safetensors", metadata={"facemargin": document})
    with pytest.raises(CheckpointDamaged, match="format"):
        checkpoint.read(tmp_path / "future.safetensors")


def test_weights_of_another_architecture_are_refused(written: Path) -> None:
    loaded = checkpoint.read(written)

    def with_metadata(**changes: object) -> checkpoint.Checkpoint:
        return checkpoint.Checkpoint(loaded.metadata.model_copy(update=changes), loaded.weights)

    with pytest.raises(WeightsMismatch, match="iresnet18"):
        instantiate(with_metadata(architecture="iresnet18", arguments={}))
    with pytest.raises(WeightsMismatch, match="embedding"):
        instantiate(with_metadata(arguments={"embedding_size": 32, "activation": "relu"}))
    with pytest.raises(UnknownArchitecture, match="mobilefacenet"):
        instantiate(with_metadata(architecture="nonesuch"))


def test_a_failed_write_leaves_the_old_file_and_no_rest(written: Path, tmp_path: Path) -> None:
    loaded = checkpoint.read(written)
    path = tmp_path / "kept.safetensors"
    path.write_bytes(b"old")
    with pytest.raises(SafetensorError):
        checkpoint.write(path, {"w": np.array([None])}, loaded.metadata)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_probe_tells_one_network_from_another(written: Path) -> None:
    network = instantiate(checkpoint.read(written))
    stored = probe.make(torch_forward(network), 112, 112)
    assert probe.check(torch_forward(network), stored) < 1e-6
    with torch.no_grad():
        network.get_parameter("embedding.weight").mul_(torch.linspace(0.5, 1.5, 64)[:, None])
    with pytest.raises(probe.ProbeMismatch):
        probe.check(torch_forward(network), stored)
    with torch.no_grad():
        network.get_parameter("embedding.weight").fill_(float("nan"))
    with pytest.raises(probe.ProbeMismatch):
        probe.check(torch_forward(network), stored)
