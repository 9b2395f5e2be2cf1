"""The picture: bars of ratios on a logarithmic axis, a panel for each library."""

from pathlib import Path
from typing import Any

from benchmarks.report.results import TITLES, Row, rows
from benchmarks.work.peer_factors import GROUP as PEERS

FLOOR, OTHER = "#999999", "#0072b2"  # told apart without colour vision


def draw(path: Path, recorded: list[dict[str, Any]]) -> None:
    """Draw the first run of each library.

    Args:
        path: Where to write it; the ending says the format.
        recorded: What each library's file holds.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    shown = [_shown(found) for found in recorded]
    labels = _labels(shown)
    places = {label: place for place, label in enumerate(labels)}
    figure = Figure(figsize=(2.9 + 2.0 * len(shown), 1.2 + 0.2 * len(places)))
    figure.set_layout_engine("constrained")
    panels = figure.subplots(1, len(shown), sharex=True, sharey=True, squeeze=False)[0]
    for axes, found, members in zip(panels, recorded, shown, strict=True):
        for row in members:
            best = [
                min((ratios[0] for ratios in of.values()), default=None)
                for of in (row.floors, row.others)
            ]
            for value, colour, side in zip(best, (FLOOR, OTHER), (-1, 1), strict=True):
                if value is not None:
                    place = places[row.group, row.name] + 0.19 * side
                    axes.barh(place, value - 1, 0.36, left=1, color=colour)
                    _write(axes, value, place)
        axes.axvline(1, color="black", linewidth=0.8)
        axes.set_xscale("log")
        axes.set_title(TITLES[found["library"]], fontsize=9)
        axes.set_xlabel("their time / ours", fontsize=8)
        axes.grid(axis="x", alpha=0.3)
        axes.tick_params(labelsize=7)
    names = [name or group for group, name in labels]
    for (_, name), text in zip(
        labels, panels[0].set_yticks(range(len(labels)), names), strict=True
    ):
        text.label1.set_fontweight("normal" if name else "bold")
    panels[0].set_ylim(len(labels) - 0.4, -0.6)
    low, high = panels[0].get_xlim()
    panels[0].set_xlim(low / 4, high * 8)  # room for the numbers
    handles = [
        Patch(color=FLOOR, label="the closest floor"),
        Patch(color=OTHER, label="the fastest other way"),
    ]
    figure.legend(
        handles=handles, loc="outside upper center", ncols=2, frameon=False, fontsize=8
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


def _labels(shown: list[list[Row]]) -> list[tuple[str, str]]:
    """Return the group and name of each line, table by table, each with a heading."""
    groups: dict[str, dict[str, None]] = {}
    for members in shown:
        for row in members:
            groups.setdefault(row.group, {"": None})[row.name] = None
    return [(group, name) for group, names in groups.items() for name in names]


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
        fontsize=5.5,
    )
