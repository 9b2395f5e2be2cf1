"""The table, for a terminal and as JSON."""

import json
from collections.abc import Sequence
from pathlib import Path

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from kfac_core.demo.training import Run


def print_table(console: Console, runs: Sequence[Run]) -> None:
    """Print the best run of each optimiser, and what K-FAC saves.

    Args:
        console: Where to print.
        runs: The best run of each optimiser, those with K-FAC last.
    """
    title = "Best setting of each grid: training loss, test accuracy"
    table = Table(title=title, box=SIMPLE, padding=(0, 1, 0, 0))
    table.add_column("optimiser", no_wrap=True)
    table.add_column("setting", no_wrap=True)
    for column in ("loss", "accuracy", "steps", "seconds"):
        table.add_column(column, justify="right")
    for run in runs:
        table.add_row(
            run.optimizer,
            _setting(run),
            f"{run.last.loss:.5f}",
            f"{run.last.accuracy:.1%}",
            str(run.last.steps),
            f"{run.last.seconds:.2f}",
        )
    console.print(table)
    second_order = [run for run in runs if run.last.stats]
    for kfac in second_order:
        for run in runs:
            epoch = kfac.first_below(run.last.loss)
            if run not in second_order and epoch is not None:
                console.print(
                    f"{kfac.optimizer} is below the last loss of {run.optimizer} after"
                    f" {epoch.steps} of its {run.last.steps} steps,"
                    f" {epoch.seconds:.2f} s; {run.optimizer} took"
                    f" {run.last.seconds:.2f} s."
                )


def _setting(run: Run) -> str:
    """Return what was set, and what it became if it is adapted."""
    last = run.last.stats.get("damping", run.value)
    became = f" → {last:.2g}" if abs(last / run.value - 1) > 1e-3 else ""
    return f"{run.setting} {run.value:g}{became}"


def write_json(path: Path, runs: Sequence[Run]) -> None:
    """Write every run with all of its epochs, without the parameters.

    Args:
        path: Where to write.
        runs: All runs.
    """
    rows = [
        {
            "optimizer": run.optimizer,
            run.setting: run.value,
            "epochs": [
                {k: v for k, v in epoch._asdict().items() if k != "params"}
                for epoch in run.epochs
            ],
        }
        for run in runs
    ]
    path.write_text(json.dumps(rows, indent=1) + "\n")
