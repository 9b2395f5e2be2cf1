"""What `verify` found: as a table for a terminal, as JSON, as Markdown for the docs."""

import json
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from kfac_core.testing.matrices import GATE
from kfac_core.theorems import Measured, Theorem
from kfac_core.verify.lapack import Ratio


class Result(NamedTuple):
    """What one theorem gave on one library and dtype, at its worst.

    Attributes:
        theorem: Name of the theorem.
        library: Name of the array library.
        dtype: NumPy name of the dtype.
        error: The error of the claim.
        bound: The largest error that rounding explains.
        twin: What the negative twin gave; None where there is none.
        problem: The error that was raised, if one was.

    Example:
        >>> Result("T2", "numpy", "float64", error=1e-16, bound=1e-14).ok
        True
        >>> twin = Measured(error=1e-16, bound=1e-14)  # it must be far off, but holds
        >>> Result("T2", "numpy", "float64", 1e-16, 1e-14, twin).ok
        False
    """

    theorem: str
    library: str
    dtype: str
    error: float
    bound: float
    twin: Measured | None = None
    problem: str = ""

    @property
    def holds(self) -> bool:
        """Whether the claim holds."""
        return not self.problem and Measured(self.error, self.bound).holds

    @property
    def twin_is_broken(self) -> bool:
        """Whether the twin's claim is far off, as it must be."""
        return self.twin is None or self.twin.is_broken

    @property
    def ok(self) -> bool:
        """Whether all is as it should be."""
        return self.holds and self.twin_is_broken


class Run(NamedTuple):
    """One library and dtype.

    Attributes:
        library: Name of the array library.
        dtype: NumPy name of the dtype.
        seconds: How long it took.
        problem: Why it ended before all was tried, where it did.

    Example:
        >>> Run("numpy", "float64", seconds=1.5).problem
        ''
        >>> Run("jax", "float64", seconds=0.1, problem="no device").problem
        'no device'
    """

    library: str
    dtype: str
    seconds: float
    problem: str = ""


@dataclass(frozen=True)
class Report:
    """All that was tried; as text it is a table.

    Attributes:
        seed: Seed of all random numbers.
        device: The device that was asked for; None: the default of each library.
        runs: Libraries and dtypes.
        theorems: The theorems that were tried.
        results: A result for each theorem and run.
        ratios: LAPACK's test ratios.

    Example:
        >>> good = Result("T2", "numpy", "float64", error=1e-16, bound=1e-14)
        >>> bad = good._replace(library="mine", error=0.3)
        >>> run = Run("numpy", "float64", seconds=1.5)
        >>> for results in ((good,), (good, bad)):
        ...     print(Report(0, None, (run,), (), results, ratios=()).ok)
        True
        False
    """

    seed: int
    device: str | None
    runs: tuple[Run, ...]
    theorems: tuple[Theorem, ...]
    results: tuple[Result, ...]
    ratios: tuple[Ratio, ...]

    @property
    def ok(self) -> bool:
        """Whether every claim holds, every twin fails, every ratio is small."""
        return (
            all(own.ok for own in self.results)
            and all(own.holds for own in self.ratios)
            and not any(own.problem for own in self.runs)
        )

    def worst(self, theorem: Theorem) -> Result:
        """Return the result that is the largest part of its bound, or a failure."""
        own = [each for each in self.results if each.theorem == theorem.name]
        if not own:
            return Result(theorem.name, "", "", float("nan"), 0.0, None, "not tried")
        return max(own, key=lambda r: (not r.ok, Measured(r.error, r.bound).part))

    def __str__(self) -> str:
        """Return the table, with the worst of all runs, and what failed."""
        return "\n".join(self._lines())

    def to_json(self) -> str:
        """Return all numbers as JSON."""
        return json.dumps(self._plain(), indent=1)

    def to_markdown(self) -> str:
        """Return two Markdown tables: the theorems, and LAPACK's test ratios."""
        rows = [
            "| | condition: claim (source) | error | bound | twin | its error |",
            "|---|---|---|---|---|---|",
        ]
        for theorem in self.theorems:
            own = self.worst(theorem)
            cells = (
                theorem.name,
                f"{theorem.condition}: {theorem.claim} ({theorem.source})",
                f"{own.error:.1e}" if own.holds else f"{own.error:.1e}, FAILS",
                f"{own.bound:.1e}",
                theorem.twin,
                "" if own.twin is None else f"{own.twin.error:.2g}",
            )
            rows.append("| " + " | ".join(map(_escaped, cells)) + " |")
        rows += ["", "| operation | largest ratio | matrix |", "|---|---|---|"]
        rows += [
            f"| {own.operation} | {own.ratio:.2f} | {own.matrix}, {own.dtype} |"
            for own in self._worst_ratios()
        ]
        return "\n".join(rows)

    def _plain(self) -> dict[str, Any]:
        kept = ("name", "condition", "claim", "source", "twin")
        return {
            "ok": self.ok,
            "seed": self.seed,
            "device": self.device,
            "runs": [own._asdict() for own in self.runs],
            "theorems": [
                {name: getattr(own, name) for name in kept} for own in self.theorems
            ],
            "results": [
                {**own._asdict(), "twin": own.twin and own.twin._asdict(), "ok": own.ok}
                for own in self.results
            ],
            "ratios": [{**own._asdict(), "ok": own.holds} for own in self.ratios],
        }

    def _worst_ratios(self) -> list[Ratio]:
        worst: dict[str, Ratio] = {}
        for own in self.ratios:
            before = worst.get(own.operation)
            if before is None or not own.ratio <= before.ratio:
                worst[own.operation] = own
        return list(worst.values())

    def _lines(self) -> Iterator[str]:
        yield (
            f"{'theorem':9} {'condition: claim [source]':72} {'error':>8} {'bound':>8}"
            f" {'verdict':8} {'twin':>8}"
        )
        for theorem in self.theorems:
            own = self.worst(theorem)
            text = f"{theorem.condition}: {theorem.claim} [{theorem.source}]"
            first, *rest = textwrap.wrap(text, 72)
            twin = "" if own.twin is None else f"{own.twin.error:8.1e}"
            yield (
                f"{theorem.name:9} {first:72} {own.error:8.1e} {own.bound:8.1e}"
                f" {_verdict(own):8} {twin}"
            )
            yield from (f"{'':9} {line}" for line in rest)
            yield f"{'':9}   twin: {theorem.twin}"
        yield ""
        yield f"{'LAPACK test ratio, at most ' + format(GATE, 'g'):50} {'largest':>8}"
        for ratio in self._worst_ratios():
            verdict = "holds" if ratio.holds else "FAILS"
            where = f"{ratio.matrix}, {ratio.library} {ratio.dtype}"
            yield f"{ratio.operation:50} {ratio.ratio:8.2f} {verdict}  ({where})"
        yield ""
        for run in self.runs:
            yield self._summary(run)
        for run in (own for own in self.runs if own.problem):
            yield f"FAILS: {run.library} {run.dtype}: {run.problem}"
        for failed in (own for own in self.results if not own.ok):
            yield f"FAILS: {failed.theorem}, {failed.library} {failed.dtype}: " + (
                failed.problem
                or f"error {failed.error:.3g}, bound {failed.bound:.3g}, twin"
                f" {failed.twin}"
            )

    def _summary(self, run: Run) -> str:
        own = [r for r in self.results if (r.library, r.dtype) == run[:2]]
        good = sum(result.ok for result in own)
        return (
            f"{run.library} {run.dtype}: {good} of {len(own)} theorems hold and their"
            f" twins do not; {run.seconds:.1f} s"
        )


def _verdict(result: Result) -> str:
    if not result.holds:
        return "FAILS"
    return "holds" if result.twin_is_broken else "NO TWIN"


def _escaped(text: str) -> str:
    """Return text as Markdown that shows it as it is."""
    return re.sub(r"([|*_<>^~$`])", r"\\\1", text)
