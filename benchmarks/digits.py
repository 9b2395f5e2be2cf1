"""Tell how many digits of a step of each family are right.

``python -m benchmarks.digits`` prints the table of ``docs/array_libraries.md``, by
mparray.
"""

from typing import Any

from kfac_core import tree
from kfac_core.reference import Digits, digits
from kfac_core.testing.families import FAMILIES

DTYPES = ("float64", "float32")


def digits_of(name: str, dtype: str) -> Digits:
    """Return the digits of a family's block in a dtype."""

    def cast(given: Any) -> Any:
        return tree.map(lambda x: x.astype(dtype) if x.dtype.kind == "f" else x, given)

    family = FAMILIES[name]
    return digits(
        family.block, cast(family.data), vector=cast(family.vector), damping=0.1
    )


def main() -> None:
    """Print the table."""
    print("| block |", " | ".join(f"{d}, `F` | {d}, step" for d in DTYPES), "|")
    print("|---" * (1 + 2 * len(DTYPES)) + "|")
    for name in FAMILIES:
        found = [number for dtype in DTYPES for number in digits_of(name, dtype)]
        cells = " | ".join(f"{number:.1f}" for number in found)
        print(f"| {name.replace('_', ' ')} | {cells} |")


if __name__ == "__main__":
    main()
