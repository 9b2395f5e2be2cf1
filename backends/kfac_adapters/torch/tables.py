"""`Table`: the layers of a model as a pass tells them, and those of all ranks.

A rank whose cases reach no layer of some parameters, as those of a router may not reach
an expert, cannot tell what that layer is. Another rank can: the layers of all are the
union. Where two ranks tell the same layer differently, no batch has both.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, NamedTuple

import torch

from kfac_adapters.coverage import check_all_covered
from kfac_adapters.torch.groups import UNSEEN, Group
from kfac_adapters.torch.made import MadeWeight, with_made
from kfac_adapters.torch.widening import is_wider
from kfac_core.errors import StateError
from kfac_core.layer_collection import LayerCollection, LayerRegistration
from kfac_core.layer_collection.parts import Part, owners

Shape = tuple[tuple[int, ...], torch.dtype]
"""Shape and dtype of an array."""


@dataclass(frozen=True)
class Table:
    """The layers of a model, as one pass or several tell them.

    Attributes:
        collection: The layers and the loss.
        groups: The layers, by their uses.
        left: For each parameter that no layer covers, why.
        made: Weights that the model makes of parameters.
        names: Names of the parameters that are trained.
        blank: For each site the shapes of one row of its inputs, and of gradients for
            its outputs; None: it has no inputs.
        is_whole: Whether no other rank can tell more.
        wide: The layers of one use for each case as they would be registered for any
            number of uses, by their parameters.
    """

    collection: LayerCollection
    groups: tuple[Group, ...]
    left: Mapping[str, str]
    made: tuple[MadeWeight, ...]
    names: tuple[str, ...]
    blank: Mapping[str, tuple[Shape | None, Shape | None]]
    is_whole: bool
    wide: Mapping[tuple[str, ...], LayerRegistration] = field(default_factory=dict)

    @property
    def unseen(self) -> frozenset[str]:
        """Names of the parameters that no pass has used."""
        return frozenset(name for name, why in self.left.items() if why == UNSEEN)

    @property
    def known(self) -> Iterator[tuple[Group, LayerRegistration]]:
        """The layers that passes used, each by its uses and as it is registered."""
        by_params = {group.params: group for group in self.groups}
        for layer in self.collection.layers:
            if layer.params in by_params:
                yield by_params[layer.params], layer

    @property
    def covered(self) -> frozenset[str]:
        """Names of the parameters that layers cover, those of made weights too."""
        params = [name for group in self.groups for name in group.params]
        whole = {*owners(self.collection.parts, params)}
        of_made = [own.parts for own in self.made if own.name in whole]
        return frozenset(whole.union(*of_made))


def joined(
    tables: Mapping[str, Table],
    policy: str,
    params: Mapping[str, torch.Tensor],
    waits: bool,
    kinds: Mapping[str, str],
) -> Table:
    """Return the table of all layers that some passes tell.

    Args:
        tables: What each tells, by its name in messages; at least one.
        policy: What becomes of parameters that no layer covers.
        params: The trained parameters.
        waits: Whether parameters that none of them uses are left to others.
        kinds: As in `kfac_adapters.torch.building.table_of`.

    Returns:
        The table; the same, whichever of the parties asks.

    Raises:
        StateError: If two tell the same layer, or the loss, differently.
        RegistrationError: If no layer covers a parameter, and that is refused.
    """
    first, *_ = tables.values()
    _check_losses(tables)
    parts = _parts(tables)
    layers = _layers(tables, kinds)
    left = _left(tables)
    final = {n: why for n, why in left.items() if not (waits and why == UNSEEN)}
    if policy == "error":
        check_all_covered(final, ", or freeze them with requires_grad_(False)")
    made = {own.name: own for table in tables.values() for own in table.made}
    shapes = {n: tuple(x.shape) for n, x in with_made(made.values(), params).items()}
    diagonal = [*final] if policy == "diagonal" else []
    own_names = [n for t in tables.values() for n, _ in t.collection.variables]
    variables = dict.fromkeys(n for n in (*own_names, *diagonal) if n in shapes)
    collection = replace(
        first.collection,
        variables=tuple((name, shapes[name]) for name in variables),
        layers=tuple(own.layer for own in layers),
        parts=parts,
    )
    for name in diagonal:
        collection = collection.register_generic(name, approx="diagonal")
    return Table(
        collection,
        tuple(own.group for own in layers),
        left,
        tuple(made.values()),
        first.names,
        {site: row for own in layers for site, row in own.blank.items()},
        is_whole=len(final) == len(left),
        wide={n: own for t in tables.values() for n, own in t.wide.items()},
    )


class _Told(NamedTuple):
    """A layer as one tells it: who, its uses, how it is registered, and its rows."""

    by: str
    group: Group
    layer: LayerRegistration
    blank: Mapping[str, tuple[Shape | None, Shape | None]]

    def widened(self, wide: LayerRegistration | None) -> "_Told":
        """Return the layer for any number of uses, if there is a block for these."""
        if wide is None or not is_wider(wide.block, self.layer.block):
            return self
        rows = {s: (_of_a_use(x), _of_a_use(g)) for s, (x, g) in self.blank.items()}
        return _Told(self.by, replace(self.group, shared=True), wide, rows)


def _layers(tables: Mapping[str, Table], kinds: Mapping[str, str]) -> list[_Told]:
    """Return the layers of all.

    Raises:
        StateError: If two tell a layer differently.
    """
    found: dict[tuple[str, ...], _Told] = {}
    by_param: dict[str, _Told] = {}
    for who, table in tables.items():
        for group, layer in table.known:
            rows = {site: table.blank[site] for site in layer.sites}
            own = _Told(who, group, layer, rows)
            is_saved = kinds.get(layer.name) == type(layer.block).__name__
            unseen = any(layer.params[0] in other.unseen for other in tables.values())
            if unseen and not is_saved:
                # The next cases may reach it as unevenly as these.
                own = own.widened(table.wide.get(layer.params))
            others = [by_param[name] for name in layer.params if name in by_param]
            known = found.get(layer.params, next(iter(others), own))
            if is_wider(known.layer.block, own.layer.block):
                own = known
            elif known.layer != own.layer and not is_wider(
                own.layer.block, known.layer.block
            ):
                blocks = known.layer.block, own.layer.block
                told = _differences(*blocks)
                raise StateError(unlike(repr(layer.name), known.by, who, *told))
            joint = known.group.joint or group.joint
            own = own._replace(group=replace(own.group, joint=joint))
            found[layer.params] = own
            by_param |= dict.fromkeys(layer.params, own)
    return [*found.values()]


def _left(tables: Mapping[str, Table]) -> dict[str, str]:
    """Return why no layer of any covers a parameter.

    Raises:
        StateError: If a layer of one covers what another uses otherwise.
    """
    left: dict[str, tuple[str, str]] = {}
    for who, table in tables.items():
        for name, why in table.left.items():
            if why != UNSEEN or name not in left:
                left[name] = who, why
    covered = {name: who for who, table in tables.items() for name in table.covered}
    for name in covered.keys() & left.keys():
        who, why = left.pop(name)
        if why != UNSEEN:
            told = "of a layer", f"one that {why}"
            raise StateError(unlike(repr(name), covered[name], who, *told))
    return {name: why for name, (_, why) in left.items()}


def _parts(tables: Mapping[str, Table]) -> tuple[Part, ...]:
    """Return the parts of parameters, which all tell alike.

    Raises:
        StateError: If two tell other parts of a parameter, or one has the whole of it.
    """
    found: dict[str, tuple[str, tuple[Part, ...]]] = {}
    for who, table in tables.items():
        own: dict[str, tuple[Part, ...]] = dict.fromkeys(table.covered, ())
        for part in table.collection.parts:
            own[part.param] = (*own.get(part.param, ()), part)
        for name, parts in own.items():
            by, known = found.setdefault(name, (who, parts))
            if known != parts:
                told = [
                    f"in the parts {[part.name for part in each]}" if each else "whole"
                    for each in (known, parts)
                ]
                raise StateError(unlike(repr(name), by, who, *told))
    return tuple(part for _, parts in found.values() for part in parts)


def _check_losses(tables: Mapping[str, Table]) -> None:
    """Check that all have one loss.

    Raises:
        StateError: If two have not.
    """
    (by, first), *others = tables.items()
    for who, table in others:
        both = first.collection.losses, table.collection.losses
        if both[0] != both[1]:
            own, other = (repr(losses[0].loss) for losses in both)
            what = "the loss"
            raise StateError(unlike(what, by, who, own, other))


def _differences(block: Any, other: Any) -> tuple[str, str]:
    """Return two blocks in words, by the fields in which they differ."""
    of_each: list[dict[str, Any]] = [
        {x.name: getattr(own, x.name) for x in fields(own) if x.repr}
        for own in (block, other)
    ]
    told = []
    for own, known, unlike_own in (
        (block, *of_each),
        (other, *of_each[::-1]),
    ):
        rest = {n: x for n, x in known.items() if unlike_own.get(n, x) != x}
        listed = ", ".join(f"{name}={x!r}" for name, x in rest.items())
        told.append(f"a {type(own).__name__}({listed})")
    return told[0], told[1]


def _of_a_use(row: Shape | None) -> Shape | None:
    return None if row is None else ((1, *row[0]), row[1])


def unlike(what: str, by: str, who: str, known: str, other: str) -> str:
    """Return the message for ranks that tell something differently."""
    return (
        f"ranks have other layers than each other: {what} is {known} on {by}, and"
        f" {other} on {who}; make the model and its options alike on all ranks, and let"
        " the first batch of each use a layer as those of the others do, or not at all"
    )


def named(tables: Sequence[Table | None]) -> dict[str, Table]:
    """Return the tables of ranks by their names in messages."""
    return {
        f"rank {rank}": table for rank, table in enumerate(tables) if table is not None
    }
