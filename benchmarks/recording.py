"""Measures all cases of one library on so many threads, in this process.

``python -m benchmarks`` starts it once for each number of threads, with the environment
that the libraries read when they are imported.
"""

import argparse
import json
import os
from pathlib import Path
from typing import Any

from benchmarks.cases import Case, UnavailableError
from benchmarks.libraries import Library, load, settle
from benchmarks.measuring import QUICK, Clock, Pace, clock_of, least
from benchmarks.report import terminal
from benchmarks.work import cases
from benchmarks.work.growth import Growth, exponent, growths

THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NPROC",  # read by XLA
)


def environment(threads: int) -> dict[str, str]:
    """Return the environment of a process with so many threads."""
    found = {**os.environ, **dict.fromkeys(THREADS, str(threads))}
    if threads == 1:
        found["XLA_FLAGS"] = (
            "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
        )
    return found


def measure(
    library: Library, clock: Clock, *, quick: bool, only: str = ""
) -> dict[str, list[dict[str, Any]]]:
    """Measure all cases, and print each.

    Args:
        library: The library.
        clock: What tells the time.
        quick: Whether to take small sizes, and one turn.
        only: Part of the names of the tables to measure, or of their rows.

    Returns:
        ``rows``, ``growth`` and ``skipped``.
    """
    pace = QUICK if quick else Pace()
    rows, growth, skipped = [], [], []
    group = ""
    for case in cases(library, quick=quick):
        if only not in f"{case.group}, {case.part_of}, {case.name}".lower():
            continue
        if case.group != group:
            group = case.group
            print(f"\n{group}", flush=True)
        try:
            row = row_of(case, clock, pace)
        except UnavailableError as error:
            skipped.append({"group": case.group, "name": case.name, "why": str(error)})
            print(f"  {case.name}: skipped, {error}", flush=True)
            continue
        rows.append(row)
        print(terminal.line(row), flush=True)
    print("\nGrowth", flush=True)
    for work in growths(library, quick=quick):
        if only in f"growth, {work.name}".lower():
            growth.append(growth_of(work, clock, pace))
            print(terminal.growth_line(growth[-1]), flush=True)
    return {"rows": rows, "growth": growth, "skipped": skipped}


def row_of(case: Case, clock: Clock, pace: Pace) -> dict[str, Any]:
    """Return what is measured of a case."""
    rivals = case.rivals()
    calls = {("ours", ""): rivals.ours}
    calls |= {("floors", name): call for name, call in rivals.floors.items()}
    calls |= {("others", name): call for name, call in rivals.others.items()}
    seconds = least(calls, clock, pace)
    row: dict[str, Any] = {"group": case.group, "name": case.name}
    row |= {"ours": seconds.pop(("ours", "")), "floors": {}, "others": {}}
    for (kind, name), value in seconds.items():
        row[kind][name] = value
    row |= {"memory": rivals.memory, "count": case.count, "part_of": case.part_of}
    return row


def growth_of(work: Growth, clock: Clock, pace: Pace) -> dict[str, Any]:
    """Return the times of all sizes, and the exponent that fits them."""
    pace = pace._replace(seconds=0.3 * pace.seconds)
    seconds = []
    for size in work.sizes:
        calls = {"all": work.call(size)}
        if work.less:
            calls["less"] = work.less(size)
        best = least(calls, clock, pace)
        # In the noise a difference may be negative; a logarithm may not.
        seconds.append(max(best["all"] - best.get("less", 0.0), 1e-9))
    found: dict[str, Any] = {"name": work.name, "variable": work.variable}
    found |= {"sizes": work.sizes, "seconds": seconds, "expected": work.expected}
    return found | {"exponent": exponent(work.sizes, seconds)}


def main() -> None:
    """Measure, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("library")
    parser.add_argument("threads", type=int)
    parser.add_argument("file", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    settle(options.library)
    library, clock = load(options.library), clock_of(options.threads)
    found = measure(library, clock, quick=options.quick, only=options.only.lower())
    run = {"threads": options.threads, "packages": library.packages, **found}
    options.file.write_text(json.dumps(run), "utf-8")


if __name__ == "__main__":
    main()
