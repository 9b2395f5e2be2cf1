"""What is recorded, read back: runs of a library side by side."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.libraries import NAMES

ROOT = Path(__file__).parents[2]
RECORDED = ROOT / "docs" / "benchmarks"
TITLES = {"numpy": "NumPy", "torch": "PyTorch", "jax": "JAX"}


class Row(NamedTuple):
    """One piece of work, on one thread and on two.

    Attributes:
        group: Its table.
        name: The work.
        part_of: The network that it is a layer of, or empty.
        count: How often it occurs in that.
        seconds: Our time, of each run.
        floors: For each floor, its time over ours, of each run.
        others: For each other way, its time over ours, of each run.
        memory: Peaks as multiples of the inputs, by name.
    """

    group: str
    name: str
    part_of: str
    count: int
    seconds: tuple[float, ...]
    floors: dict[str, tuple[float, ...]]
    others: dict[str, tuple[float, ...]]
    memory: dict[str, float]


def read(folder: Path = RECORDED) -> list[dict[str, Any]]:
    """Return what is recorded in a folder, by library in our order."""
    files = (folder / f"{name}.json" for name in NAMES)
    return [json.loads(file.read_text("utf-8")) for file in files if file.exists()]


def rows(recorded: dict[str, Any]) -> list[Row]:
    """Return the rows of a library: its runs side by side, then networks as a whole."""
    runs = [run["rows"] for run in recorded["runs"]]
    found = [_row(*same) for same in zip(*runs, strict=True)]
    wholes = [*_wholes(found)]
    last = max((i for i, row in enumerate(found) if row.part_of), default=-1)
    return [*found[: last + 1], *wholes, *found[last + 1 :]]


def _row(*runs: dict[str, Any]) -> Row:
    first = runs[0]

    def ratios(kind: str) -> dict[str, tuple[float, ...]]:
        return {
            name: tuple(run[kind][name] / run["ours"] for run in runs)
            for name in first[kind]
        }

    return Row(
        first["group"],
        first["name"],
        first["part_of"],
        first["count"],
        tuple(run["ours"] for run in runs),
        ratios("floors"),
        ratios("others"),
        first["memory"],
    )


def _wholes(layers: list[Row]) -> Iterator[Row]:
    """Return each network as one row: the sums over its layers, as often as each is.

    The other ways of a layer go by the kind of inverse, which is last in their names.

    Yields:
        The networks.
    """
    parts: dict[str, list[Row]] = {}
    for row in layers:
        if row.part_of:
            parts.setdefault(row.part_of, []).append(row)
    for network, rows in parts.items():
        ours = tuple(
            sum(row.count * row.seconds[run] for row in rows)
            for run in range(len(rows[0].seconds))
        )
        kinds = {name.rpartition(", ")[2]: None for name in rows[0].others}
        others = {
            f"as peers write it, {kind}": tuple(
                sum(
                    row.count * row.seconds[run] * ratios[run]
                    for row in rows
                    for name, ratios in row.others.items()
                    if name.endswith(f", {kind}")
                )
                / ours[run]
                for run in range(len(ours))
            )
            for kind in kinds
        }
        count = sum(row.count for row in rows)
        name = f"{network}, all {count} layers"
        yield Row("Networks", name, "", 1, ours, {}, others, {})
