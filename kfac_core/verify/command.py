"""``kfac-core verify``: try everything, print, and tell by the exit status."""

import sys
from collections.abc import Sequence

from kfac_core.theorems import THEOREMS, by_name
from kfac_core.verify.running import verify
from kfac_core.verify.side_by_side import verify_side_by_side


def run(
    *,
    libraries: Sequence[str] | None,
    dtypes: Sequence[str],
    device: str | None,
    seed: int,
    theorems: Sequence[str] | None,
    thorough: bool,
    as_is: bool,
    as_json: bool,
) -> int:
    """Try the theorems and print a table, or JSON.

    Args:
        libraries: Names of array libraries; None: all that are installed.
        dtypes: Names of dtypes.
        device: A device; None: the default of each library.
        seed: Seed of all random numbers.
        theorems: Names of theorems; None: all.
        thorough: Whether to factorise large matrices, too.
        as_is: Whether to stay in this process, with its threads and its compiler.
        as_json: Whether to print JSON.

    Returns:
        The exit status: 1 where something fails.
    """
    shown = sys.stderr.isatty()

    def progress(line: str) -> None:
        if shown:
            print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)

    report = (verify if as_is else verify_side_by_side)(
        libraries,
        dtypes=dtypes,
        device=device,
        seed=seed,
        theorems=THEOREMS if theorems is None else [by_name(own) for own in theorems],
        thorough=thorough,
        progress=progress,
    )
    progress("")
    print(report.to_json() if as_json else report)
    return 0 if report.ok else 1
