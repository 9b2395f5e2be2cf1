"""What the convention of a library says: numbers, layout and damping."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from kfac_core.presets.monomial import Monomial

Kind = Literal["linear", "tokens", "images", "reduce"]
"""A layer that acts once in a case; at each token; at each location; or pooled."""

Bias = Literal["joint", "own", "none"]
"""A last row of ``A``; a block of its own, which is ``G``; or none."""

Rule = Literal["pi", "exact", "constant", "none"]
"""How a library damps by default; see `kfac_core.presets.damping`."""


_ONE = Monomial()


@dataclass(frozen=True)
class Scaling:
    """What a library multiplies its sums by.

    With the rows ``a`` of inputs and ``g`` of gradients of the *mean* loss, ``A`` is
    ``a a'`` summed over all rows, times `inputs`; ``G`` is ``g g'`` summed, times
    `gradients`; and the block is their Kronecker product, times `block`.

    Attributes:
        inputs: The number for ``A``.
        gradients: The number for ``G``; None where ``G`` is the identity, and sees no
            gradients.
        block: The number for the product.

    Example:
        >>> from kfac_core.presets import convention
        >>> scaling = convention("curvlinops").scalings["images"]
        >>> str(scaling.inputs), str(scaling.gradients), str(scaling.block)
        ('1/(N T)', 'N C', '1')
        >>> scaling.inputs(8, 16, 10)  # for 8 cases, 16 positions and 10 outputs
        0.0078125
    """

    inputs: Monomial
    gradients: Monomial | None
    block: Monomial = _ONE

    @property
    def counts_positions(self) -> bool:
        """Whether a number depends on ``T``, the number of positions."""
        return any(each.t for each in (self.inputs, self.gradients, self.block) if each)


@dataclass(frozen=True)
class Convention:
    """What one library computes.

    Attributes:
        name: The name here: the library's, and how it is used.
        version: The version that was measured, or where it is said.
        scalings: For each kind of layer, what sums are multiplied by. A kind that the
            library refuses is missing.
        bias: Where the bias is.
        channels_first: Whether patches are ordered by channels, then by places of the
            kernel; if not, by places, then by channels.
        outputs_first: Whether the block is ``kron(G, A)``, for weights ``[out, in]``;
            if not, ``kron(A, G)``.
        damping: How the block is damped by default.
        per_scale: Whether the damping is divided by what the product is multiplied by.

    Example:
        >>> from kfac_core.presets import convention
        >>> for name in ("kfac_core", "curvlinops", "kronfluence, mean"):
        ...     found = convention(name)
        ...     linear = found.scalings["linear"]
        ...     print(found.damping, linear.inputs, linear.gradients, sep="; ")
        pi; 1/N; N
        constant; 1/N; N C
        exact; 1/N; 1/N
    """

    name: str
    version: str
    scalings: Mapping[Kind, Scaling]
    bias: Bias = "joint"
    channels_first: bool = True
    outputs_first: bool = True
    damping: Rule = "none"
    per_scale: bool = False

    @property
    def sees_gradients(self) -> bool:
        """Whether ``G`` is made of gradients, and not the identity."""
        return all(each.gradients is not None for each in self.scalings.values())
