"""`facemargin inspect`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from training.commands.console import FILE, OUTPUT, use_cpu, user_errors, write_json


@click.command(
    epilog="Example: facemargin inspect faces_emore/train.rec --json emore.json --plot emore.png --max-broken 100"
)
@click.argument("sources", nargs=-1, required=True, metavar="DATA...")
@click.option("--json", "output", type=OUTPUT, required=True, help="Where the report goes.")
@click.option("--plot", type=OUTPUT, help="PNG: images per identity.")
@click.option("--classes", type=OUTPUT, help="JSON: the class of each identity, and the listing of shards.")
@click.option("--checkpoint", type=FILE, help="Recogniser that judges likeness; default: the shipped one.")
@click.option("--hash-only", is_flag=True, help="Near duplicates by perceptual hash: fast, and no label noise.")
@click.option("--near", type=click.FloatRange(-1, 1), default=0.95, show_default=True, help="Cosine of duplicates.")
@click.option("--noise", type=click.FloatRange(-1, 1), default=0.2, show_default=True, help="Cosine of misfits, below.")
@click.option("--max-broken", type=click.IntRange(0), help="An error beyond so many, a source; default: name them all.")
@click.option("--apart", is_flag=True, help="No two sources share people: tell their identities apart by 0-, 1- ...")
@click.option("--size", type=click.IntRange(8, 1024), default=112, show_default=True, help="Side of the crops.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads; default: torch's choice.")
def inspect(
    sources: tuple[str, ...],
    output: Path,
    plot: Path | None,
    classes: Path | None,
    checkpoint: Path | None,
    hash_only: bool,
    near: float,
    noise: float,
    max_broken: int | None,
    apart: bool,
    size: int,
    threads: int | None,
) -> None:
    """Say what DATA holds: identities, images of each, broken files, duplicates, likely label noise.

    DATA is what `facemargin pack` takes. Every image is decoded, and compared with every other: N images take
    N x N comparisons, some seconds for 50,000, an hour for a million.
    """
    from models.checkpoint import CheckpointError
    from models.pretrained import RECOGNISER
    from training.data.collection import FaceData
    from training.data.inspection import class_map, plot_images_per_identity
    from training.data.inspection import inspect as examine
    from training.data.sources import DataError, parse_sources
    from training.evaluation.embeddings import EvaluationError, recogniser

    use_cpu(threads)
    bound = sys.maxsize if max_broken is None else max_broken
    with user_errors(DataError, EvaluationError, CheckpointError, OSError):
        embed = None if hash_only else recogniser(checkpoint or RECOGNISER)
        data = FaceData(parse_sources(sources, bound, apart=apart), size)
        report = examine(data, embed, near=near, noise=noise)
        if plot is not None:
            plot_images_per_identity(plot, report["images_per_identity"]["histogram"])
    if classes is not None:
        write_json(classes, class_map(data))
    write_json(output, report)
    click.echo(json.dumps(_summary(report)))


def _summary(report: dict[str, object]) -> dict[str, object]:
    """The counts, without the lists."""
    short: dict[str, object] = {}
    for key, value in report.items():
        if isinstance(value, dict):
            value = {name: x for name, x in value.items() if name not in ("listed", "keys", "histogram")}
        short[key] = len(value) if isinstance(value, list) else value
    return short
