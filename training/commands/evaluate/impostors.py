"""`facemargin evaluate impostors`."""

from __future__ import annotations

import re
from pathlib import Path

import click

from training.commands.console import FILE, FOLDER, OUTPUT, UserError, record, use_cpu, user_errors, write_json

FMRS = (1e-2, 1e-3, 1e-4)


@click.command(
    epilog="Example, by a field of UTKFace's names: facemargin evaluate impostors --images faces-train-unlabelled"
    " --group-pattern '^[0-9]+_[0-9]_([0-9])_' --json groups.json"
)
@click.option("--images", type=FOLDER, required=True, help="Folder of aligned crops, each of another person.")
@click.option("--group-pattern", required=True, help="Regular expression on file names; what it captures is the group.")
@click.option("--most", type=click.IntRange(2), default=1000, show_default=True, help="Images of a group, at most.")
@click.option("--checkpoint", type=FILE, help="Recogniser, calibrated; default: the shipped one.")
@click.option("--json", "output", type=OUTPUT, required=True, help="Where the figures go.")
@click.option("--record", "record_as", help="Also keep the figures in the checkpoint's metadata, under this name.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads; default: torch's choice.")
def impostors(
    images: Path,
    group_pattern: str,
    most: int,
    checkpoint: Path | None,
    output: Path,
    record_as: str | None,
    threads: int | None,
) -> None:
    """False match rate among strangers of each group, at the thresholds of the checkpoint's calibration.

    Images whose name the pattern does not match take no part.
    """
    from models import checkpoint as checkpoints
    from models.pretrained import RECOGNISER
    from training.evaluation import contenders, machine
    from training.evaluation.impostors import choose, impostor_rates
    from training.evaluation.pairs import SUFFIXES

    use_cpu(threads)
    path = checkpoint or RECOGNISER
    try:
        pattern = re.compile(group_pattern)
    except re.error as error:
        raise UserError(f"--group-pattern: {error}") from error
    if pattern.groups != 1:
        raise UserError(f"--group-pattern: must capture one group, (...), not {pattern.groups}")
    found = [
        (image, match[1])
        for image in sorted(images.rglob("*"))
        if image.suffix.lower() in SUFFIXES and (match := pattern.search(image.name))
    ]
    with user_errors(*contenders.ERRORS):
        calibration = checkpoints.read(path).metadata.calibration
        if calibration is None:
            raise UserError(f"{path}: is not calibrated; `facemargin calibrate` does that")
        chosen = choose([group for _, group in found], most, seed=0)
        (contender,) = contenders.open_contenders(path, None)
        vectors = {
            group: contender.embedded([found[position][0] for position in members]).vectors
            for group, members in chosen.items()
        }
        rates = impostor_rates(vectors, calibration, FMRS, seed=0)
    document = {"model": contender.name, "pattern": group_pattern, **rates, "machine": machine.describe()}
    write_json(output, document)
    record(path, record_as, rates)
    for group, figures in rates["groups"].items():
        shown = ", ".join(f"FMR {figures['fmr'][f'{fmr:g}']['rate']:.1e} at {fmr:g}" for fmr in FMRS)
        click.echo(f"{group}: {figures['images']} images, {shown}")
