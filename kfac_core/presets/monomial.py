"""Numbers by which sums are multiplied: products of powers of counts."""

from dataclasses import dataclass
from fractions import Fraction

from kfac_core.errors import ArgumentError
from kfac_core.typing import Scalar

Counts = tuple[Scalar, Scalar | None, Scalar]
"""Numbers of cases, of positions, and of outputs; None where no power asks for it."""


@dataclass(frozen=True)
class Monomial:
    """``N^n T^t C^c 2^two``: what a sum over rows is multiplied by.

    Powers are integers or fractions; they are kept as fractions, so that products of
    powers are exact.

    Attributes:
        n: Power of ``N``, the number of cases.
        t: Power of ``T``, the number of positions of a case.
        c: Power of ``C``, the number of outputs of a case.
        two: Power of two.

    Example:
        >>> str(Monomial(n=1, t=-1)), Monomial(n=1, t=-1)(6, 3, 1)
        ('N/T', 2.0)
        >>> str(Monomial(n=-1, c=Fraction(1, 2))), Monomial(c=Fraction(1, 2))(1, 1, 9)
        ('sqrt(C)/N', 3.0)
    """

    n: Fraction | int = 0
    t: Fraction | int = 0
    c: Fraction | int = 0
    two: Fraction | int = 0

    def __post_init__(self) -> None:
        """Keep all powers as fractions."""
        for name in ("n", "t", "c", "two"):
            object.__setattr__(self, name, Fraction(getattr(self, name)))

    def __call__(
        self, cases: Scalar, positions: Scalar | None, outputs: Scalar
    ) -> Scalar:
        """Return the number for the numbers of cases, positions and outputs.

        Raises:
            ArgumentError: If positions are None, and it has a power of them.
        """
        if positions is None:
            if self.t:
                msg = f"presets: positions is None, expected a number for {self}"
                raise ArgumentError(msg)
            positions = 1
        value: Scalar = 2.0 ** float(self.two)
        for count, power in ((cases, self.n), (positions, self.t), (outputs, self.c)):
            if power > 0:
                value = value * count ** _plain(power)
            elif power:
                value = value / count ** _plain(-power)
        return value

    def __str__(self) -> str:
        """Return it as a reader writes it, such as ``N C/T``."""
        powers = (("2", self.two), ("N", self.n), ("T", self.t), ("C", self.c))
        above = [_power(name, power) for name, power in powers if power > 0]
        below = [_power(name, -power) for name, power in powers if power < 0]
        over = " ".join(below)
        if len(below) > 1:
            over = f"({over})"
        return (" ".join(above) or "1") + (f"/{over}" if over else "")


def _plain(power: Fraction | int) -> int | float:
    """Return a power as Python has it; an integer, whose powers are exact, as one."""
    return int(power) if power == int(power) else float(power)


def _power(name: str, power: Fraction | int) -> str:
    if power == Fraction(1, 2):
        return f"sqrt({name})"
    if power != int(power):
        return f"{name}^({power})"
    return name if power == 1 else f"{name}^{power}"
