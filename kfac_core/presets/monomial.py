"""Numbers by which sums are multiplied: products of powers of counts."""

from dataclasses import dataclass

from kfac_core.typing import Scalar


@dataclass(frozen=True)
class Monomial:
    """``2^(halves / 2) N^n T^t C^c``: what a sum over rows is multiplied by.

    Attributes:
        n: Power of ``N``, the number of cases.
        t: Power of ``T``, the number of positions of a case.
        c: Power of ``C``, the number of outputs of a case, where the loss is a mean
            over them.
        halves: Power of the root of two.

    Example:
        >>> str(Monomial(n=1, t=-1)), Monomial(n=1, t=-1)(6, 3, 1)
        ('N/T', 2.0)
    """

    n: int = 0
    t: int = 0
    c: int = 0
    halves: int = 0

    def __call__(self, cases: Scalar, positions: Scalar, outputs: Scalar) -> Scalar:
        """Return the number for the numbers of cases, positions and outputs."""
        value: Scalar = 2.0 ** (self.halves / 2)
        for count, power in ((cases, self.n), (positions, self.t), (outputs, self.c)):
            value = value * count ** abs(power) if power > 0 else value / count**-power
        return value

    def __str__(self) -> str:
        """Return it as a reader writes it, such as ``N C/T``."""
        powers = (("N", self.n), ("T", self.t), ("C", self.c))
        above = [_power(name, power) for name, power in powers if power > 0]
        below = [_power(name, -power) for name, power in powers if power < 0]
        if self.halves:
            side = above if self.halves > 0 else below
            side.insert(0, _power("sqrt2", abs(self.halves)))
        over = " ".join(below)
        if len(below) > 1:
            over = f"({over})"
        return (" ".join(above) or "1") + (f"/{over}" if over else "")


def _power(name: str, power: int) -> str:
    return name if power == 1 else f"{name}^{power}"
