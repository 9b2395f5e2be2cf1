"""Clocks and turns."""

import math
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

Call = Callable[[], Any]
Clock = Callable[[], float]


class Pace(NamedTuple):
    """How long to measure.

    Attributes:
        turn: Least number of seconds of a turn of one call.
        turns: Number of turns of every call, except slow ones.
        seconds: Least number of seconds of all turns together.
    """

    turn: float = 0.02
    turns: int = 3
    seconds: float = 1.0


QUICK = Pace(0.0, 1, 0.0)
SLOW = 0.25
"""Number of seconds from which a call is slow, so that two turns are enough."""


def clock_of(threads: int) -> Clock:
    """Return processor time for one thread, wall time for several.

    Processor time does not count what other programs take; with several threads, it
    would count threads that wait.
    """
    return time.process_time if threads == 1 else time.perf_counter


def timed(call: Call, repeats: int, clock: Clock) -> float:
    """Return the mean time of a call."""
    began = clock()
    for _ in range(repeats):
        call()
    return (clock() - began) / repeats


def least(calls: Mapping[str, Call], clock: Clock, pace: Pace) -> dict[str, float]:
    """Return the least time of each call; they take turns.

    Args:
        calls: What to call, by name.
        clock: What tells the time.
        pace: How long to measure.

    Returns:
        Seconds, by name.
    """
    repeats = {name: _repeats(call, pace.turn) for name, call in calls.items()}
    best = dict.fromkeys(calls, math.inf)
    began, turn = time.perf_counter(), 0
    while turn < pace.turns or time.perf_counter() - began < pace.seconds:
        for name, call in calls.items():
            if repeats[name] > 1:
                call()  # what the one before it left behind is not its own
            if turn < 2 or best[name] < SLOW:
                best[name] = min(best[name], timed(call, repeats[name], clock))
        turn += 1
    return best


def _repeats(call: Call, seconds: float) -> int:
    """Return how many calls take so long, all compiled by then."""
    once = timed(call, 1, time.perf_counter)
    if seconds:
        once = timed(call, 1, time.perf_counter)  # no longer the first
    if once < SLOW:
        once = min(timed(call, 1, time.perf_counter) for _ in range(3))
    return max(1, min(10_000, math.ceil(seconds / max(once, 1e-7))))
