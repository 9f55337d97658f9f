"""`facemargin evaluate quality`."""

from __future__ import annotations

from pathlib import Path

import click

from training.commands.console import FILE, FOLDER, OUTPUT, UserError, record, use_cpu, user_errors, write_json


@click.command(epilog="Example: facemargin evaluate quality --images cfp-dev --json quality.json")
@click.option("--images", type=FOLDER, required=True, help="IDENTITY/NAME.webp, aligned crops, none trained on.")
@click.option("--checkpoint", type=FILE, help="Recogniser; default: the shipped one.")
@click.option(
    "--fmr", type=click.FloatRange(0, 1, True, True), default=1e-3, show_default=True, help="False match rate."
)
@click.option("--json", "output", type=OUTPUT, required=True, help="Where the figures go.")
@click.option("--record", "record_as", help="Also keep the figures in the checkpoint's metadata, under this name.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads; default: torch's choice.")
def quality(
    images: Path, checkpoint: Path | None, fmr: float, output: Path, record_as: str | None, threads: int | None
) -> None:
    """Error versus reject: the FNMR at a false match rate when the worst faces by quality are turned away.

    Over all pairs of the images, next to two other scores: the length of the raw embedding, and chance.
    """
    import numpy as np

    from models import checkpoint as checkpoints
    from models.embedding import unit
    from models.pretrained import RECOGNISER
    from training.evaluation import contenders, machine
    from training.evaluation import quality as qualities
    from training.evaluation.calibration import CalibrationError, identity_images
    from training.evaluation.embeddings import embed_images, read_aligned, unscaled_recogniser

    use_cpu(threads)
    path = checkpoint or RECOGNISER
    with user_errors(*contenders.ERRORS, CalibrationError):
        loaded = checkpoints.read(path)
        model = loaded.metadata.quality
        if model is None:
            raise UserError(f"{path}: has no quality model; `facemargin fit-quality` makes one")
        paths, identities = identity_images(images)
        raw = embed_images(paths, read_aligned, unscaled_recogniser(path)).vectors
        scores = {
            "quality": model.score(raw),
            "embedding_length": np.linalg.norm(raw, axis=1),
            "chance": np.random.default_rng(0).random(len(raw), dtype=np.float32),
        }
        curves = {
            name: qualities.describe(qualities.error_versus_reject(unit(raw), identities, score, fmr))
            for name, score in scores.items()
        }
    document = {"model": loaded.model_id, "images": len(paths), "fmr": fmr, **curves, "machine": machine.describe()}
    write_json(output, document)
    record(path, record_as, {"fmr": fmr, "images": len(paths), "error_versus_reject": curves["quality"]})
    for point in curves["quality"]:
        click.echo(f"worst {point['rejected']:.0%} rejected: FNMR {point['fnmr']:.1%}")
