"""`python -m training`: the commands as torchrun starts them."""

from __future__ import annotations

import click

from training.commands.ablate import ablate
from training.commands.align import align
from training.commands.calibrate import calibrate
from training.commands.clean import clean
from training.commands.evaluate import evaluate
from training.commands.export import export
from training.commands.fit_int8 import fit_int8
from training.commands.fit_means import fit_means
from training.commands.fit_quality import fit_quality
from training.commands.fit_statistics import fit_statistics
from training.commands.inspect import inspect
from training.commands.pack import pack
from training.commands.train import train


@click.group()
def main() -> None:
    """Train face recognisers and detectors, and measure them."""


_COMMANDS = (
    *(align, inspect, pack, train, clean, ablate, evaluate),
    *(calibrate, fit_means, fit_quality, fit_statistics, fit_int8, export),
)
for _command in _COMMANDS:
    main.add_command(_command)
