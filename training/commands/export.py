"""`facemargin export`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from training.commands.console import FILE, FOLDER, OUTPUT, use_cpu, user_errors, write_json


@click.command(
    epilog="Example: facemargin export runs/mine/checkpoint.safetensors --format onnx --int8 --images held-out"
    " --output mine-int8.onnx"
)
@click.argument("checkpoint", type=FILE)
@click.option("--format", "kind", type=click.Choice(["onnx", "openvino"]), required=True, help="Which engine's graph.")
@click.option("--output", type=OUTPUT, required=True, help="FILE.onnx, or FILE.xml (OpenVINO; FILE.bin beside it).")
@click.option("--images", type=FOLDER, help="Aligned crops, or photos for a detector, to compare and calibrate on.")
@click.option("--int8", is_flag=True, help="Quantise to eight bits, calibrated on --images (64 or more).")
@click.option("--pairs", type=FILE, help="Pairs of --images to verify with float32 and with int8.")
@click.option("--json", "report_to", type=OUTPUT, help="Also write the report here.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads of torch; default: its choice.")
def export(
    checkpoint: Path,
    kind: str,
    output: Path,
    images: Path | None,
    int8: bool,
    pairs: Path | None,
    report_to: Path | None,
    threads: int | None,
) -> None:
    """Write CHECKPOINT as an ONNX or OpenVINO graph, checked against torch; prints the comparison as JSON.

    Nothing is left behind when the graph does not compute what the checkpoint does.
    """
    from training import export as exporting
    from training.evaluation.report import ERRORS

    use_cpu(threads)
    with user_errors(exporting.ExportError, *ERRORS):
        report = exporting.export(
            checkpoint, output, exporting.Format[kind.upper()], images=images, int8=int8, pairs=pairs
        )
    if report_to is not None:
        write_json(report_to, report)
    click.echo(json.dumps(report, indent=2))
