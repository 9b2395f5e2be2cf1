"""Which parameters are layers, and why the others are none."""

from collections.abc import Collection, Mapping
from typing import NamedTuple

from kfac_adapters.jax.function import Discovered, Leaves
from kfac_adapters.jax.layers import Bias, Layer, layer_of, takes_bias
from kfac_adapters.jax.sites import Cases
from kfac_adapters.jax.uses.base import Use
from kfac_adapters.jax.uses.elementwise import Scale, Shift


class Claims(NamedTuple):
    """What is made of the parameters of a function.

    Attributes:
        layers: The layers.
        unclaimed: For each other parameter, by its index, why it is in none.
    """

    layers: tuple[Layer, ...]
    unclaimed: dict[int, str]


def claims_of(
    found: Discovered,
    leaves: Leaves,
    cases: Cases,
    refused: Mapping[int, str],
    separate: Collection[int],
) -> Claims:
    """Return which parameters are layers.

    Args:
        found: What the function does with its parameters.
        leaves: What is known of the parameters.
        cases: The cases.
        refused: Parameters that are not to be claimed, and why.
        separate: Biases that are not to be in the layer of what they are added to.

    Returns:
        The layers, a bias in that of what it is added to.
    """
    unclaimed = dict(refused)
    unclaimed |= {
        index: f"also used in {', '.join(names)}"
        for index, names in found.escaped.items()
        if index not in refused
    }
    uses: dict[int, tuple[Use, ...]] = {}
    for use in found.uses.values():
        uses[use.leaf] = (*uses.get(use.leaf, ()), use)
    free = [i for i in leaves.trained if i not in unclaimed]
    layers: list[Layer] = []
    claimed: set[int] = set()
    # Shifts last: most are the bias of another layer.
    for index in sorted(free, key=lambda i: _is_shift(uses.get(i, ()))):
        if index in claimed:
            continue
        if index not in uses:
            unclaimed[index] = "not used"
            continue
        own = uses[index]
        bias = None
        if not _is_shift(own):
            bias = _bias_of(own, found, uses, [i for i in free if i not in separate])
        layer = layer_of(index, own, bias, cases)
        if isinstance(layer, str):
            unclaimed[index] = layer
            continue
        layers.append(layer)
        claimed |= {*layer.params}
    layers.sort(key=lambda layer: layer.params[0])
    return Claims(tuple(layers), unclaimed)


def _is_shift(uses: tuple[Use, ...]) -> bool:
    return bool(uses) and all(isinstance(use, Shift) for use in uses)


def _bias_of(
    own: tuple[Use, ...],
    found: Discovered,
    uses: Mapping[int, tuple[Use, ...]],
    free: list[int],
) -> Bias | None:
    """Return the one parameter that every use adds to its output, and none else."""
    after: dict[str, list[Shift]] = {}
    for use in found.uses.values():
        if isinstance(use, Shift) and use.after is not None:
            after.setdefault(use.after, []).append(use)
    adding: list[Shift] = []
    for use in own:
        shifts = after.get(use.site, [])
        if not takes_bias(use, own):
            if shifts and use.kind != "embedding":
                return None
            continue
        if len(shifts) != 1:
            return None
        adding += shifts
    if not adding or len({(shift.leaf, shift.bias_form) for shift in adding}) != 1:
        return None
    index = adding[0].leaf
    is_own = index in free and {u.site for u in uses[index]} == {
        shift.site for shift in adding
    }
    if not is_own or (adding[0].bias_form is None and not isinstance(own[0], Scale)):
        return None
    return index, tuple(adding)
