"""`facemargin calibrate`."""

from __future__ import annotations

from pathlib import Path

import click

from training.commands.console import FILE, FOLDER, OUTPUT, use_threads, user_errors


@click.command(epilog="Example: facemargin calibrate runs/facemargin-s/checkpoint.safetensors --images cfp-dev")
@click.argument("checkpoint", type=FILE)
@click.option("--images", type=FOLDER, required=True, help="IDENTITY/NAME.webp, aligned crops, none trained on.")
@click.option("--output", type=OUTPUT, help="Write here instead of into CHECKPOINT itself.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads; default: torch's choice.")
def calibrate(checkpoint: Path, images: Path, output: Path | None, threads: int | None) -> None:
    """Store in CHECKPOINT which cosine stands for which false match rate; prints the table as JSON.

    Every pair of the folder's images counts. The weights stay, and with them the model id.
    """
    from models import checkpoint as checkpoints
    from models.registry import UnknownArchitecture
    from training.evaluation import calibration, embeddings

    use_threads(threads)
    with user_errors(
        checkpoints.CheckpointError,
        UnknownArchitecture,
        embeddings.EvaluationError,
        calibration.CalibrationError,
    ):
        loaded = checkpoints.read(checkpoint)
        embed = embeddings.recogniser(checkpoint)
        paths, identities = calibration.identity_images(images)
        embedded = embeddings.embed_images(paths, embeddings.read_aligned, embed)
        data = f"{images.resolve().name}: {len(set(identities.tolist()))} identities, {len(paths)} images"
        table = calibration.calibrate(embedded.vectors, identities, data)
    checkpoints.write(output or checkpoint, loaded.weights, loaded.metadata.model_copy(update={"calibration": table}))
    click.echo(table.model_dump_json(indent=2))
