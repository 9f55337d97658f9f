"""`facemargin models list` and `verify`: the checkpoints that are here, and whether they are whole."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import click

from models import checkpoint, probe
from models.cli import PluginGroup
from models.pretrained import DETECTOR, RECOGNISER
from models.registry import UnknownArchitecture

SHIPPED = (RECOGNISER, DETECTOR)


class _UserError(click.ClickException):
    exit_code = 2


@click.group(cls=PluginGroup, plugins="facemargin.models.commands")
def models() -> None:
    """Checkpoints: those that come with this installation, and those of your own."""


@click.command(name="list", epilog="Example: facemargin models list")
def list_models() -> None:
    """One line a shipped checkpoint: model id, task, architecture, size, calibrated or not, and where it lies."""
    for path in SHIPPED:
        loaded = _read(path)
        metadata = loaded.metadata
        calibrated = "calibrated" if metadata.calibration else "not calibrated"
        click.echo(
            f"{loaded.model_id}  {metadata.task}  {metadata.architecture}  {path.stat().st_size:,} bytes  "
            f"{calibrated}  {path}"
        )


@click.command(epilog="Example: facemargin models verify runs/mine/checkpoint.safetensors")
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
def verify(files: tuple[Path, ...]) -> None:
    """Check checkpoints, the shipped ones without FILES: format, SHA-256 of the weights, and their probe.

    The probe runs the network on a known input and needs torch; without torch the line says so.
    """
    for path in files or SHIPPED:
        loaded = _read(path)
        click.echo(f"{loaded.model_id}  sha256 {loaded.metadata.weights_sha256}  {_probed(path, loaded)}")


def _read(path: Path) -> checkpoint.Checkpoint:
    try:
        return checkpoint.read(path)
    except checkpoint.CheckpointError as error:
        raise _UserError(str(error)) from error


def _probed(path: Path, loaded: checkpoint.Checkpoint) -> str:
    if loaded.metadata.probe is None:
        return "weights intact; it has no probe"
    if importlib.util.find_spec("torch") is None:
        return "weights intact; not run, which needs torch (pip install 'facemargin[train]')"
    from models.network import instantiate, torch_forward

    try:
        deviation = probe.check(torch_forward(instantiate(loaded)), loaded.metadata.probe)
        if (looks := loaded.further_looks()) and looks.metadata.probe:
            deviation = max(deviation, probe.check(torch_forward(instantiate(looks)), looks.metadata.probe))
    except (probe.ProbeMismatch, UnknownArchitecture, checkpoint.CheckpointError) as error:
        raise _UserError(f"{path.name}: {error}") from error
    return f"weights intact; deviates from its probe by {deviation:.1e}, allowed {probe.TOLERANCE:g}"
