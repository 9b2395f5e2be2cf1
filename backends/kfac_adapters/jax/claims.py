"""Which parameters are layers, and why the others are none."""

from collections.abc import Collection, Mapping
from typing import NamedTuple

from kfac_adapters.coverage import UNUSED
from kfac_adapters.jax.charts import Chart
from kfac_adapters.jax.function import Discovered, Leaves
from kfac_adapters.jax.layers import Bias, Layer, layer_of, takes_bias
from kfac_adapters.jax.parts import Part, fills
from kfac_adapters.jax.sites import Cases
from kfac_adapters.jax.uses.base import Use
from kfac_adapters.jax.uses.elementwise import Scale, Shift


class Claims(NamedTuple):
    """What is made of the parameters of a function.

    Attributes:
        layers: The layers.
        unclaimed: For each other leaf, by its index, why it is in none.
    """

    layers: tuple[Layer, ...]
    unclaimed: dict[int, str]


def claims_of(
    found: Discovered,
    leaves: Leaves,
    cases: Cases,
    refused: Mapping[int, str],
    separate: Collection[Part],
) -> Claims:
    """Return which parameters are layers.

    Args:
        found: What the function does with its parameters.
        leaves: What is known of the parameters.
        cases: The cases.
        refused: Leaves that are not to be claimed, by their index, and why.
        separate: Biases that are not to be in the layer of what they are added to.

    Returns:
        The layers, a bias in that of what it is added to.
    """
    unclaimed = {
        leaf: f"also used in {', '.join(names)}"
        for leaf, names in found.escaped.items()
    }
    uses: dict[Part, tuple[Use, ...]] = {}
    for use in found.uses.values():
        uses[use.leaf] = (*uses.get(use.leaf, ()), use)
    used = {part.leaf for part in uses}
    charts = {use.chart for use in found.uses.values() if use.chart}
    lengths = {chart.length for chart in charts}
    for leaf in leaves.trained:
        parts = [part for part in uses if part.leaf == leaf]
        if leaf in lengths and leaf not in used:
            continue
        if leaf not in used:
            unclaimed.setdefault(leaf, UNUSED)
        elif not fills(parts, leaves.shapes[leaf]):
            unclaimed.setdefault(leaf, "of parts that overlap, or leave some out")
    unclaimed = dict(refused) | unclaimed
    for chart in charts:
        several = sum(chart.length == other.length for other in charts) > 1
        if several or chart.length in used:
            unclaimed.setdefault(chart.length, "the length of a weight, and used again")
    while True:
        for chart in charts:
            _together(chart, unclaimed)
        layers = _layers(found, uses, cases, unclaimed, separate)
        failed = {
            part.leaf: why for part, why in layers.items() if isinstance(why, str)
        }
        if not failed:
            break
        unclaimed |= failed
    claimed = [layer for layer in layers.values() if isinstance(layer, Layer)]
    claimed.sort(key=lambda layer: layer.params[0])
    return Claims(tuple(claimed), unclaimed)


def _together(chart: Chart, unclaimed: dict[int, str]) -> None:
    """Let go of length and direction, if a layer has but one of them."""
    for one, other in (
        (chart.length, chart.direction),
        (chart.direction, chart.length),
    ):
        if one in unclaimed:
            unclaimed.setdefault(other, f"of a weight whose part {unclaimed[one]}")


def _layers(
    found: Discovered,
    uses: Mapping[Part, tuple[Use, ...]],
    cases: Cases,
    unclaimed: Collection[int],
    separate: Collection[Part],
) -> dict[Part, Layer | str]:
    """Return for each parameter that is not another's bias its layer, or why not."""
    free = [part for part in uses if part.leaf not in unclaimed]
    layers: dict[Part, Layer | str] = {}
    claimed: set[Part] = set()
    # Shifts last: most are the bias of another layer.
    for part in sorted(free, key=lambda own: (_is_shift(uses[own]), own)):
        if part in claimed:
            continue
        own = uses[part]
        bias = None
        if not _is_shift(own):
            bias = _bias_of(own, found, uses, [i for i in free if i not in separate])
        layers[part] = layer_of(part, own, bias, cases)
        if isinstance(layer := layers[part], Layer):
            claimed |= {*layer.params}
    return layers


def _is_shift(uses: tuple[Use, ...]) -> bool:
    return bool(uses) and all(isinstance(use, Shift) for use in uses)


def _bias_of(
    own: tuple[Use, ...],
    found: Discovered,
    uses: Mapping[Part, tuple[Use, ...]],
    free: list[Part],
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
    part = adding[0].leaf
    is_own = part in free and {u.site for u in uses[part]} == {
        shift.site for shift in adding
    }
    if not is_own or (adding[0].bias_form is None and not isinstance(own[0], Scale)):
        return None
    return part, tuple(adding)
