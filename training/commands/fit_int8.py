"""`facemargin fit-int8`."""

from __future__ import annotations

from pathlib import Path

import click

from training.commands.console import FILE, FOLDER, OUTPUT, use_cpu, user_errors


@click.command(
    name="fit-int8",
    epilog="Example: facemargin fit-int8 runs/facemargin-s/checkpoint.safetensors --images faces-train-identified"
    " --layers 'features.*.layers.*'",
)
@click.argument("checkpoint", type=FILE)
@click.option("--images", type=FOLDER, required=True, help="Aligned crops, or photos for a detector.")
@click.option("--layers", multiple=True, required=True, help="Pattern of convolutions' paths; repeatable.")
@click.option("--most", type=click.IntRange(1), default=256, show_default=True, help="Images, evenly spread.")
@click.option("--output", type=OUTPUT, help="Write here instead of into CHECKPOINT itself.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads; default: torch's choice.")
def fit_int8(
    checkpoint: Path, images: Path, layers: tuple[str, ...], most: int, output: Path | None, threads: int | None
) -> None:
    """Let the service run convolutions of CHECKPOINT in int8, in the ranges that IMAGES show of what they are fed.

    The weights stay, and with them the model id. An engine that then deviates too much from the probe, as one without
    instructions for it does, runs the network as if there were no ranges.
    """
    from models import checkpoint as checkpoints
    from training.evaluation import contenders
    from training.int8_ranges import Int8RangesError, with_int8_ranges
    from training.network_inputs import images_in, network_inputs, spread

    use_cpu(threads)
    with user_errors(*contenders.ERRORS, Int8RangesError):
        loaded = checkpoints.read(checkpoint)
        shown = spread(images_in(images), most)
        fitted = with_int8_ranges(loaded, network_inputs(loaded, shown), layers)
    facts = {"data": images.resolve().name, "images": len(shown), "layers": list(layers)}
    metadata = fitted.metadata.model_copy(update={"training": loaded.metadata.training | {"int8": facts}})
    checkpoints.write(output or checkpoint, fitted.weights, metadata)
    click.echo(output or checkpoint)
