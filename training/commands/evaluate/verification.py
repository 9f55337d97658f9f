"""`facemargin evaluate verification`."""

from __future__ import annotations

from pathlib import Path

import click

from training.commands.console import FILE, FOLDER, UserError, use_cpu, user_errors
from training.commands.evaluate.options import chosen_detector, deliver, recogniser_options, result_options

_KEPT = ("accuracy_mean", "accuracy_std", "auc", "eer", "tar_at_fmr", "intervals")


@click.command(
    epilog="Example: facemargin evaluate verification --images lfw --pairs lfw/pairs.txt --pipeline"
    " --peer mobilefacenet.onnx --peer yunet.onnx --json lfw.json --report lfw.html"
)
@click.option("--images", type=FOLDER, help="Folder of SUBJECT/IMAGE.(webp|jpg|png).")
@click.option("--pairs", type=FILE, help="LFW's pairs.txt, or a CSV of pairs.")
@click.option("--bin", "packed", type=FILE, help="InsightFace .bin set (lfw.bin, agedb_30.bin), for both of these.")
@click.option("--groups", type=FILE, help="CSV image,group: also error rates by group, and their differentials.")
@recogniser_options
@result_options
def verification(
    images: Path | None,
    pairs: Path | None,
    packed: Path | None,
    groups: Path | None,
    pipeline: bool,
    checkpoint: Path | None,
    detector: Path | None,
    peers: tuple[Path, ...],
    peer_normalisation: str,
    output: Path,
    plot: Path | None,
    report: Path | None,
    record: str | None,
    threads: int | None,
) -> None:
    """Accuracy by k folds, AUC, EER and TAR at fixed FMR on pairs of photos, with 95 % intervals.

    A photo whose face is not found (failed_detections) makes all its pairs errors.
    """
    from models.pretrained import RECOGNISER
    from training.evaluation.pair_sets import listed_pairs, packed_pairs
    from training.evaluation.peers import Normalisation
    from training.evaluation.plots import verification_figure
    from training.evaluation.report import ERRORS, run_verification

    if (packed is None) != (images is not None and pairs is not None) or (packed and (images or pairs)):
        raise UserError("pairs are either --images with --pairs, or --bin")
    if packed is not None and pipeline:
        raise UserError("a .bin set holds aligned crops; leave --pipeline out")
    finder = chosen_detector(pipeline, detector)
    use_cpu(threads)
    with user_errors(*ERRORS):
        chosen = packed_pairs(packed) if packed is not None else listed_pairs(images or Path(), pairs or Path())
        run = run_verification(
            chosen,
            checkpoint=checkpoint or RECOGNISER,
            detector=finder,
            peers=peers,
            peer_normalisation=Normalisation(peer_normalisation),
            groups=groups,
        )
    deliver(
        run.document,
        _KEPT,
        title=f"Verification on {chosen.name}",
        checkpoint=checkpoint or RECOGNISER,
        draw=lambda: {"Errors and scores": verification_figure(run.cosines, run.same)},
        output=output,
        plot=plot,
        report=report,
        record_as=record,
    )
