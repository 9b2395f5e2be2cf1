"""Check what is claimed of long runs, and print it."""

import argparse
import sys

from benchmarks.endurance import __doc__ as about
from benchmarks.endurance.claims import claims
from benchmarks.endurance.runs import trained
from benchmarks.libraries import NAMES


def main() -> int:
    """Check all claims, print them, and return 1 if one does not hold."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--library", choices=NAMES, default="numpy")
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--wide", action="store_true", help="print one digest")
    given = parser.parse_args()
    if given.wide:
        print(trained(given.library, 0, steps=10, width=300))
        return 0
    wrong = 0
    for claim, holds, seen in claims(given.library, given.steps):
        wrong += not holds
        print(f"{'ok' if holds else 'WRONG':5} {claim:45} {seen}", flush=True)
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(main())
