"""`facemargin fit-statistics`."""

from __future__ import annotations

from pathlib import Path

import click

from training.commands.console import FILE, OUTPUT, use_cpu, user_errors


@click.command(
    name="fit-statistics",
    epilog="Example: facemargin fit-statistics runs/facemargin-det/checkpoint.safetensors --photos photos.tar "
    "--source wider-train --source celeba",
)
@click.argument("checkpoint", type=FILE)
@click.option(
    "--photos",
    type=click.Path(exists=True, path_type=Path),
    required=True,
    help="Folder or tar with SOURCE.json and SOURCE/*.jpg; may be those trained on.",
)
@click.option("--source", "sources", multiple=True, required=True, help="Photos of PHOTOS to measure on; repeatable.")
@click.option("--most", type=click.IntRange(1), default=80, show_default=True, help="Photos of a source, by name.")
@click.option(
    "--share",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.75,
    show_default=True,
    help="How far to go from the statistics of training.",
)
@click.option("--looks", type=FILE, help="Look again at single faces by this detector, of the same architecture.")
@click.option("--output", type=OUTPUT, help="Write here instead of into CHECKPOINT itself.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads; default: torch's choice.")
def fit_statistics(
    checkpoint: Path,
    photos: Path,
    sources: tuple[str, ...],
    most: int,
    share: float,
    looks: Path | None,
    output: Path | None,
    threads: int | None,
) -> None:
    """Draw the batch-norm statistics of CHECKPOINT, a detector, to those of whole PHOTOS, for its search of photos.

    For further looks at single faces it stays as it is, or takes what `--looks` has for them. The weights change, and
    with them the model id; recorded figures were of the old ones and are left out.
    """
    from models import checkpoint as checkpoints
    from training.data.detection import DetectionDataError, read_photos
    from training.evaluation import contenders
    from training.photo_statistics import PhotoStatisticsError, with_photo_statistics

    use_cpu(threads)
    with user_errors(*contenders.ERRORS, DetectionDataError, PhotoStatisticsError):
        loaded = checkpoints.read(checkpoint)
        shown = [photo.image for source in sources for photo in read_photos(photos, source)[:most]]
        looking = checkpoints.read(looks) if looks else loaded
        fitted = with_photo_statistics(loaded, shown, share, looking)
    facts = {"data": list(sources), "photos": len(shown), "share": share, "of": loaded.model_id}
    training = loaded.metadata.training | {"photo_statistics": facts}
    if looks:
        training |= {"looks": looking.metadata.training | {"of": looking.model_id}}
    metadata = fitted.metadata.model_copy(update={"training": training, "metrics": {}})
    checkpoints.write(output or checkpoint, fitted.weights, metadata)
    click.echo(output or checkpoint)
