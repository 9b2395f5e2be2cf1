"""`CheckedLinearization`: checks of what a model gives, with errors that name it.

An adapter makes a linearization, and its author tests the adapter by using it. So every
answer of a linearization gets the checks that cost nothing: that there is an answer,
and that it is a mapping of arrays of one library, with the registered names and shapes.
The layer's block and the loss check rows and values where they use them.
"""

from collections.abc import Collection, Mapping
from typing import Any

from kfac_core.arguments.arrays import backend_for, check_shape, statistics_dtype
from kfac_core.errors import ArgumentError, DTypeError, ShapeError
from kfac_core.layer_collection import LayerCollection
from kfac_core.linalg.named import as_named, check_named
from kfac_core.linearization import NamedLossInputs, NamedParams
from kfac_core.loss_functions.positions import input_arrays
from kfac_core.typing import Array

LABEL = "linearization"


class CheckedLinearization:
    """A `kfac_core.linearization.SecondOrderLinearization` whose answers are checked.

    Args:
        collection: The layers and losses.
        given: What the model gave.
    """

    def __init__(self, collection: LayerCollection, given: Any) -> None:
        self._collection, self._given = collection, given
        self._masks_are_checked = False

    @property
    def batch_size(self) -> int:
        """Number of cases, as it is given; see `registered_losses.batch_size_of`."""
        size: int = self._member("batch_size")
        return size

    @property
    def layer_inputs(self) -> Mapping[str, Array]:
        """The inputs of each site of a layer, which the layer's block checks."""
        return self._mapping("layer_inputs")

    @property
    def loss_inputs(self) -> NamedLossInputs:
        """What each loss takes, which the loss checks."""
        return self._mapping("loss_inputs")

    @property
    def targets(self) -> Mapping[str, Array]:
        """The targets of the losses, which they check."""
        return self._mapping("targets")

    @property
    def masks(self) -> Mapping[str, Array]:
        """The weights of rows, for losses and layers, which are checked only once."""
        # It is not kept, since arrays made in a branch of a trace end with the branch.
        masks = self._mapping("masks")
        if not self._masks_are_checked:
            _check_masks(masks)
            self._masks_are_checked = True
        return masks

    @property
    def row_counts(self) -> Mapping[str, Array]:
        """How much rows count where they are not those of cases; often none."""
        if not hasattr(self._given, "row_counts"):
            return {}
        return self._mapping("row_counts")

    @property
    def is_shard(self) -> bool:
        """Whether it is a `kfac_core.linearization.ShardLinearization`."""
        return hasattr(self._given, "mean_of_shards")

    @property
    def num_cases(self) -> int:
        """Number of cases of all shards, or of the batch."""
        size: int = self._member("num_cases") if self.is_shard else self.batch_size
        return size

    def mean_of_shards(self, numbers: Array) -> Array:
        """Return the mean over all shards of means over this one, ``[n]``."""
        mean: Array = self._member("mean_of_shards")(numbers)
        check_shape(mean, tuple(numbers.shape), "what mean_of_shards returns", LABEL)
        return mean

    @property
    def has_second_derivatives(self) -> bool:
        """Whether the model has `param_gradients_change`."""
        return hasattr(self._given, "param_gradients_change")

    def output_gradients(self, vectors: NamedLossInputs) -> Mapping[str, Array]:
        """Return gradients for the outputs of the layers, which their blocks check."""
        return self._called("output_gradients", vectors)

    def param_gradients(
        self, vectors: NamedLossInputs, names: Collection[str] | None = None
    ) -> NamedParams:
        """Return gradients for the parameters, with names and shapes checked."""
        if names is None:
            return self._of_params("param_gradients", vectors)
        method, shapes = "param_gradients", dict(self._collection.variables)
        found = self._called(method, vectors, names)
        chosen = {name: found[name] for name in names if name in found}
        check_named(chosen, {name: shapes[name] for name in names}, method, LABEL)
        return chosen

    def param_gradients_change(
        self, vectors: NamedLossInputs, tangents: NamedParams
    ) -> NamedParams:
        """Return the change of these gradients, with names and shapes checked."""
        return self._of_params("param_gradients_change", vectors, tangents)

    def push_forward(self, tangents: NamedParams) -> NamedLossInputs:
        """Return the change of the loss inputs, with shapes checked."""
        method = "push_forward"
        pushed, given = self._called(method, tangents), self.loss_inputs
        for loss in self._collection.losses:
            for site in loss.towers:
                if site in given:  # that it is there, the losses check
                    _check_like(loss.name, site, method, pushed, given[site])
        return pushed

    def _of_params(self, method: str, *vectors: Any) -> NamedParams:
        gradients = self._called(method, *vectors)
        shapes = dict(self._collection.variables)
        check_named(gradients, shapes, method, LABEL)
        return gradients

    def _called(self, method: str, *vectors: Any) -> Mapping[str, Any]:
        function = self._member(method)
        if not callable(function):
            msg = (
                f"{LABEL}: {method} is a {type(function).__name__}, expected a method"
                f" of {type(self._given).__name__}"
            )
            raise ArgumentError(msg)
        return as_named(function(*vectors), f"what {method} returns", LABEL)

    def _mapping(self, name: str) -> Mapping[str, Any]:
        return as_named(self._member(name), name, LABEL)

    def _member(self, name: str) -> Any:
        try:
            return getattr(self._given, name)
        except AttributeError as error:
            msg = (
                f"{LABEL}: a {type(self._given).__name__} gives no {name}: {error};"
                " expected a kfac_core.linearization.Linearization, which"
                " Model.linearize returns"
            )
            raise ArgumentError(msg) from error


_WEIGHTS = ("bool", "integral", "real floating")


def _check_masks(masks: Mapping[str, Any]) -> None:
    """Check that weights are arrays of numbers with an axis of cases."""
    for site, mask in masks.items():
        name = f"masks[{site!r}]"
        backend = backend_for(LABEL, name, mask)
        if not backend.isdtype(mask.dtype, _WEIGHTS):
            msg = (
                f"{LABEL}: {name} has dtype {mask.dtype}, expected real numbers or"
                " booleans"
            )
            raise DTypeError(msg)
        if not mask.shape:
            msg = f"{LABEL}: {name} has shape (), expected [batch, ...]"
            raise ShapeError(msg)


def check_is_collection(value: object, argument: str, label: str) -> None:
    """Check that `value` is a collection of layers.

    Raises:
        ArgumentError: If it is not a collection.
    """
    if not isinstance(value, LayerCollection):
        msg = (
            f"{label}: {argument} is a {type(value).__name__}, expected a"
            " LayerCollection"
        )
        raise ArgumentError(msg)


def checked(collection: LayerCollection, linearization: Any) -> CheckedLinearization:
    """Return a linearization whose answers are checked.

    Args:
        collection: The layers and losses.
        linearization: What the model gave, or a linearization that is checked already.

    Returns:
        The linearization.
    """
    if isinstance(linearization, CheckedLinearization):
        return linearization
    return CheckedLinearization(collection, linearization)


def _check_like(
    loss: str, site: str, method: str, pushed: Mapping[str, Any], inputs: Any
) -> None:
    """Check that a change of the inputs of a loss has the structure of the inputs."""
    if site not in pushed:
        msg = (
            f"{loss}: {method} returns nothing for the loss site {site!r}, only for"
            f" {list(pushed)}"
        )
        raise ArgumentError(msg)
    argument, change = f"{method} at {site!r}", pushed[site]
    changes, arrays = input_arrays(change), input_arrays(inputs)
    if isinstance(change, tuple) != isinstance(inputs, tuple) or len(changes) != len(
        arrays
    ):
        wanted = (
            f"a tuple of {len(arrays)}" if isinstance(inputs, tuple) else "an array"
        )
        msg = (
            f"{loss}: {argument} is a {type(change).__name__}, expected {wanted}: the"
            " structure of its loss_inputs"
        )
        raise ShapeError(msg)
    for x, like in zip(changes, arrays, strict=True):
        backend = backend_for(loss, argument, x, like)
        check_shape(x, tuple(like.shape), argument, loss)
        statistics_dtype(backend, x, argument, loss)
