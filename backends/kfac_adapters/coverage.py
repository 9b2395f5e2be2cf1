"""`Coverage`: which block stands for which parameter, as a table to print."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from kfac_core.errors import ArgumentError, RegistrationError

UNUSED = "used by nothing"
"""What is said of a parameter that nothing uses, such as one for other inputs."""

Policy = Literal["error", "diagonal", "identity", "ignore"]
"""What becomes of a parameter that no layer covers."""

POLICIES: dict[Policy, str] = {
    "error": "refused",
    "diagonal": "diagonal of the summed gradient",
    "identity": "none: its gradient is left as it is",
    "ignore": "none: it is not trained",
}
"""The policies, and what the table says of each."""


@dataclass(frozen=True)
class Covered:
    """A line of the table: the parameters of one layer, or one that is in none.

    Attributes:
        params: Names of the parameters of one block.
        block: Class of the block, or what there is instead.
        shapes: Shapes of the parameters.
        reason: Why no layer covers it; an empty text if one does.
    """

    params: tuple[str, ...]
    block: str
    shapes: tuple[tuple[int, ...], ...]
    reason: str = ""

    @property
    def size(self) -> int:
        """The number of entries of the parameters."""
        return sum(map(math.prod, self.shapes))


@dataclass(frozen=True)
class Coverage:
    """All trained parameters of a model, each in one line; ``print`` it.

    Attributes:
        lines: First those that layers cover.
    """

    lines: tuple[Covered, ...]

    @property
    def size(self) -> int:
        """The number of entries of all parameters."""
        return sum(line.size for line in self.lines)

    @property
    def share(self) -> float:
        """The share of all entries that is in layers, from 0 to 1."""
        return sum(line.size for line in self.lines if not line.reason) / self._whole

    def __str__(self) -> str:
        """Return the table."""
        head = ("parameters", "block", "shapes", "share", "why")
        has_reasons = any(line.reason for line in self.lines)
        rows: list[tuple[str, ...]] = [head if has_reasons else head[:-1]]
        rows += [
            (
                ", ".join(line.params),
                line.block,
                ", ".join("x".join(map(str, shape)) or "()" for shape in line.shapes),
                f"{line.size / self._whole:.1%}",
                *([line.reason] if has_reasons else []),
            )
            for line in self.lines
        ]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
        return "\n".join(
            [*lines, f"in layers: {self.share:.1%} of {self.size} numbers"]
        )

    @property
    def _whole(self) -> int:
        return max(self.size, 1)


def check_policy(policy: object) -> None:
    """Check the name of a policy.

    Raises:
        ArgumentError: If there is no policy of the name.
    """
    if not isinstance(policy, str) or policy not in POLICIES:
        msg = f"unclaimed is {policy!r}, expected one of {', '.join(POLICIES)}"
        raise ArgumentError(msg)


def given_approximations(given: object, argument: str) -> dict[str, str] | str:
    """Return approximations: one name, or names by what they are for.

    Args:
        given: What was given; None: none.
        argument: Name of the argument.

    Returns:
        The name, or a copy of the mapping.

    Raises:
        ArgumentError: If they are neither.
    """
    if given is None:
        return {}
    if isinstance(given, str):
        return given
    if isinstance(given, Mapping) and all(isinstance(x, str) for x in given):
        return dict(given)
    msg = (
        f"{argument} is {given!r}, expected the name of one approximation, such as"
        " 'ekfac', or a mapping of names, such as {'embedding': 'kron_out_diag'}"
    )
    raise ArgumentError(msg)


def check_all_covered(left: Mapping[str, str], remedy: str = "") -> None:
    """Check that a layer covers every parameter.

    Args:
        left: For each parameter that no layer covers, why.
        remedy: What else the user may do, in words.

    Raises:
        RegistrationError: If one is left.
    """
    if left:
        listed = "; ".join(f"{name!r} {reason}" for name, reason in left.items())
        msg = (
            f"{len(left)} parameters are no layer's: {listed}. Say what becomes of them"
            " by unclaimed='diagonal' (a curvature of their own, the diagonal of the"
            " gradient), 'identity' (the gradient as it is) or 'ignore' (not"
            f" trained){remedy}"
        )
        idle = [name for name, reason in left.items() if UNUSED in reason]
        if idle:
            msg += (
                f". What has no gradient, as a mask token where nothing is masked, is"
                f" left as it is by 'ignore': perhaps {', '.join(map(repr, idle))}"
            )
        raise RegistrationError(msg)
