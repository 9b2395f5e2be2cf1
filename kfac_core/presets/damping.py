"""How other libraries damp, in our terms.

A library whose factors are ``alpha A`` and ``beta G``, and whose product is multiplied
by ``s``, damps by one of these rules:

| rule | what it inverts |
|---|---|
| ``pi`` | ``s (alpha A + pi sqrt(l)) kron (beta G + sqrt(l) / pi)``, its own traces |
| ``constant`` | ``s (alpha A + l) kron (beta G + l)`` |
| ``exact`` | ``s alpha beta kron(A, G) + damping`` |

where ``l`` is the damping, or the damping over ``s``. Since ``pi`` follows the factors,
the first is ours for ``l / (alpha beta)``; the second is ours if ``alpha = beta``.
Where ``G`` is the identity, the second is ``s (1 + l) (alpha A + l) kron I``, which is
exact damping of a multiple; the first is not, as its ``pi`` depends on the data.
"""

import math
from typing import NamedTuple, get_args

from kfac_core.arguments.options import check_word
from kfac_core.arguments.powers import shown
from kfac_core.damping import DampingType
from kfac_core.errors import ArgumentError, UnsupportedError
from kfac_core.presets.conventions import convention
from kfac_core.presets.factors import check_counts, ours_for, scaling_for
from kfac_core.presets.layer import Layer
from kfac_core.presets.monomial import Counts
from kfac_core.presets.scaling import Rule, Scaling
from kfac_core.typing import Scalar


class Damping(NamedTuple):
    """How a block of ours damps as another library does.

    Attributes:
        damping_type: ``damping_type`` of the block, with ``normalize_damping_power=1``.
        damping: The damping of `update_inverses`.
        factor: What the block's product with its inverse is multiplied by, to be that
            of the library.

    Example:
        >>> from kfac_core.fisher_blocks import FullyConnectedKFACBasicFB
        >>> from kfac_core.presets import layer_of
        >>> layer = layer_of(FullyConnectedKFACBasicFB(3, 2))
        >>> for cases in (4, 8):  # its gradients are of the mean loss: smaller by N
        ...     found = damping_like("kronfluence, mean", 0.5, layer, num_cases=cases)
        ...     print(found.damping_type, found.damping)
        exact 8.0
        exact 32.0
    """

    damping_type: DampingType
    damping: Scalar
    factor: Scalar


def damping_like(
    name: str,
    damping: Scalar,
    layer: Layer,
    *,
    num_cases: Scalar,
    positions: Scalar | None = None,
    num_outputs: Scalar = 1,
    rule: Rule | None = None,
) -> Damping:
    """Return our damping that is another library's.

    Args:
        name: Name of its convention.
        damping: The damping as it takes it.
        layer: What `layer_of` returns.
        num_cases: As in `convert`.
        positions: ``T``, the number of positions of a case; a layer that acts once
            needs none. Where rows have weights, the sum of those of a case, on the
            mean; the rule ``"constant"`` is for rows without weights.
        num_outputs: As in `convert`.
        rule: How it damps, ``"pi"``, ``"exact"`` or ``"constant"``; None: by its
            default.

    Returns:
        Our damping.

    Raises:
        ArgumentError: If there is no such convention, or no such rule, or if a number
            is out of range, or ``positions`` is missing.
        UnsupportedError: If it refuses such layers, has no damping of its own, or adds
            one number to factors whose ratio differs from ours.

    Example:
        >>> from kfac_core.fisher_blocks import FullyConnectedKFACBasicFB
        >>> from kfac_core.presets import layer_of
        >>> layer = layer_of(FullyConnectedKFACBasicFB(3, 2))
        >>> damping_like("kronfluence, mean", 0.5, layer, num_cases=4)
        Damping(damping_type='exact', damping=8.0, factor=16.0)
    """
    given: object = layer
    if not isinstance(given, Layer):
        msg = f"presets: layer is {shown(given)}, expected what layer_of returns"
        raise ArgumentError(msg)
    check_counts(layer.label, num_cases=num_cases, num_outputs=num_outputs)
    if positions is None:
        positions = 1 if layer.kind == "linear" else None
    else:
        check_counts(layer.label, positions=positions)
    check_counts(layer.label, or_zero=True, damping=damping)
    theirs, ours = convention(name), ours_for(layer)
    own = theirs.damping if rule is None else rule
    check_word(own, get_args(Rule), "rule", layer.label)
    counts = (num_cases, positions, num_outputs)
    before, after = (scaling_for(each, layer, positions) for each in (ours, theirs))
    alpha = after.inputs(*counts) / before.inputs(*counts)
    beta = _ratio(before, after, counts, layer, name)
    scale, uses = after.block(*counts), before.block(*counts)
    whole = alpha * beta * scale / uses  # their block over ours
    if own == "exact":
        return Damping("exact", damping / whole, 1 / whole)
    of_factors = damping / scale if theirs.per_scale else damping
    if layer.is_forward_only and own == "constant":
        whole *= 1 + of_factors
        return Damping("exact", of_factors * uses / alpha, 1 / whole)
    if own == "pi" and not layer.is_forward_only:
        return Damping("pi", of_factors * uses / (alpha * beta), 1 / whole)
    if own == "constant" and math.isclose(alpha, beta, rel_tol=1e-12):
        return Damping("constant", of_factors * uses / alpha, 1 / whole)
    if own == "pi":
        msg = (
            f"{layer.label}: pi of {name} depends on the data, and a ForwardOnlyFB is"
            " damped exactly; damp the arrays of convert as it does"
        )
        raise UnsupportedError(msg)
    what = (
        f"{alpha:g} and {beta:g} times ours, and adds one number to both"
        if own == "constant"
        else "not damped by a rule that is known here"
    )
    msg = (
        f"{layer.label}: the factors of {name} are {what}; damp the arrays of convert"
        " as it does"
    )
    raise UnsupportedError(msg)


def _ratio(
    before: Scaling,
    after: Scaling,
    counts: Counts,
    layer: Layer,
    name: str,
) -> Scalar:
    """Return their ``G`` over ours."""
    if before.gradients and after.gradients:
        return after.gradients(*counts) / before.gradients(*counts)
    if before.gradients or after.gradients:
        sees, sees_not = (
            ("the block", name) if before.gradients else (name, "the block")
        )
        msg = (
            f"{layer.label}: {sees} sees gradients and {sees_not} none, so that no"
            " damping makes them equal; take a ForwardOnlyFB for a forward-only"
            " convention, and for no other"
        )
        raise UnsupportedError(msg)
    return 1.0
