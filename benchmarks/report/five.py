"""The five numbers at the top of the page: what one asks first of each library."""

from collections.abc import Callable
from typing import Any, NamedTuple

from benchmarks.report.results import TITLES, Row, rows
from benchmarks.report.terminal import ratio
from benchmarks.work.peer_factors import GROUP as PEERS


class Question(NamedTuple):
    """One number: our time against that of others, on the first number of threads.

    Attributes:
        text: What is done, and what else would do it.
        group: The table that has it.
        start: How the name of the row begins.
        among: The ratios that the least is taken of.
    """

    text: str
    group: str
    start: str
    among: Callable[[Row], dict[str, tuple[float, ...]]]


def _others(row: Row) -> dict[str, tuple[float, ...]]:
    return row.others


def _floors(row: Row) -> dict[str, tuple[float, ...]]:
    return row.floors


FIVE = (
    Question(
        "statistics of a convolution, against patches and a product",
        "Convolutions",
        "3×3/1, 8×56×56×64",
        _others,
    ),
    Question(
        "both factors of a convolution, against the code of other K-FAC libraries",
        PEERS,
        "conv 3×3/1",
        _others,
    ),
    Question(
        "the inverse of a factor of 1024 rows, against the fastest way of the library",
        "Inverses",
        "update_inverses, 1024",
        _others,
    ),
    Question(
        "statistics, inverses and gradient of ResNet-50, against peers' formulas",
        "Networks",
        "ResNet-50",
        _others,
    ),
    Question(
        "statistics of a layer of 16 units, against the bare arithmetic",
        "Overhead",
        "update_covs",
        _floors,
    ),
)


def numbers(found: dict[str, Any]) -> list[float | None]:
    """Return the time of the fastest other way over ours, for each question.

    Args:
        found: What a library's file holds.

    Returns:
        The ratios; None where nothing was measured.
    """
    members = rows(found)
    return [_least(question, members) for question in FIVE]


def said(value: float | None) -> str:
    """Return a ratio as a reader says it.

    Example:
        >>> said(3.34), said(0.125), said(None)
        ('3.34 times faster', '8.00 times slower', '')
    """
    if value is None:
        return ""
    if value >= 1:
        return f"{ratio(value)} times faster"
    return f"{ratio(1 / value)} times slower"


def table(recorded: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Return the header and the lines of the table of the five numbers."""
    of_each = [numbers(found) for found in recorded]
    header = ["", *(TITLES[found["library"]] for found in recorded)]
    lines = [
        [question.text, *(said(own[place]) for own in of_each)]
        for place, question in enumerate(FIVE)
    ]
    return header, lines


def _least(question: Question, members: list[Row]) -> float | None:
    known = [
        ratios[0]
        for row in members
        if row.group == question.group
        and not row.part_of
        and row.name.startswith(question.start)
        for ratios in question.among(row).values()
    ]
    return min(known, default=None)
