"""`facemargin evaluate`; a file a sub-command."""

from __future__ import annotations

import click

from training.commands.evaluate.detection import detection
from training.commands.evaluate.identification import identification
from training.commands.evaluate.impostors import impostors
from training.commands.evaluate.quality import quality
from training.commands.evaluate.templates import templates
from training.commands.evaluate.verification import verification


@click.group()
def evaluate() -> None:
    """Measure a recogniser or a detector.

    Example: facemargin evaluate verification --images cfp-dev --pairs cfp-dev-FF.csv --json ff.json
    """


for _command in (verification, identification, templates, detection, quality, impostors):
    evaluate.add_command(_command)
