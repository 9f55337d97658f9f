"""`facemargin evaluate detection`."""

from __future__ import annotations

from pathlib import Path

import click

from training.commands.console import FILE, FOLDER, use_cpu, user_errors
from training.commands.evaluate.options import deliver, result_options

_KEPT = ("ap50", "wider", "landmark_error", "faces", "false_positives_per_image", "segmentation")


@click.command(
    epilog="Example: facemargin evaluate detection --images photos --labels photos/wider-dev.json"
    " --peer yunet.onnx --json wider.json"
)
@click.option("--images", type=FOLDER, required=True, help="Folder that the labels' paths start from.")
@click.option("--labels", type=FILE, help="JSON, one row a face: image, box, perhaps landmarks.")
@click.option(
    "--wider-mat", "wider", type=FOLDER, help="WIDER FACE's wider_{face,easy,medium,hard}_val.mat, for --labels."
)
@click.option("--checkpoint", type=FILE, help="Detector; default: the shipped one.")
@click.option("--peer", "peers", type=FILE, multiple=True, help="YuNet as ONNX, measured alongside.")
@click.option("--last", type=click.IntRange(1), help="Only so many photos, the last by name.")
@click.option(
    "--max-side", type=click.IntRange(64), help="Pixels that our detector brings the longer side to; default: 640."
)
@result_options
def detection(
    images: Path,
    labels: Path | None,
    wider: Path | None,
    checkpoint: Path | None,
    peers: tuple[Path, ...],
    last: int | None,
    max_side: int | None,
    output: Path,
    plot: Path | None,
    report: Path | None,
    record: str | None,
    threads: int | None,
) -> None:
    """Average precision at IoU 0.5 by face size, landmark error, false positives, the face mask.

    With --wider-mat also WIDER FACE's own average precision on its easy, medium and hard faces.
    """
    from models.detector.find import MAX_SIDE
    from models.pretrained import DETECTOR
    from training.evaluation.detection import ERRORS, SMALLEST_FACES, evaluate_detection
    from training.evaluation.plots import detection_figure

    use_cpu(threads)
    with user_errors(*ERRORS):
        run = evaluate_detection(
            images,
            checkpoint=checkpoint or DETECTOR,
            labels=labels,
            wider=wider,
            peers=peers,
            last=last,
            max_side=max_side or MAX_SIDE,
        )
    deliver(
        run.document,
        _KEPT,
        title=f"Detection on {(labels or wider or images).name}",
        checkpoint=checkpoint or DETECTOR,
        draw=lambda: {"Precision and recall": detection_figure(run.curves, SMALLEST_FACES[0])},
        output=output,
        plot=plot,
        report=report,
        record_as=record,
    )
