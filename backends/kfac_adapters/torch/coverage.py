"""`Coverage`: which block stands for which parameter, as a table to print."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from kfac_core.errors import ArgumentError, RegistrationError
from kfac_core.layer_collection import LayerCollection

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
    """A line of the table.

    Attributes:
        params: Names of the parameters of one block.
        block: Class of the block, or what there is instead.
        shapes: Shapes of the parameters.
        share: How much of all trained numbers is theirs, from 0 to 1.
        reason: Why no layer covers it, or an empty text.
    """

    params: tuple[str, ...]
    block: str
    shapes: tuple[tuple[int, ...], ...]
    share: float
    reason: str = ""


@dataclass(frozen=True)
class Coverage:
    """All trained parameters of a model, each in one line; printed as a table.

    Attributes:
        lines: First those that layers cover.
    """

    lines: tuple[Covered, ...]

    def __str__(self) -> str:
        """Return the table."""
        head = ("parameters", "block", "shapes", "share", "why")
        rows = [head] + [
            (
                ", ".join(line.params),
                line.block,
                ", ".join("x".join(map(str, shape)) or "()" for shape in line.shapes),
                f"{line.share:.1%}",
                line.reason,
            )
            for line in self.lines
        ]
        widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
        return "\n".join(
            "  ".join(
                text.ljust(width) for text, width in zip(row, widths, strict=True)
            ).rstrip()
            for row in rows
        )


def check_policy(policy: object) -> None:
    """Check the name of a policy.

    Raises:
        ArgumentError: If there is none of the name.
    """
    if not isinstance(policy, str) or policy not in POLICIES:
        msg = f"unclaimed is {policy!r}, expected one of {', '.join(POLICIES)}"
        raise ArgumentError(msg)


def coverage(
    shapes: Mapping[str, tuple[int, ...]],
    collection: LayerCollection,
    left: Mapping[str, str],
    policy: Policy,
) -> Coverage:
    """Return the table of a collection.

    Args:
        shapes: Shapes of all trained parameters, by name.
        collection: The layers.
        left: For each parameter that no layer covers the reason.
        policy: What becomes of these.

    Returns:
        The table.
    """
    total = sum(map(math.prod, shapes.values())) or 1
    lines = []
    for layer in collection.layers:
        if layer.params[0] not in left:
            own = tuple(shapes[name] for name in layer.params)
            share = sum(map(math.prod, own)) / total
            lines.append(Covered(layer.params, type(layer.block).__name__, own, share))
    for name, reason in left.items():
        share = math.prod(shapes[name]) / total
        lines.append(Covered((name,), POLICIES[policy], (shapes[name],), share, reason))
    return Coverage(tuple(lines))


def check_all_covered(left: Mapping[str, str]) -> None:
    """Check that a layer covers every parameter.

    Raises:
        RegistrationError: If one is left.
    """
    if left:
        listed = "; ".join(f"{name!r} {reason}" for name, reason in left.items())
        msg = (
            f"{len(left)} parameters are no layer's: {listed}. Say what becomes of them"
            " by unclaimed='diagonal', 'identity' or 'ignore', or freeze them with"
            " requires_grad_(False)"
        )
        raise RegistrationError(msg)
