"""`facemargin align`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from training.commands.console import FILE, FOLDER, use_cpu, user_errors


@click.command(epilog="Example: facemargin align people/ --output crops/    (people/ada/1.jpg -> crops/ada/1.webp)")
@click.argument("photos", type=FOLDER)
@click.option("--output", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder of the crops.")
@click.option(
    "--faces",
    type=click.Choice(["single", "central"]),
    default="single",
    show_default=True,
    help="Skip photos with several faces, or take the one in the middle.",
)
@click.option("--detector", type=FILE, help="Checkpoint that finds faces; default: the shipped one.")
@click.option("--list-skipped", is_flag=True, help="Name every skipped photo on stderr.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads; default: torch's choice.")
def align(
    photos: Path, output: Path, faces: str, detector: Path | None, list_skipped: bool, threads: int | None
) -> None:
    """Find and align the faces of PHOTOS/IDENTITY/NAME, into OUTPUT/IDENTITY/NAME.webp of 112x112 pixels.

    Prints as JSON how many were written, and how many skipped for which reason. Run again after an interruption, it
    goes on where it was.
    """
    from models import checkpoint as checkpoints
    from models.pretrained import DETECTOR
    from models.registry import UnknownArchitecture
    from training.data.align import Faces, align_folder
    from training.data.samples import DataError
    from training.evaluation.embeddings import EvaluationError
    from training.evaluation.embeddings import detector as open_detector

    use_cpu(threads)
    with user_errors(checkpoints.CheckpointError, UnknownArchitecture, DataError, EvaluationError):
        aligned = align_folder(photos, output, open_detector(detector or DETECTOR), Faces(faces))
    if list_skipped:
        for reason, names in sorted(aligned.skipped.items()):
            for name in names:
                click.echo(f"{reason}: {name}", err=True)
    click.echo(
        json.dumps({"crops": aligned.written, "identities": aligned.identities, "skipped": aligned.counts()}, indent=2)
    )
