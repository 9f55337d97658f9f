"""`facemargin ablate`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from training.commands.console import FILE, OUTPUT, UserError, user_errors, write_json


@click.command(epilog="Example: facemargin ablate training/configs/ablation-objectives.yaml --json objectives.json")
@click.argument("grid", type=FILE)
@click.option("--json", "output", type=OUTPUT, required=True, help="Where the figures go, anew after each cell.")
@click.option("--markdown", "table", type=OUTPUT, help="Where the table goes besides standard output.")
def ablate(grid: Path, output: Path, table: Path | None) -> None:
    """Train every cell of GRID and measure it on the same pairs; prints one table.

    Started again, it goes on where it stopped: finished cells are measured, not trained. A cell that diverges is
    a line of the table.
    """
    from training.ablation import load_grid, markdown, report, run_grid
    from training.config import ConfigError
    from training.data.sources import DataError
    from training.engine import Preempted, StateError
    from training.evaluation.report import ERRORS

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("ablate runs cells in one process; start it without torchrun")
    with user_errors(ConfigError, DataError, StateError, *ERRORS):
        checked = load_grid(grid)
        results = []
        try:
            for result in run_grid(checked):
                results.append(result)
                write_json(output, report(checked, results))
                click.echo(f"{len(results)}/{len(checked.cells)} {result.cell}: {result.failure or 'done'}", err=True)
        except Preempted as notice:
            click.echo(str(notice), err=True)
            return
    text = markdown(report(checked, results))
    click.echo(text)
    if table is not None:
        with user_errors(OSError):
            table.parent.mkdir(parents=True, exist_ok=True)
            table.write_text(text + "\n")
