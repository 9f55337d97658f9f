"""The commands that need training's dependencies: train, evaluate, calibrate."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

# Commands import what they need when they run, so that `--help` does not wait for torch.
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
_OUTPUT = click.Path(dir_okay=False, path_type=Path)


class UserError(click.ClickException):
    """What the caller can mend: one line on stderr, exit status 2."""

    exit_code = 2


@contextmanager
def _user_errors(*kinds: type[Exception]) -> Iterator[None]:
    try:
        yield
    except kinds as error:
        raise UserError(" ".join(str(error).split())) from error


@click.group()
def main() -> None:
    """Train face recognisers and detectors, and measure them."""


@main.command(epilog="Example: facemargin train training/configs/facemargin-s.yaml epochs=2 optimiser.name=adamw")
@click.argument("config", type=_FILE)
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
def train(config: Path, overrides: tuple[str, ...]) -> None:
    """Train as CONFIG says, resuming the run if its folder holds a state; prints the run's folder.

    On several GPUs or machines: torchrun --nproc-per-node=8 -m training train CONFIG
    """
    from training.config import ConfigError, load
    from training.data.detection import DetectionDataError
    from training.data.sources import DataError
    from training.engine import LossNotFinite, run
    from training.evaluation.report import ERRORS

    with _user_errors(ConfigError, DataError, DetectionDataError, LossNotFinite, *ERRORS):
        folder = run(load(config, overrides))
    if os.environ.get("RANK", "0") == "0":
        click.echo(folder)


@main.group()
def evaluate() -> None:
    """Measure a recogniser or a detector.

    Example: facemargin evaluate verification --images cfp-dev --pairs cfp-dev-FF.csv --json ff.json
    """


@evaluate.command(
    epilog="Example: facemargin evaluate verification --images lfw --pairs lfw/pairs.txt --pipeline"
    " --peer mobilefacenet.onnx --peer yunet.onnx --json lfw.json --plot lfw.png"
)
@click.option("--images", type=_FOLDER, required=True, help="Folder of SUBJECT/IMAGE.(webp|jpg|png).")
@click.option("--pairs", type=_FILE, required=True, help="LFW's pairs.txt, or a CSV of pairs.")
@click.option("--pipeline", is_flag=True, help="The images are whole photos: detect and align first.")
@click.option("--checkpoint", type=_FILE, help="Recogniser; default: the shipped one.")
@click.option("--detector", type=_FILE, help="Detector of --pipeline; default: the shipped one.")
@click.option("--peer", "peers", type=_FILE, multiple=True, help="ONNX recogniser, or YuNet for its faces.")
@click.option(
    "--peer-normalisation",
    type=click.Choice(["imagenet", "symmetric"]),
    default="imagenet",
    help="Of the peer's pixels: ImageNet's statistics (MobileFaceNet-128), or (x - 127.5) / 127.5.",
    show_default=True,
)
@click.option("--json", "output", type=_OUTPUT, required=True, help="Where the figures go.")
@click.option("--plot", type=_OUTPUT, help="PNG with ROC and score histogram.")
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
    _use_threads(threads)
    with _user_errors(*ERRORS):
        report = evaluate_verification(
            images,
            pairs,
            checkpoint=checkpoint or RECOGNISER,
            detector=(detector or DETECTOR) if pipeline else None,
            peers=peers,
            peer_normalisation=Normalisation(peer_normalisation),
            plot=plot,
        )
    _write_json(output, report)
    summary = {key: report[key] for key in ("accuracy_mean", "accuracy_std", "auc", "eer", "tar_at_fmr")}
    _record(checkpoint or RECOGNISER, record, summary)
    click.echo(json.dumps(summary))


@evaluate.command(
    epilog="Example: facemargin evaluate detection --images photos --labels photos/wider-dev.json"
    " --peer yunet.onnx --json wider.json"
)
@click.option("--images", type=_FOLDER, required=True, help="Folder that the labels' paths start from.")
@click.option("--labels", type=_FILE, required=True, help="JSON, one row a face: image, box, perhaps landmarks.")
@click.option("--checkpoint", type=_FILE, help="Detector; default: the shipped one.")
@click.option("--peer", "peers", type=_FILE, multiple=True, help="YuNet as ONNX, measured alongside.")
@click.option("--last", type=click.IntRange(1), help="Only so many photos, the last by name.")
@click.option("--record", help="Also keep the figures in the checkpoint's metadata, under this name.")
@click.option("--json", "output", type=_OUTPUT, required=True, help="Where the figures go.")
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

    _use_threads(threads)
    with _user_errors(*ERRORS):
        report = evaluate_detection(images, labels, checkpoint=checkpoint or DETECTOR, peers=peers, last=last)
    _write_json(output, report)
    summary = {key: report[key] for key in ("ap50", "landmark_error", "faces", "false_positives_per_image")}
    _record(checkpoint or DETECTOR, record, summary)
    click.echo(json.dumps(summary))


@main.command(epilog="Example: facemargin calibrate runs/facemargin-s/checkpoint.safetensors --images cfp-dev")
@click.argument("checkpoint", type=_FILE)
@click.option("--images", type=_FOLDER, required=True, help="IDENTITY/NAME.webp, aligned crops, none trained on.")
@click.option("--output", type=_OUTPUT, help="Write here instead of into CHECKPOINT itself.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads; default: torch's choice.")
def calibrate(checkpoint: Path, images: Path, output: Path | None, threads: int | None) -> None:
    """Store in CHECKPOINT which cosine stands for which false match rate; prints the table as JSON.

    Every pair of the folder's images counts. The weights stay, and with them the model id.
    """
    from models import checkpoint as checkpoints
    from models.registry import UnknownArchitecture
    from training.evaluation import calibration, embeddings

    _use_threads(threads)
    with _user_errors(
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


def _record(path: Path, name: str | None, figures: dict[str, Any]) -> None:
    """Keep figures in a checkpoint; its weights stay, and with them the model id."""
    if name is None:
        return
    from models import checkpoint as checkpoints

    loaded = checkpoints.read(path)
    metrics = {**loaded.metadata.metrics, name: figures}
    checkpoints.write(path, loaded.weights, loaded.metadata.model_copy(update={"metrics": metrics}))


def _use_threads(threads: int | None) -> None:
    if threads is not None:
        import torch

        torch.set_num_threads(threads)


def _write_json(path: Path, document: dict[str, Any]) -> None:
    with _user_errors(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document, indent=2) + "\n")
