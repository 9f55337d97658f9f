"""The options that several measurements take, and where their results go."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from training.commands.console import FILE, OUTPUT, UserError, record, user_errors, write_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Command = TypeVar("Command", bound=Callable[..., Any])

_RECOGNISERS = (
    click.option("--pipeline", is_flag=True, help="The images are whole photos: detect and align first."),
    click.option("--checkpoint", type=FILE, help="Recogniser; default: the shipped one."),
    click.option("--detector", type=FILE, help="Detector of --pipeline; default: the shipped one."),
    click.option("--peer", "peers", type=FILE, multiple=True, help="ONNX recogniser, or YuNet for its faces."),
    click.option(
        "--peer-normalisation",
        type=click.Choice(["imagenet", "symmetric"]),
        default="imagenet",
        help="Of the peer's pixels: ImageNet's statistics (MobileFaceNet-128), or (x - 127.5) / 127.5.",
        show_default=True,
    ),
)
_RESULTS = (
    click.option("--json", "output", type=OUTPUT, required=True, help="Where the figures go."),
    click.option("--plot", type=OUTPUT, help="PNG of the curves."),
    click.option("--report", type=OUTPUT, help="One HTML page with figures, plots, model and machine."),
    click.option("--record", help="Also keep the figures in the checkpoint's metadata, under this name."),
    click.option("--threads", type=click.IntRange(1), help="CPU threads; default: torch's choice."),
)


def recogniser_options(command: Command) -> Command:
    """Which recognisers are measured, on crops or on photos."""
    return _add(command, _RECOGNISERS)


def result_options(command: Command) -> Command:
    """Where the results go, and on how many threads they are measured."""
    return _add(command, _RESULTS)


def _add(command: Command, options: Sequence[Callable[[Command], Command]]) -> Command:
    for option in reversed(options):
        command = option(command)
    return command


def chosen_detector(pipeline: bool, detector: Path | None) -> Path | None:
    """The detector of a run on whole photos; None on aligned crops. Raises UserError."""
    from models.pretrained import DETECTOR

    if detector is not None and not pipeline:
        raise UserError("--detector has no part in aligned crops; add --pipeline")
    return (detector or DETECTOR) if pipeline else None


def deliver(
    document: dict[str, Any],
    kept: Sequence[str],
    *,
    title: str,
    checkpoint: Path,
    draw: Callable[[], Mapping[str, Figure]],
    output: Path,
    plot: Path | None,
    report: Path | None,
    record_as: str | None,
) -> None:
    """Write the results, plots only where they are asked for, and print the `kept` figures.

    draw: plots by caption; --plot takes the first.
    """
    from training.evaluation.plots import save
    from training.evaluation.web_report import write_report

    write_json(output, document)
    with user_errors(OSError):
        if plot is not None:
            save(next(iter(draw().values())), plot)
        if report is not None:
            write_report(report, title, document, draw())
    summary = {key: document[key] for key in kept if key in document}
    record(checkpoint, record_as, summary)
    click.echo(json.dumps(summary))
