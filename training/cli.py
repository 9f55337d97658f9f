"""`python -m training`: the commands as torchrun starts them."""

from __future__ import annotations

import click

from training.commands.calibrate import calibrate
from training.commands.evaluate import evaluate
from training.commands.train import train


@click.group()
def main() -> None:
    """Train face recognisers and detectors, and measure them."""


for _command in (train, evaluate, calibrate):
    main.add_command(_command)
