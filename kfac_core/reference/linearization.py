"""A small network as a model that K-FAC can train: named parameters, linearized."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from kfac_core.arguments.arrays import backend_for
from kfac_core.errors import ArgumentError, ShapeError
from kfac_core.layer_collection import LayerCollection
from kfac_core.linearization import NamedLossInputs, NamedParams
from kfac_core.loss_functions import LossFunction
from kfac_core.reference.blocks import block_for
from kfac_core.reference.checked import check_class
from kfac_core.reference.layer import Tensors
from kfac_core.reference.network import Sequential
from kfac_core.reference.passes import Forward, NetworkParams
from kfac_core.spec.quiet import Quiet
from kfac_core.typing import Array, Key

LOSS_SITE = "outputs"
"""The site of the loss's inputs, which are the network's outputs."""


class Batch(NamedTuple):
    """Data of some cases.

    Attributes:
        inputs: Inputs of the network, ``[batch, ...]``.
        targets: Targets of the loss, ``[batch, ...]``; None where none are needed.
        mask: A weight for each case, ``[batch]``; None: one.

    Example:
        >>> import numpy as np
        >>> from kfac_core.loss_functions import NormalMeanNegativeLogProbLoss
        >>> from kfac_core.reference import Dense, Sequential
        >>> model = SequentialModel(Sequential((Dense(1, 1, has_bias=False),)))
        >>> x, mask = np.ones((2, 1)), np.asarray([1.0, 0.0])
        >>> batch = Batch(x, targets=0 * x, mask=mask)  # the second case is padding
        >>> at = model.linearize({"dense_0/weights": np.ones((1, 1))}, batch)
        >>> loss = NormalMeanNegativeLogProbLoss(var=1.0)
        >>> loss.gradient(at.loss_inputs["outputs"], batch.targets, batch.mask)
        array([[1.],
               [0.]])
    """

    inputs: Array
    targets: Array | None = None
    mask: Array | None = None


@dataclass(frozen=True)
class SequentialModel(Quiet):
    """A network whose parameters are named ``dense_0/weights``, ``dense_0/bias``, ...

    The number counts the layers with parameters; ``dense_0`` is the layer's site, and
    ``outputs`` is the site of the loss.

    Attributes:
        network: The network.

    Example:
        >>> import numpy as np
        >>> from kfac_core.loss_functions import CategoricalLogitsNegativeLogProbLoss
        >>> from kfac_core.reference import Dense, Sequential, Tanh
        >>> model = SequentialModel(Sequential((Dense(2, 3), Tanh(), Dense(3, 2))))
        >>> rng = np.random.default_rng(0)
        >>> batch = Batch(rng.normal(size=(5, 2)), rng.integers(2, size=5))
        >>> params = model.init(rng, like=batch.inputs)
        >>> list(params)
        ['dense_0/weights', 'dense_0/bias', 'dense_1/weights', 'dense_1/bias']
        >>> linearization = model.linearize(params, batch)
        >>> logits = linearization.loss_inputs["outputs"]
        >>> loss = CategoricalLogitsNegativeLogProbLoss()
        >>> vectors = {"outputs": loss.gradient(logits, batch.targets)}
        >>> linearization.param_gradients(vectors)["dense_0/weights"].shape
        (2, 3)
    """

    network: Sequential

    def __post_init__(self) -> None:
        """Check the network.

        Raises:
            ArgumentError: If it is not a network.
        """
        check_class(self.network, Sequential, "network", "SequentialModel")

    @property
    def sites(self) -> tuple[str, ...]:
        """The site of each layer with parameters, in order."""
        return tuple(
            f"{layer.label.lower()}_{index}"
            for index, layer in enumerate(self.network.param_layers)
        )

    @property
    def names(self) -> tuple[tuple[str, ...], ...]:
        """The names of the parameters of each layer that has any, in order."""
        return tuple(
            tuple(
                f"{site}/{kind}"
                for kind, _ in zip(
                    ("weights", "bias"), layer.param_shapes, strict=False
                )
            )
            for site, layer in zip(self.sites, self.network.param_layers, strict=True)
        )

    def init(self, key: Key, like: Array) -> dict[str, Array]:
        """Draw the parameters; arguments and errors as in `Sequential.init`."""
        return self.named(self.network.init(key, like))

    def named(self, params: NetworkParams) -> dict[str, Array]:
        """Return parameters, gradients or tangents by name."""
        self.network.paired(params)
        for names, tensors in zip(self.names, params, strict=True):
            given: object = tensors
            if not isinstance(given, tuple | list) or len(tensors) != len(names):
                msg = f"SequentialModel: params are {given!r}, expected arrays {names}"
                raise ShapeError(msg)
        return {
            name: tensor
            for names, tensors in zip(self.names, params, strict=True)
            for name, tensor in zip(names, tensors, strict=True)
        }

    def unnamed(self, params: NamedParams) -> NetworkParams:
        """Return parameters, gradients or tangents in the network's structure.

        Raises:
            ArgumentError: If one is missing, or of another network.
        """
        expected = [name for names in self.names for name in names]
        given: object = params
        own = params if isinstance(given, Mapping) else {}
        if set(own) != set(expected):
            got = list(own) if own else f"a {type(given).__name__}"
            msg = (
                f"SequentialModel: params: got the parameters {got}, expected"
                f" {expected}"
            )
            raise ArgumentError(msg)
        return tuple(tuple(params[name] for name in names) for names in self.names)

    def layer_collection(
        self, loss: LossFunction, coeff: float = 1.0, **options: Any
    ) -> LayerCollection:
        """Return a collection with the Kronecker block of each layer, and a loss.

        Args:
            loss: The loss of the outputs.
            coeff: What the loss is multiplied by.
            **options: Fields of the blocks, such as ``damping_type``.

        Returns:
            The collection.
        """
        layers = self.network.param_layers
        shapes = {
            name: shape
            for names, layer in zip(self.names, layers, strict=True)
            for name, shape in zip(names, layer.param_shapes, strict=True)
        }
        collection = LayerCollection.of(shapes)
        for names, site, layer in zip(self.names, self.sites, layers, strict=True):
            block = block_for(layer, **{"name": site, **options})
            collection = collection.register_block(names, block, site=site)
        return collection.register_loss_function(loss, LOSS_SITE, coeff=coeff)

    def linearize(self, params: NamedParams, batch: Batch) -> "SequentialLinearization":
        """Return the network at these parameters and this batch.

        Raises:
            ArgumentError: If a parameter is missing, or of another network; or if
                `batch` is not a batch.
            BackendError: If the inputs are not an array, or of another library.
            ShapeError: If inputs or parameters have another shape than a layer takes.
        """
        check_class(batch, Batch, "batch", "SequentialModel")
        own = self.unnamed(params)
        tensors = [tensor for layer in own for tensor in layer]
        backend_for("SequentialModel", "batch.inputs, params", batch.inputs, *tensors)
        return SequentialLinearization(
            self, own, self.network.forward(own, batch.inputs), batch
        )


@dataclass(frozen=True)
class SequentialLinearization(Quiet):
    """A network at some parameters and a batch; see `SequentialModel.linearize`.

    Attributes:
        model: The network.
        params: Its parameters.
        forward: The forward pass with these parameters.
        batch: The data.

    Example:
        >>> import numpy as np
        >>> from kfac_core.reference import Dense, Sequential, Tanh
        >>> model = SequentialModel(Sequential((Dense(1, 1, has_bias=False), Tanh())))
        >>> params = {"dense_0/weights": np.zeros((1, 1))}
        >>> at = model.linearize(params, Batch(np.asarray([[2.0]])))
        >>> at.output_gradients({"outputs": np.ones((1, 1))})  # tanh'(0) = 1
        {'dense_0': array([[1.]])}
        >>> at.param_gradients({"outputs": np.ones((1, 1))})
        {'dense_0/weights': array([[2.]])}
    """

    model: SequentialModel
    params: NetworkParams
    forward: Forward
    batch: Batch

    @property
    def batch_size(self) -> int:
        """Number of cases."""
        return self.forward.outputs.shape[0]

    @property
    def layer_inputs(self) -> Mapping[str, Array]:
        """The inputs of each layer with parameters."""
        return dict(zip(self.model.sites, self.forward.inputs, strict=True))

    @property
    def loss_inputs(self) -> NamedLossInputs:
        """The outputs of the network."""
        return {LOSS_SITE: self.forward.outputs}

    @property
    def targets(self) -> Mapping[str, Array]:
        """The targets of the batch, if there are any."""
        targets = self.batch.targets
        return {} if targets is None else {LOSS_SITE: targets}

    @property
    def masks(self) -> Mapping[str, Array]:
        """The mask of the batch, if there is one."""
        return {} if self.batch.mask is None else {LOSS_SITE: self.batch.mask}

    def output_gradients(self, vectors: NamedLossInputs) -> Mapping[str, Array]:
        """Return gradients for the outputs of each layer; see `Linearization`."""
        gradients = self.model.network.output_gradients(
            self.params, self.forward, _at_outputs(vectors)
        )
        return dict(zip(self.model.sites, gradients, strict=True))

    def param_gradients(
        self, vectors: NamedLossInputs, names: Collection[str] | None = None
    ) -> dict[str, Array]:
        """Return gradients for the parameters, summed; see `Linearization`."""
        g = _at_outputs(vectors)
        backward = self.model.network.backward(self.params, self.forward, g)
        gradients = self.model.named(backward.param_gradients)
        return gradients if names is None else {name: gradients[name] for name in names}

    def push_forward(self, tangents: NamedParams) -> NamedLossInputs:
        """Return the change of the outputs; see `Linearization`."""
        change = self.model.network.push_forward(
            self.params, self.forward, self.model.unnamed(tangents)
        )
        return {LOSS_SITE: change}

    def param_gradients_change(
        self, vectors: NamedLossInputs, tangents: NamedParams
    ) -> dict[str, Array]:
        """Return second derivatives; see `SecondOrderLinearization`.

        The forward pass is differentiated layer by layer, then the backward pass is,
        as a program of its own (Pearlmutter, 1994).
        """
        network, moved = self.model.network, self.model.unnamed(tangents)
        layers = []
        dx: Array | None = None
        for (layer, own), (_, tangent), cache in zip(
            network.paired(self.params),
            network.paired(moved),
            self.forward.caches,
            strict=True,
        ):
            layers.append((layer, own, tangent, cache, dx))
            dx = layer.push_forward(own, cache, tangent, dx)
        changes: list[Tensors] = []
        g, dg = _at_outputs(vectors), None
        for layer, own, tangent, cache, dx in reversed(layers):
            if own:
                changes.append(layer.param_gradients_change(cache, dx, g, dg))
                if len(changes) == len(self.params):
                    break  # nothing before it has parameters
            dg = layer.backward_change(own, cache, tangent, dx, g, dg)
            g = layer.backward(own, cache, g)
        return self.model.named(tuple(reversed(changes)))


def _at_outputs(vectors: NamedLossInputs) -> Array:
    """Return the one vector at the network's outputs."""
    given: object = vectors
    if not isinstance(given, Mapping) or LOSS_SITE not in given:
        got = list(given) if isinstance(given, Mapping) else f"a {type(given).__name__}"
        msg = f"SequentialModel: vectors are {got}, expected one at {LOSS_SITE!r}"
        raise ArgumentError(msg)
    vector = vectors[LOSS_SITE]
    if isinstance(vector, tuple):
        msg = (
            f"SequentialModel: vectors: that at {LOSS_SITE!r} is a tuple of"
            f" {len(vector)} arrays, expected one array: the network has one output"
        )
        raise ShapeError(msg)
    backend_for("SequentialModel", "vectors", vector)
    return vector
