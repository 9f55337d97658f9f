"""`facemargin evaluate identification`."""

from __future__ import annotations

from pathlib import Path

import click

from training.commands.console import FILE, FOLDER, UserError, use_cpu, user_errors
from training.commands.evaluate.options import chosen_detector, deliver, recogniser_options, result_options

_KEPT = ("rank", "image_rank", "tpir_at_fpir", "distractor_rank_one")


@click.command(
    epilog="Example: facemargin evaluate identification --images faces --gallery enrolled.csv --probes probes.csv"
    " --distractors strangers --json identification.json --report identification.html"
)
@click.option("--images", type=FOLDER, help="Folder that the lists' paths start from.")
@click.option("--gallery", type=FILE, help="CSV image,subject of who is enrolled.")
@click.option("--probes", type=FILE, help="CSV image,subject of who is searched; strangers make the set open.")
@click.option("--distractors", type=FOLDER, help="Folder of images of strangers, enrolled besides.")
@click.option("--tinyface", type=FOLDER, help="TinyFace's Testing_Set, for all four of these.")
@recogniser_options
@result_options
def identification(
    images: Path | None,
    gallery: Path | None,
    probes: Path | None,
    distractors: Path | None,
    tinyface: Path | None,
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
    """Rank-k, TPIR at fixed FPIR where some probes are strangers, and rank 1 among distractors."""
    from models.pretrained import RECOGNISER
    from training.evaluation.contenders import ERRORS
    from training.evaluation.identification_lists import read_lists, read_tinyface
    from training.evaluation.identification_report import evaluate_identification
    from training.evaluation.peers import Normalisation
    from training.evaluation.plots import identification_figure

    listed = images is not None and gallery is not None and probes is not None
    if listed == (tinyface is not None) or (tinyface and (images or gallery or probes or distractors)):
        raise UserError("a search is either --images, --gallery and --probes, or --tinyface")
    finder = chosen_detector(pipeline, detector)
    use_cpu(threads)
    with user_errors(*ERRORS):
        if tinyface is not None:
            lists = read_tinyface(tinyface)
        else:
            lists = read_lists(images or Path(), gallery or Path(), probes or Path(), distractors)
        run = evaluate_identification(
            lists,
            checkpoint=checkpoint or RECOGNISER,
            detector=finder,
            peers=peers,
            peer_normalisation=Normalisation(peer_normalisation),
        )
    deliver(
        run.document,
        _KEPT,
        title="Identification",
        checkpoint=checkpoint or RECOGNISER,
        draw=lambda: {"Searches": identification_figure(run.searches)},
        output=output,
        plot=plot,
        report=report,
        record_as=record,
    )
