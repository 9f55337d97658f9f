"""`facemargin evaluate templates`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from training.commands.console import FILE, FOLDER, use_cpu, user_errors
from training.commands.evaluate.options import chosen_detector, deliver, recogniser_options, result_options

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from training.evaluation.template_report import TemplateRun

_KEPT = ("verification", "identification", "weighting")


@click.command(
    epilog="Example: facemargin evaluate templates --images IJBC/loose_crop --media meta/ijbc_face_tid_mid.txt"
    " --pairs meta/ijbc_template_pair_label.txt --landmarks meta/ijbc_name_5pts_score.txt --weighting norm-score"
    " --gallery meta/ijbc_1N_gallery_G1.csv --gallery meta/ijbc_1N_gallery_G2.csv"
    " --probes meta/ijbc_1N_probe_mixed.csv --json ijbc.json --report ijbc.html"
)
@click.option("--images", type=FOLDER, required=True, help="Folder of the images that --media names.")
@click.option("--media", type=FILE, required=True, help="Lines IMAGE TEMPLATE MEDIUM (ijbc_face_tid_mid.txt).")
@click.option("--pairs", type=FILE, help="Lines TEMPLATE TEMPLATE LABEL (ijbc_template_pair_label.txt): 1:1.")
@click.option("--gallery", "galleries", type=FILE, multiple=True, help="CSV with TEMPLATE_ID, SUBJECT_ID: 1:N.")
@click.option("--probes", type=FILE, help="CSV of the probes, as --gallery.")
@click.option("--landmarks", type=FILE, help="Lines IMAGE, five x y, SCORE: aligns loose crops, gives scores.")
@click.option(
    "--weighting",
    type=click.Choice(["none", "norm", "score", "norm-score"]),
    default="none",
    show_default=True,
    help="What an image weighs in its template: its embedding's length, its detection score, both.",
)
@recogniser_options
@result_options
def templates(
    images: Path,
    media: Path,
    pairs: Path | None,
    galleries: tuple[Path, ...],
    probes: Path | None,
    landmarks: Path | None,
    weighting: str,
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
    """IJB-B and IJB-C: TAR at fixed FAR of template pairs, rank-k and TPIR at fixed FPIR of galleries."""
    from models.pretrained import RECOGNISER
    from training.evaluation.contenders import ERRORS
    from training.evaluation.peers import Normalisation
    from training.evaluation.template_report import TemplateFiles, evaluate_templates
    from training.evaluation.templates import Weighting

    finder = chosen_detector(pipeline, detector)
    use_cpu(threads)
    with user_errors(*ERRORS):
        run = evaluate_templates(
            images,
            TemplateFiles(media, pairs, galleries, probes, landmarks),
            checkpoint=checkpoint or RECOGNISER,
            detector=finder,
            weighting=Weighting(weighting),
            peers=peers,
            peer_normalisation=Normalisation(peer_normalisation),
        )
    deliver(
        run.document,
        _KEPT,
        title=f"Templates of {media.stem}",
        checkpoint=checkpoint or RECOGNISER,
        draw=lambda: _plots(run),
        output=output,
        plot=plot,
        report=report,
        record_as=record,
    )


def _plots(run: TemplateRun) -> dict[str, Figure]:
    from training.evaluation.plots import identification_figure, verification_figure

    plots = {}
    if run.cosines:
        plots["Errors and scores of pairs"] = verification_figure(run.cosines, run.same)
    if run.searches:
        plots["Searches in all galleries"] = identification_figure(run.searches)
    return plots
