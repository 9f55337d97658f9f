"""`facemargin fit-quality`."""

from __future__ import annotations

from pathlib import Path

import click

from training.commands.console import FILE, FOLDER, OUTPUT, use_cpu, user_errors


@click.command(
    name="fit-quality",
    epilog="Example: facemargin fit-quality runs/facemargin-s/checkpoint.safetensors --images faces-train-identified",
)
@click.argument("checkpoint", type=FILE)
@click.option(
    "--images", type=FOLDER, required=True, help="IDENTITY/NAME.webp, aligned crops; may be those trained on."
)
@click.option("--output", type=OUTPUT, help="Write here instead of into CHECKPOINT itself.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads; default: torch's choice.")
def fit_quality(checkpoint: Path, images: Path, output: Path | None, threads: int | None) -> None:
    """Store in CHECKPOINT how to read a face's quality from its embedding.

    Quality foretells how alike a face will be to others of its person. The weights stay, and with them the model
    id. `facemargin evaluate quality` says what it is worth, on other people.
    """
    from models import checkpoint as checkpoints
    from training.evaluation import contenders
    from training.evaluation.calibration import CalibrationError, identity_images
    from training.evaluation.embeddings import embed_images, read_aligned, unscaled_recogniser
    from training.evaluation.quality import fit_quality as fit

    use_cpu(threads)
    with user_errors(*contenders.ERRORS, CalibrationError):
        loaded = checkpoints.read(checkpoint)
        paths, identities = identity_images(images)
        raw = embed_images(paths, read_aligned, unscaled_recogniser(checkpoint)).vectors
        model = fit(raw, identities, f"{images.resolve().name}: {len(paths)} images")
    checkpoints.write(output or checkpoint, loaded.weights, loaded.metadata.model_copy(update={"quality": model}))
    click.echo(output or checkpoint)
