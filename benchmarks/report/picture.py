"""A picture for each library: bars of ratios on a logarithmic axis."""

from pathlib import Path
from typing import Any

from benchmarks.report.results import TITLES, Row, rows
from benchmarks.work.peer_factors import GROUP as PEERS

FLOOR, OTHER = "#999999", "#0072b2"  # told apart without colour vision
BARS = 3
"""Lines of a table that are drawn: its first, its middle and its last."""


def name_of(found: dict[str, Any]) -> str:
    """Return the name of a library's picture."""
    return f"benchmarks_{found['library']}.png"


def draw(path: Path, found: dict[str, Any]) -> None:
    """Draw the first run of a library.

    Args:
        path: Where to write it; the ending says the format.
        found: What the library's file holds.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    lines = _lines(_shown(found))
    figure = Figure(figsize=(7.2, 1.1 + 0.27 * len(lines)))
    figure.set_layout_engine("constrained")
    axes = figure.subplots()
    for place, line in enumerate(lines):
        if not isinstance(line, Row):
            continue
        best = [
            min((ratios[0] for ratios in of.values()), default=None)
            for of in (line.floors, line.others)
        ]
        for value, colour, side in zip(best, (FLOOR, OTHER), (-1, 1), strict=True):
            if value is not None:
                at = place + 0.19 * side
                axes.barh(at, value - 1, 0.36, left=1, color=colour)
                _write(axes, value, at)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_xlabel(f"{TITLES[found['library']]}: their time / ours", fontsize=9)
    axes.grid(axis="x", alpha=0.3)
    axes.tick_params(labelsize=8)
    names = [line.name if isinstance(line, Row) else line for line in lines]
    ticks = axes.set_yticks(range(len(lines)), names)
    for line, tick in zip(lines, ticks, strict=True):
        tick.label1.set_fontweight("normal" if isinstance(line, Row) else "bold")
    axes.set_ylim(len(lines) - 0.4, -0.6)
    low, high = axes.get_xlim()
    room = (high / low) ** 0.13  # for the numbers, an eighth of the axis at both ends
    axes.set_xlim(low / room, high * room)
    handles = [
        Patch(color=FLOOR, label="the closest floor"),
        Patch(color=OTHER, label="the fastest other way"),
    ]
    figure.legend(
        handles=handles, loc="outside upper center", ncols=2, frameon=False, fontsize=9
    )
    figure.savefig(path, dpi=150, metadata={"Software": None})


def _shown(found: dict[str, Any]) -> list[Row]:
    """Return the rows to show: other libraries one by one, networks as a whole."""
    shown = []
    for row in rows(found):
        if row.group == PEERS:
            for name, ratios in row.others.items():
                named = row._replace(name=f"{name}: {row.name}", others={name: ratios})
                shown.append(named)
        elif not row.part_of and (row.floors or row.others):
            shown.append(row)
    return shown


def _lines(shown: list[Row]) -> list[Row | str]:
    """Return some rows of each table, below its name; all that name other libraries."""
    groups: dict[str, list[Row]] = {}
    for row in shown:
        groups.setdefault(row.group, []).append(row)
    lines: list[Row | str] = []
    for group, members in groups.items():
        places = range(len(members))
        if group != PEERS and len(members) > BARS:
            last = len(members) - 1
            places = sorted({round(i * last / (BARS - 1)) for i in range(BARS)})  # type: ignore[assignment]
        lines += [group, *(members[place] for place in places)]
    return lines


def _write(axes: Any, value: float, place: float) -> None:
    """Write a number beside the end of its bar."""
    right = value >= 1
    axes.annotate(
        f"{value:.2g}" if value < 99.5 else f"{value:.0f}",
        (value, place),
        xytext=(2 if right else -2, 0),
        textcoords="offset points",
        va="center",
        ha="left" if right else "right",
        fontsize=7,
    )
