"""The entries of a `LayerCollection`: layers and losses."""

import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from numbers import Real
from typing import Any

from kfac_core.errors import ArgumentError, RegistrationError
from kfac_core.fisher_blocks import FisherBlock
from kfac_core.layer_collection.parts import Part
from kfac_core.layer_collection.sites import listed
from kfac_core.loss_functions import LossFunction
from kfac_core.typing import Array, Params

ParamNames = tuple[str, ...]
"""Names of the parameters of a layer: the weights, then the bias."""


@dataclass(frozen=True)
class LayerRegistration:
    """A layer: its parameters, the block of their Fisher, and where its data come from.

    A tower is a shard of the batch, such as the part of one device. If it has one site,
    the arrays of the site go to the block as they are. If it has several, these are the
    uses of the layer within a case, and their arrays go to the block as one
    `kfac_core.typing.Uses`.

    Attributes:
        params: Names of the parameters: the weights, then the bias.
        block: Spec of the layer's block.
        towers: For each tower the sites of its uses, in their order; none if the block
            takes the gradients for the parameters themselves.

    Example:
        >>> from kfac_core.layer_collection import LayerCollection
        >>> collection = LayerCollection.of({"w": (3, 2), "b": (2,)})
        >>> collection = collection.register_fully_connected(("w", "b"), site="dense")
        >>> layer, = collection.layers
        >>> layer.name, layer.sites, type(layer.block).__name__
        ('w+b', ('dense',), 'FullyConnectedKFACBasicFB')
    """

    params: ParamNames
    block: FisherBlock[Any]
    towers: tuple[tuple[str, ...], ...] = ()

    def __post_init__(self) -> None:
        """Check the fields, which registrations make.

        Raises:
            ArgumentError: If a field has the wrong form.
        """
        params: object = self.params
        check_field(
            self, "params", "a tuple of names", ok=_texts(params) and params != ()
        )
        ok = isinstance(self.block, FisherBlock)
        check_field(self, "block", "the spec of a FisherBlock", ok=ok)
        ok = is_tuple_of(self.towers, lambda tower: _texts(tower) and tower != ())
        check_field(self, "towers", "a tuple of tuples of sites", ok=ok)

    @property
    def name(self) -> str:
        """Name for messages: the name of the block."""
        return self.block.label

    @property
    def sites(self) -> tuple[str, ...]:
        """The sites of all towers, in order."""
        return tuple(site for tower in self.towers for site in tower)

    @property
    def num_uses(self) -> float:
        """How often the model uses the parameters; infinite if any number will do."""
        return len(self.sites) or math.inf


def vector_of(layer: LayerRegistration, named: Mapping[str, Array]) -> Params:
    """Return the arrays of a layer's parameters: one, or a tuple."""
    tensors = tuple(named[name] for name in layer.params)
    return tensors if len(tensors) > 1 else tensors[0]


@dataclass(frozen=True)
class LossRegistration:
    """A loss: its spec, its coefficient in the total, and where its inputs come from.

    Attributes:
        name: Name of the loss, which no other loss has.
        loss: Spec of the loss.
        coeff: What the loss is multiplied by in the total loss, and its Fisher in the
            total Fisher.
        towers: For each tower, the site of the loss's inputs.
        counting_all: The loss that ignores no target.

    Example:
        >>> from kfac_core.layer_collection import LayerCollection
        >>> collection = LayerCollection.of({"w": (3, 2)})
        >>> collection = collection.register_softmax_cross_entropy_loss("logits")
        >>> collection = collection.register_normal_predictive_distribution(
        ...     "mean", coeff=0.1
        ... )
        >>> [(loss.towers, loss.coeff) for loss in collection.losses]
        [(('logits',), 1.0), (('mean',), 0.1)]
    """

    name: str
    loss: LossFunction
    coeff: float
    towers: tuple[str, ...]
    counting_all: LossFunction = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check the fields, which registrations make.

        Raises:
            ArgumentError: If a field has the wrong form.
        """
        check_field(self, "name", "a name", ok=_texts((self.name,)))
        ok = isinstance(self.loss, LossFunction)
        check_field(self, "loss", "a LossFunction", ok=ok)
        ok = is_coefficient(self.coeff)
        check_field(self, "coeff", "a finite number that is not negative", ok=ok)
        check_field(self, "towers", "a tuple of sites", ok=_texts(self.towers))
        # With its name, errors tell which of two losses of one class they are about.
        loss = self.loss.called(self.name)
        object.__setattr__(self, "loss", loss)
        object.__setattr__(self, "counting_all", loss.counting_all())


def check_collection(collection: Any) -> None:
    """Check the fields of a collection, which functions make.

    Raises:
        ArgumentError: If a field has the wrong form.
    """

    def is_pair(value: Any, first: Any, second: Any) -> bool:
        is_two = isinstance(value, tuple) and len(value) == 2
        return is_two and isinstance(value[0], first) and isinstance(value[1], second)

    forms: dict[str, tuple[str, Callable[[Any], bool]]] = {
        "variables": ("names and shapes", lambda x: is_pair(x, str, tuple)),
        "layers": ("LayerRegistration", lambda x: isinstance(x, LayerRegistration)),
        "losses": ("LossRegistration", lambda x: isinstance(x, LossRegistration)),
        "links": ("linked sets", lambda x: is_pair(x, frozenset, str | None)),
        "defaults": ("kinds and approximations", lambda x: is_pair(x, str, str)),
        "parts": ("Part", lambda x: isinstance(x, Part)),
    }
    for name, (what, is_entry) in forms.items():
        ok = is_tuple_of(getattr(collection, name), is_entry)
        check_field(collection, name, f"a tuple of {what}; make it by `of`", ok=ok)


def check_field(record: object, field: str, expected: str, *, ok: bool) -> None:
    """Check a field of a record.

    Raises:
        ArgumentError: If `ok` is False.
    """
    if not ok:
        msg = (
            f"{type(record).__name__}: {field} is {getattr(record, field)!r}, expected"
            f" {expected}"
        )
        raise ArgumentError(msg)


def is_tuple_of(value: object, is_entry: Callable[[Any], bool]) -> bool:
    """Return whether `value` is a tuple of such entries."""
    return isinstance(value, tuple) and all(map(is_entry, value))


def is_coefficient(value: object) -> bool:
    """Return whether a loss can be multiplied by `value`."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return False
    return 0 <= value <= sys.float_info.max  # type: ignore[operator]


def _texts(value: object) -> bool:
    return is_tuple_of(value, lambda text: isinstance(text, str) and text != "")


def check_block(block: object, label: str) -> None:
    """Check that a layer is registered with a block.

    Raises:
        ArgumentError: If it is anything else.
    """
    if not isinstance(block, FisherBlock):
        msg = f"{label}: block is {block!r}, expected the spec of a FisherBlock"
        raise ArgumentError(msg)


def check_same_block(
    layer: LayerRegistration,
    block: FisherBlock[Any],
    tower: tuple[str, ...],
    label: str,
) -> None:
    """Check that a registered layer can have one more tower.

    Args:
        layer: The layer.
        block: The block that the tower is registered with.
        tower: Its sites; none if the block takes the gradients for the parameters.
        label: Name of the layer, for the message.

    Raises:
        RegistrationError: If the block is another, or has sites where the layer has
            none.
    """
    old = layer.block
    if replace(block, name=old.name) != old:
        same_class = type(block) is type(old)
        differing = [
            f"{f.name} {getattr(old, f.name)!r} and {getattr(block, f.name)!r}"
            for f in fields(block)
            if same_class
            and f.compare
            and f.name != "name"
            and getattr(old, f.name) != getattr(block, f.name)
        ]
        what = differing or [f"{type(old).__name__} and {type(block).__name__}"]
        msg = (
            f"{label}: a tower must have the block that the layer is registered with,"
            f" but these differ: {'; '.join(what)}"
        )
        raise RegistrationError(msg)
    if bool(tower) != bool(layer.towers):
        msg = (
            f"{label}: the layer is registered with the sites {listed(layer.sites)},"
            f" and now with {listed(tower)}; give a site each time, or never"
        )
        raise RegistrationError(msg)
