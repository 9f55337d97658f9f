"""`facemargin fit-means`."""

from __future__ import annotations

from pathlib import Path

import click

from training.commands.console import FILE, FOLDER, OUTPUT, use_cpu, user_errors


@click.command(
    name="fit-means",
    epilog="Example: facemargin fit-means runs/facemargin-s/checkpoint.safetensors --images faces-train-identified",
)
@click.argument("checkpoint", type=FILE)
@click.option(
    "--images", type=FOLDER, required=True, help="IDENTITY/NAME.webp, aligned crops; may be those trained on."
)
@click.option(
    "--share", type=click.FloatRange(0, 1, min_open=True), default=0.5, show_default=True, help="How far to go."
)
@click.option(
    "--penalty",
    type=click.FloatRange(0, min_open=True),
    default=10.0,
    show_default=True,
    help="Of the ridge regression.",
)
@click.option("--output", type=OUTPUT, help="Write here instead of into CHECKPOINT itself.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads; default: torch's choice.")
def fit_means(
    checkpoint: Path, images: Path, share: float, penalty: float, output: Path | None, threads: int | None
) -> None:
    """Draw CHECKPOINT's embeddings towards the mean of their identity, by a linear map folded into its last layer.

    The map is fitted in closed form on IMAGES. The weights change, and with them the model id; calibration, quality and
    recorded figures were of the old ones and are left out: measure anew.
    """
    from models import checkpoint as checkpoints
    from models import probe
    from models.checkpoint import Checkpoint
    from models.network import instantiate, torch_forward
    from training.evaluation import contenders
    from training.evaluation.calibration import CalibrationError, identity_images
    from training.evaluation.embeddings import embed_images, read_aligned, unscaled_recogniser
    from training.identity_means import IdentityMeansError, fit_map, fold

    use_cpu(threads)
    with user_errors(*contenders.ERRORS, CalibrationError, IdentityMeansError):
        loaded = checkpoints.read(checkpoint)
        paths, identities = identity_images(images)
        raw = embed_images(paths, read_aligned, unscaled_recogniser(checkpoint)).vectors
        weights = fold(loaded.weights, fit_map(raw, identities, share, penalty), raw)
    facts = {
        "data": images.resolve().name,
        "images": len(paths),
        "share": share,
        "penalty": penalty,
        "of": loaded.model_id,
    }
    spec = loaded.metadata.input
    metadata = loaded.metadata.model_copy(
        update={
            "training": loaded.metadata.training | {"identity_means": facts},
            "metrics": {},
            "calibration": None,
            "quality": None,
        }
    )
    forward = torch_forward(instantiate(Checkpoint(metadata, weights)))
    metadata = metadata.model_copy(update={"probe": probe.make(forward, spec.width, spec.height)})
    checkpoints.write(output or checkpoint, weights, metadata)
    click.echo(output or checkpoint)
