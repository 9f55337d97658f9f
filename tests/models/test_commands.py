"""`facemargin models list` and `verify`."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from click.testing import CliRunner

from models import checkpoint
from models.cli import main
from models.pretrained import DETECTOR, RECOGNISER


def test_the_shipped_checkpoints_are_listed() -> None:
    result = CliRunner().invoke(main, ["models", "list"])
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert [line.split()[1] for line in lines] == ["recognition", "detection"]
    assert lines[0].startswith(checkpoint.read(RECOGNISER).model_id)


def test_the_shipped_checkpoints_are_what_they_say() -> None:
    result = CliRunner().invoke(main, ["models", "verify"])
    assert result.exit_code == 0
    for line, path in zip(result.output.splitlines(), (RECOGNISER, DETECTOR), strict=True):
        assert checkpoint.read(path).metadata.weights_sha256 in line
        assert "deviates from its probe by" in line


def test_what_is_not_what_it_says_is_named(tmp_path: Path) -> None:
    altered = tmp_path / "altered.safetensors"
    shutil.copy(RECOGNISER, altered)
    data = bytearray(altered.read_bytes())
    data[-1] ^= 1
    altered.write_bytes(data)
    loaded = checkpoint.read(RECOGNISER)
    other = tmp_path / "other.safetensors"
    weights = {name: np.asarray(array * 1.5).astype(array.dtype) for name, array in loaded.weights.items()}
    checkpoint.write(other, weights, loaded.metadata)  # a good file whose probe is another network's
    for path, words in ((altered, "digest"), (other, "deviates"), (tmp_path / "none.safetensors", "cannot be read")):
        result = CliRunner().invoke(main, ["models", "verify", str(path)])
        assert result.exit_code == 2
        assert words in result.output
        assert path.name in result.output
        assert len(result.output.strip().splitlines()) == 1
