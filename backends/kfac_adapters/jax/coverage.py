"""`Coverage`: which block covers which parameters, as a table."""

from typing import NamedTuple


class Row(NamedTuple):
    """One layer, or one parameter that is in none.

    Attributes:
        params: Paths of the parameters.
        block: Class of the block, or what is done instead.
        shapes: Shapes of the parameters, as the user has them.
        size: Number of entries.
        note: Why no layer has it.
    """

    params: tuple[str, ...]
    block: str
    shapes: tuple[tuple[int, ...], ...]
    size: int
    note: str = ""


class Coverage(NamedTuple):
    """Which block covers which parameters; ``print`` it.

    Attributes:
        rows: One for each layer, and for each parameter that is in none.
    """

    rows: tuple[Row, ...]

    @property
    def share(self) -> float:
        """The share of the entries of all parameters that are in a layer."""
        total = sum(row.size for row in self.rows)
        return sum(row.size for row in self.rows if not row.note) / max(total, 1)

    def __str__(self) -> str:
        """Return a table."""
        total = max(sum(row.size for row in self.rows), 1)
        cells = [("parameters", "block", "shapes", "share", "")]
        cells += [
            (
                ", ".join(row.params),
                row.block,
                ", ".join("x".join(map(str, shape)) or "()" for shape in row.shapes),
                f"{row.size / total:.1%}",
                row.note,
            )
            for row in self.rows
        ]
        widths = [max(len(line[i]) for line in cells) for i in range(4)]
        widths.append(0)
        lines = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in cells]
        return "\n".join([*lines, f"in layers: {self.share:.1%} of {total} parameters"])
