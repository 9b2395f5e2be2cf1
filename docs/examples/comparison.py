"""What the examples have in common: runs side by side, their numbers and a picture.

Seconds are those of the processor, on one thread, and of training alone. So other
programs that run beside an example change little.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from threadpoolctl import threadpool_limits


class Curve(NamedTuple):
    """How one optimiser did.

    Attributes:
        label: Its name and settings.
        steps: Number of steps at each point.
        seconds: Processor time that these took.
        values: What is to be small, there.
    """

    label: str
    steps: list[int]
    seconds: list[float]
    values: list[float]


def arguments(description: str, name: str) -> argparse.Namespace:
    """Return what the command line says, ``quick`` and ``picture``; use one thread."""
    threadpool_limits(1)
    if "torch" in sys.modules:  # which has threads that are not known there
        sys.modules["torch"].set_num_threads(1)
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="a few steps, as a test")
    parser.add_argument("--picture", type=Path, default=Path(f"{name}.png"))
    return parser.parse_args()


def run(
    label: str,
    steps: int,
    step: Callable[[int], object],
    value: Callable[[], float],
    points: int = 40,
) -> Curve:
    """Train, and print how it goes.

    Args:
        label: What is printed.
        steps: Number of steps.
        step: Takes the step of a number.
        value: Measures the model; this takes no time of the run.
        points: How often it is measured.

    Returns:
        The curve.
    """
    curve, seconds = Curve(label, [0], [0.0], [value()]), 0.0
    for i in range(steps):
        start = time.process_time()
        step(i)
        seconds += time.process_time() - start
        if (i + 1) % max(1, steps // points) == 0 or i + 1 == steps:
            curve.steps.append(i + 1)
            curve.seconds.append(seconds)
            curve.values.append(value())
            print(
                f"\r{label}: step {i + 1} of {steps}, {seconds:.1f} s,"
                f" {curve.values[-1]:.4g}   ",
                end="",
                flush=True,
            )
    print()
    return curve


def reached(curve: Curve, value: float) -> tuple[int, float] | None:
    """Return the steps and seconds in which a value was reached, or None."""
    for steps, seconds, own in zip(*curve[1:], strict=True):
        if own <= value:
            return steps, seconds
    return None


def report(kfac: Curve, others: Sequence[Curve], what: str) -> None:
    """Print in how many steps and seconds each comes as far as the other.

    Args:
        kfac: K-FAC.
        others: AdamW with all rates of its grid.
        what: What is to be small.
    """
    best = min(others, key=lambda curve: curve.values[-1])
    for curve in (best, kfac):
        print(
            f"{curve.label}: {what} {curve.values[-1]:.3g}"
            f" after {curve.steps[-1]} steps, {curve.seconds[-1]:.1f} s"
        )
    for one, two in ((kfac, best), (best, kfac)):
        found = reached(one, two.values[-1])
        if found is None:
            print(f"{one.label} does not come as far as {two.label}")
            continue
        fewer, less = two.steps[-1] / found[0], two.seconds[-1] / found[1]
        print(
            f"{one.label} comes as far as {two.label} in {found[0]} steps"
            f" ({fewer:.2g} times fewer) and {found[1]:.1f} s ({less:.2g} times less)"
        )


def draw(path: Path, kfac: Curve, others: Sequence[Curve], what: str) -> None:
    """Save a picture of all curves, by steps and by seconds."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True)
    best = min(others, key=lambda curve: curve.values[-1])
    for axis, x, name in ((axes[0], 1, "steps"), (axes[1], 2, "seconds, one thread")):
        for curve in others:
            strong = curve is best
            axis.plot(
                curve[x],
                curve.values,
                color="tab:gray",
                alpha=1.0 if strong else 0.35,
                label=f"{curve.label}, the best" if strong else None,
            )
        axis.plot(kfac[x], kfac.values, color="tab:blue", lw=2, label=kfac.label)
        axis.set(xlabel=name, yscale="log")
        axis.grid(alpha=0.3, which="both")
    axes[0].set_ylabel(what)
    axes[1].legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    print(f"picture: {path}")
