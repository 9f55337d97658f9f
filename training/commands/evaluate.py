"""`facemargin evaluate`: verification, detection."""

from __future__ import annotations

import json
from pathlib import Path

import click

from training.commands.console import FILE, FOLDER, OUTPUT, UserError, use_threads, user_errors, write_json
from training.commands.console import record as keep


@click.group()
def evaluate() -> None:
    """Measure a recogniser or a detector.

    Example: facemargin evaluate verification --images cfp-dev --pairs cfp-dev-FF.csv --json ff.json
    """


@evaluate.command(
    epilog="Example: facemargin evaluate verification --images lfw --pairs lfw/pairs.txt --pipeline"
    " --peer mobilefacenet.onnx --peer yunet.onnx --json lfw.json --plot lfw.png"
)
@click.option("--images", type=FOLDER, required=True, help="Folder of SUBJECT/IMAGE.(webp|jpg|png).")
@click.option("--pairs", type=FILE, required=True, help="LFW's pairs.txt, or a CSV of pairs.")
@click.option("--pipeline", is_flag=True, help="The images are whole photos: detect and align first.")
@click.option("--checkpoint", type=FILE, help="Recogniser; default: the shipped one.")
@click.option("--detector", type=FILE, help="Detector of --pipeline; default: the shipped one.")
@click.option("--peer", "peers", type=FILE, multiple=True, help="ONNX recogniser, or YuNet for its faces.")
@click.option(
    "--peer-normalisation",
    type=click.Choice(["imagenet", "symmetric"]),
    default="imagenet",
    help="Of the peer's pixels: ImageNet's statistics (MobileFaceNet-128), or (x - 127.5) / 127.5.",
    show_default=True,
)
@click.option("--json", "output", type=OUTPUT, required=True, help="Where the figures go.")
@click.option("--plot", type=OUTPUT, help="PNG with ROC and score histogram.")
@click.option("--record", help="Also keep the figures in the checkpoint's metadata, under this name.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads; default: torch's choice.")
def verification(
    images: Path,
    pairs: Path,
    pipeline: bool,
    checkpoint: Path | None,
    detector: Path | None,
    peers: tuple[Path, ...],
    peer_normalisation: str,
    output: Path,
    plot: Path | None,
    record: str | None,
    threads: int | None,
) -> None:
    """Accuracy by k folds, AUC, EER and TAR at fixed FMR on pairs of photos.

    A photo whose face is not found (failed_detections) makes all its pairs errors.
    """
    from models.pretrained import DETECTOR, RECOGNISER
    from training.evaluation.peers import Normalisation
    from training.evaluation.report import ERRORS, evaluate_verification

    if detector is not None and not pipeline:
        raise UserError("--detector has no part in aligned crops; add --pipeline")
    use_threads(threads)
    with user_errors(*ERRORS):
        report = evaluate_verification(
            images,
            pairs,
            checkpoint=checkpoint or RECOGNISER,
            detector=(detector or DETECTOR) if pipeline else None,
            peers=peers,
            peer_normalisation=Normalisation(peer_normalisation),
            plot=plot,
        )
    write_json(output, report)
    summary = {key: report[key] for key in ("accuracy_mean", "accuracy_std", "auc", "eer", "tar_at_fmr")}
    keep(checkpoint or RECOGNISER, record, summary)
    click.echo(json.dumps(summary))


@evaluate.command(
    epilog="Example: facemargin evaluate detection --images photos --labels photos/wider-dev.json"
    " --peer yunet.onnx --json wider.json"
)
@click.option("--images", type=FOLDER, required=True, help="Folder that the labels' paths start from.")
@click.option("--labels", type=FILE, required=True, help="JSON, one row a face: image, box, perhaps landmarks.")
@click.option("--checkpoint", type=FILE, help="Detector; default: the shipped one.")
@click.option("--peer", "peers", type=FILE, multiple=True, help="YuNet as ONNX, measured alongside.")
@click.option("--last", type=click.IntRange(1), help="Only so many photos, the last by name.")
@click.option("--record", help="Also keep the figures in the checkpoint's metadata, under this name.")
@click.option("--json", "output", type=OUTPUT, required=True, help="Where the figures go.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads; default: torch's choice.")
def detection(
    images: Path,
    labels: Path,
    checkpoint: Path | None,
    peers: tuple[Path, ...],
    last: int | None,
    record: str | None,
    output: Path,
    threads: int | None,
) -> None:
    """Average precision at IoU 0.5 by face size, landmark error, false positives per photo."""
    from models.pretrained import DETECTOR
    from training.evaluation.detection import ERRORS, evaluate_detection

    use_threads(threads)
    with user_errors(*ERRORS):
        report = evaluate_detection(images, labels, checkpoint=checkpoint or DETECTOR, peers=peers, last=last)
    write_json(output, report)
    summary = {key: report[key] for key in ("ap50", "landmark_error", "faces", "false_positives_per_image")}
    keep(checkpoint or DETECTOR, record, summary)
    click.echo(json.dumps(summary))
