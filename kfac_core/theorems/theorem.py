"""`Theorem`: a condition under which a claim holds, and how to measure that."""

from collections.abc import Callable
from dataclasses import dataclass

from kfac_core.theorems.trial import GENERAL, Measured, Sizes, Trial

Measure = Callable[[Trial, bool], Measured]


@dataclass(frozen=True)
class Theorem:
    """A claim that holds to rounding under a condition, and not without it.

    Attributes:
        name: Its short name, such as ``"T3a"``.
        condition: When the claim holds.
        claim: What holds then.
        source: Paper and equation, or the idea of the proof.
        twin: What takes the place of the condition in the negative twin; empty where
            the claim has none, as it holds always.
        measure_either: Measures it on a trial, with its condition or the twin's.
        large: Sizes above 1,000 for a claim that needs no dense matrix; or None.
        solves: Whether it factorises a matrix, which some compilers write out.
        general_only: Whether it is tried at general sizes alone, since it has sizes of
            its own.

    Example:
        >>> from kfac_core.theorems import by_name
        >>> theorem = by_name("T3a")
        >>> theorem.claim
        'K = F, with G = P'
        >>> theorem.twin
        'softmax in place of the normal loss'
    """

    name: str
    condition: str
    claim: str
    source: str
    twin: str
    measure_either: Measure
    large: Sizes | None = None
    solves: bool = False
    general_only: bool = False

    def measure(self, trial: Trial) -> Measured:
        """Return the error of the claim under its condition.

        Args:
            trial: Library, dtype, seed and sizes.
        """
        return _plain(self.measure_either(trial, True))

    def measure_twin(self, trial: Trial) -> Measured:
        """Return the error of the claim without its condition; large, if all is well.

        Args:
            trial: Library, dtype and seed; its sizes should be `GENERAL`.
        """
        return _plain(self.measure_either(trial, False))

    def sizes(self, *, few: bool = False) -> tuple[Sizes, ...]:
        """Return the sizes to try: general ones, one of everything, few cases, large.

        Args:
            few: Whether to leave out small ones, and a large one where a matrix is
                factorised, as for a library that compiles a program for each.
        """
        small = (GENERAL,) if few or self.general_only else SMALL
        if self.large is None or (few and self.solves):
            return small
        return (*small, self.large)


def _plain(measured: Measured) -> Measured:
    """Return numbers of Python's, which JSON takes, in the place of NumPy's."""
    return Measured(float(measured.error), float(measured.bound))


SMALL = (GENERAL, Sizes(1, 1, 1), Sizes(2, 7, 2))
LARGE = Sizes(3, 1025, 2)


def theorem(
    name: str,
    *,
    condition: str,
    claim: str,
    source: str,
    twin: str = "",
    large: Sizes | None = None,
    solves: bool = False,
    general_only: bool = False,
) -> Callable[[Measure], Theorem]:
    """Make a `Theorem` of a function that measures it, with the fields that are given.

    The function takes the trial, and whether the condition holds: a twin differs from
    its theorem in the condition alone.

    Returns:
        A decorator.
    """

    def made(measure: Measure) -> Theorem:
        return Theorem(
            name,
            condition,
            claim,
            source,
            twin,
            measure,
            large=large,
            solves=solves,
            general_only=general_only,
        )

    return made
