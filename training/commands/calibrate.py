"""`facemargin calibrate`."""

from __future__ import annotations

from pathlib import Path

import click

from training.commands.console import FILE, FOLDER, OUTPUT, use_cpu, user_errors


@click.command(epilog="Example: facemargin calibrate runs/facemargin-s/checkpoint.safetensors --images cfp-dev")
@click.argument("checkpoint", type=FILE)
@click.option("--images", type=FOLDER, required=True, help="IDENTITY/NAME.webp, aligned crops, none trained on.")
@click.option("--pairs", type=FILE, help="Only these pairs of the images: a pairs.txt, or a CSV of pairs.")
@click.option("--pipeline", is_flag=True, help="The images are whole photos: detect and align first.")
@click.option("--detector", type=FILE, help="Detector of --pipeline; default: the shipped one.")
@click.option("--output", type=OUTPUT, help="Write here instead of into CHECKPOINT itself.")
@click.option("--plot", type=OUTPUT, help="PNG of the reliability of the probabilities, and of the thresholds.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads; default: torch's choice.")
def calibrate(
    checkpoint: Path,
    images: Path,
    pairs: Path | None,
    pipeline: bool,
    detector: Path | None,
    output: Path | None,
    plot: Path | None,
    threads: int | None,
) -> None:
    """Store in CHECKPOINT which cosine stands for which false match rate; prints the table as JSON.

    Every pair of the folder's images counts, or those of --pairs alone. The weights stay, and with them
    the model id.
    """
    from models import checkpoint as checkpoints
    from training.commands.evaluate.options import chosen_detector
    from training.evaluation import calibration, contenders, plots
    from training.evaluation.calibration_data import folder_pairs, own_pairs

    finder = chosen_detector(pipeline, detector)
    use_cpu(threads)
    with user_errors(*contenders.ERRORS, calibration.CalibrationError):
        loaded = checkpoints.read(checkpoint)
        (contender,) = contenders.open_contenders(checkpoint, finder)
        counted = folder_pairs(images, contender) if pairs is None else own_pairs(images, pairs, contender)
        table = calibration.calibrate_pairs(counted.histogram, counted.name)
    checkpoints.write(output or checkpoint, loaded.weights, loaded.metadata.model_copy(update={"calibration": table}))
    if plot is not None:
        with user_errors(OSError):
            plots.save(plots.calibration_figure(counted.histogram, table), plot)
    click.echo(table.model_dump_json(indent=2))
