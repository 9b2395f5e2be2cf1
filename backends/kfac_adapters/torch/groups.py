"""Uses of one forward pass, by the layer that they are of, and what no layer covers."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch

from kfac_adapters.coverage import UNUSED
from kfac_adapters.row_orders import RowOrder
from kfac_adapters.torch.cuts import cuts, without
from kfac_adapters.torch.orders import leading, orders_in
from kfac_adapters.torch.record import Record, Use
from kfac_adapters.torch.rows import Folding, Shape, foldings
from kfac_core.errors import UnsupportedError
from kfac_core.layer_collection.parts import Part

LayerKind = Literal[
    "fully_connected",
    "convolution",
    "transposed_convolution",
    "embedding",
    "scale_and_shift",
    "tied_weights",
    "bias",
]
"""Kinds of `kfac_core.layer_collection.APPROXIMATIONS`, but those of shared layers."""

UNSEEN = f"is {UNUSED} that is seen"
"""Why no layer covers a parameter that a pass does not use."""

_KINDS: dict[frozenset[str], LayerKind] = {
    frozenset({"linear"}): "fully_connected",
    frozenset({"convolution"}): "convolution",
    frozenset({"transposed_convolution"}): "transposed_convolution",
    frozenset({"embedding"}): "embedding",
    frozenset({"scale"}): "scale_and_shift",
    frozenset({"embedding", "linear"}): "tied_weights",
}

_CONVOLUTIONS = {"convolution", "transposed_convolution"}
"""Kinds whose uses may be of images of several sizes."""


@dataclass(frozen=True)
class Group:
    """All uses of one layer.

    Attributes:
        kind: What the layer is.
        params: Names of its weight and, if it has one that is its alone, its bias; or
            that of a bias whose weight is no parameter.
        indices: Which uses of the record are its own.
        shared: Whether its arrays have an axis of uses.
        joint: Whether its rows are not those of the cases, but of several together.
        sized: Whether its uses are of images of several sizes.
        orders: Orders of rows that are known, by their number of axes.
    """

    kind: LayerKind
    params: tuple[str, ...]
    indices: tuple[int, ...]
    shared: bool
    joint: bool
    sized: bool = False
    orders: tuple[tuple[int, RowOrder], ...] = ()

    @property
    def is_repeated(self) -> bool:
        """Whether its block is one of several uses."""
        return self.shared or self.sized

    @property
    def is_apart(self) -> bool:
        """Whether each use has a site of its own, being unlike others, or its size."""
        return self.kind == "tied_weights" or self.sized

    @property
    def sites(self) -> tuple[str, ...]:
        """Names of its sites: one for all uses, or of unlike ones one for each."""
        if self.is_apart:
            return tuple(f"{self.params[0]}[{i}]" for i in range(len(self.indices)))
        return (self.params[0],)

    @property
    def is_single(self) -> bool:
        """Whether it has one row for each case, and there is a block for several."""
        return not self.is_repeated and self.kind in (
            "fully_connected",
            "convolution",
            "embedding",
        )


@dataclass(frozen=True)
class Grouping:
    """The layers of a forward pass.

    Attributes:
        groups: The layers, in the order in which they are first used.
        left: For each parameter that no layer covers, why.
        cut: For each parameter that layers have in parts, these.
    """

    groups: list[Group]
    left: dict[str, str]
    cut: dict[str, list[Part]]

    @property
    def parts(self) -> list[Part]:
        """The parts of all parameters."""
        return [part for parts in self.cut.values() for part in parts]


def grouped(
    params: Mapping[str, torch.Tensor], record: Record, cases: Shape
) -> Grouping:
    """Return the layers of a forward pass, and the parameters that none covers.

    Args:
        params: The trained parameters, by name.
        record: What the pass did.
        cases: The axes of cases.

    Returns:
        The layers.
    """
    cut, broken = cuts(params, record)
    broken |= {
        name: "is of complex numbers"
        for name, param in params.items()
        if param.is_complex()
    }
    cut = {name: parts for name, parts in cut.items() if name not in broken}
    while True:
        own = without(record, broken)
        names = [name for name in params if name not in cut]
        names += [part.name for parts in cut.values() for part in parts]
        groups, left = _layers(names, own, cases)
        wrong = {
            part.param: f"is in slices, of which {part.name!r} {left[part.name]}"
            for parts in cut.values()
            for part in parts
            if part.name in left
        }
        if not wrong:
            return Grouping(groups, left | broken, cut)
        broken |= wrong
        cut = {name: parts for name, parts in cut.items() if name not in wrong}


def _layers(
    names: Sequence[str], record: Record, cases: Shape
) -> tuple[list[Group], dict[str, str]]:
    """Return the layers of some parameters or parts, and those that none covers."""
    weights: dict[str, list[int]] = {}
    biases: dict[str, list[int]] = {}
    known = {*names}
    for i, use in enumerate(record.uses):
        if use.weight in known:
            weights.setdefault(use.weight, []).append(i)
        if use.bias:
            biases.setdefault(use.bias, []).append(i)
    groups: list[Group] = []
    left: dict[str, str] = {}
    for name, indices in weights.items():
        uses = [record.uses[i] for i in indices]
        reason = _obstacle(name, uses, record, cases)
        if reason:
            left[name] = reason
            continue
        kind = _kind_of(uses)
        bias = _own_bias(kind, uses, biases, indices, record)
        key = (name, bias) if bias else (name,)
        groups.append(_group(kind, key, indices, record, cases))
    covered = {name for group in groups for name in group.params}
    for name, indices in biases.items():
        if name in covered:
            continue
        uses = [record.uses[i] for i in indices]
        reason = _obstacle_at_all(name, uses, record)
        if reason:
            left[name] = reason
        else:
            groups.append(_group("bias", (name,), indices, record, cases))
    covered = {name for group in groups for name in group.params}
    for name in names:
        if name not in covered and name not in left:
            by = record.elsewhere.get(name)
            left[name] = f"is used by {by}" if by else UNSEEN
    return groups, left


def regrouped(groups: Sequence[Group], record: Record) -> list[Group]:
    """Return layers of an earlier pass with their uses in another.

    There may be any number, of a layer that is used several times, and none of others.

    Args:
        groups: The layers.
        record: What the other pass did.

    Returns:
        The layers.

    Raises:
        UnsupportedError: If one has more, or, its uses being unlike, any other number
            of them; or if something else uses its parameters, or it has other parts of
            them.
    """
    _check_alike(groups, record)
    of_weights: dict[str, list[int]] = defaultdict(list)
    of_biases: dict[str, list[int]] = defaultdict(list)
    for i, use in enumerate(record.uses):
        of_weights[use.weight].append(i)
        of_biases[use.bias].append(i)
    found = []
    for group in groups:
        of_all = of_biases if group.kind == "bias" else of_weights
        indices = tuple(of_all[group.params[0]])
        several = len(indices) > 1 and not group.shared and not group.is_apart
        unlike = group.is_apart and len(indices) != len(group.indices)
        if several or unlike:
            msg = (
                f"{group.params[0]}: this pass uses it {len(indices)} times, and the"
                f" first one {len(group.indices)}; capture the model again with a pass"
                " like those that come, or pause what sees passes that differ"
            )
            raise UnsupportedError(msg)
        same = indices == group.indices
        found.append(group if same else replace(group, indices=indices))
    return found


def _check_alike(groups: Sequence[Group], record: Record) -> None:
    """Check that layers are all that uses their parameters, as in the first pass."""
    own = {name for group in groups for name in group.params}
    whole = own | {name.rpartition("[")[0] for name in own}
    others = {name: f"by {by}" for name, by in record.elsewhere.items() if name in own}
    others |= {
        part.name: "as a part"
        for part in record.parts.values()
        if part.param in whole and part.name not in own
    }
    others |= {
        use.weight: f"so that {use.call.refused}"
        for use in record.uses
        if use.call.refused and use.weight in own
    }
    for name, how in others.items():
        msg = (
            f"{name}: this pass uses it {how}, and the first one did not; capture the"
            " model again with a pass like those that come"
        )
        raise UnsupportedError(msg)


def _kind_of(uses: list[Use]) -> LayerKind:
    kind = _KINDS[frozenset(use.call.kind for use in uses)]
    layouts = {str(use.call.options.get("layout")) for use in uses}
    if kind == "fully_connected" and len(layouts) > 1:
        return "tied_weights"  # as those of an encoder and a decoder
    return kind


def _group(
    kind: LayerKind,
    params: tuple[str, ...],
    indices: list[int],
    record: Record,
    cases: Shape,
) -> Group:
    uses, of_bias = [record.uses[i] for i in indices], kind == "bias"
    rows = [leading(use, of_bias) for use in uses]
    orders = orders_in(record, indices, of_bias)
    found = foldings(rows, cases, orders)
    count = math.prod(cases)
    joint = any(how.cases != count for how in found)
    # Rows of another number of cases may be of yet another in the next batch.
    shared = joint or len(uses) > 1 or any(how.uses > 1 for how in found)
    sized = kind in _CONVOLUTIONS and len(_sizes(uses)) > 1
    shared = shared and not sized
    return Group(kind, params, tuple(indices), shared, joint, sized, orders)


def _sizes(uses: list[Use]) -> set[tuple[int, ...]]:
    """Return the shapes of the images that a convolution takes."""
    return {tuple(use.call.inputs.shape[-use.call.axes :]) for use in uses}


def _own_bias(
    kind: LayerKind,
    uses: list[Use],
    biases: Mapping[str, list[int]],
    indices: list[int],
    record: Record,
) -> str:
    """Return the bias that all uses of a weight add, and no other layer does."""
    if kind == "tied_weights":
        of_rows = {"layout": "out_in"}
        indices = [i for i in indices if record.uses[i].call.options == of_rows]
        uses = [record.uses[i] for i in indices]
    (name, *others) = {use.bias for use in uses} or {""}
    if others or not name or name in record.elsewhere:
        return ""
    return name if set(biases[name]) <= set(indices) else ""


def _obstacle(name: str, uses: list[Use], record: Record, cases: Shape) -> str:
    """Return why no block stands for these uses of a weight, or an empty text."""
    found = _obstacle_at_all(name, uses, record)
    if found:
        return found
    kinds = {use.call.kind for use in uses}
    if frozenset(kinds) not in _KINDS:
        return f"is shared by unlike layers: {', '.join(sorted(kinds))}"
    if kinds <= _CONVOLUTIONS:
        if any(use.call.options != uses[0].call.options for use in uses):
            return "is used by convolutions of several geometries"
        hows = foldings([leading(use) for use in uses], cases)
        single = Folding(1, math.prod(cases), 1)
        if len(_sizes(uses)) > 1 and any(how != single for how in hows):
            return "is used for images of several sizes, several of one for each case"
    if kinds == {"embedding"} and any(
        u.call.options != uses[0].call.options for u in uses
    ):
        return "is used by embeddings of several padding_idx, or in bags and singly"
    bags = any("negative_ids_are_padding" in use.call.options for use in uses)
    columns = any(
        "layout" in u.call.options for u in uses if u.call.kind == "embedding"
    )
    if "linear" in kinds and (bags or columns):
        return f"is tied, and used {'in bags' if bags else 'by columns'}"
    return ""


def _obstacle_at_all(name: str, uses: list[Use], record: Record) -> str:
    """Return what neither a weight nor a bias may have, or an empty text."""
    if name in record.elsewhere:
        return f"is a layer's, and used by {record.elsewhere[name]} as well"
    for use in uses:
        if use.call.refused:
            article = "an" if use.call.kind == "embedding" else "a"
            return f"is of {article} {use.call.kind}: {use.call.refused}"
    return ""
