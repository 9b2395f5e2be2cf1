"""Results as lines for a terminal."""

from typing import Any


def duration(seconds: float) -> str:
    """Return seconds with three digits and a unit.

    Example:
        >>> duration(0.00123)
        '1.23 ms'
    """
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= scale or unit == "µs":
            break
    return f"{ratio(seconds / scale)} {unit}"


def ratio(value: float) -> str:
    """Return a number with three digits, or all before the point."""
    return (
        f"{value:.0f}"
        if value >= 100
        else f"{value:.1f}"
        if value >= 10
        else f"{value:.2f}"
    )


def line(row: dict[str, Any]) -> str:
    """Return a result: our time, and how many times as long the others take."""
    text = f"  {row['name']:45}{duration(row['ours']):>9}"
    for kind, mark in (("floors", "floor: "), ("others", "")):
        for name, seconds in row[kind].items():
            text += f"  | {mark}{name} {ratio(seconds / row['ours'])}"
    for name, times in row["memory"].items():
        text += f"  | memory of {name}: {ratio(times)} x inputs"
    return text


def growth_line(found: dict[str, Any]) -> str:
    """Return how the time of some work grows."""
    return (
        f"  {found['name']}: as the power {found['exponent']:.2f} of"
        f" {found['variable']} (arithmetic: {found['expected']:g})"
    )
