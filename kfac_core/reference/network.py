"""`Sequential`: one layer after another, with the derivatives of the whole."""

import math
from dataclasses import dataclass
from typing import Any

from kfac_core.arguments.arrays import backend_for, check_shape
from kfac_core.errors import ShapeError
from kfac_core.linalg.parameters import params_to_vector
from kfac_core.reference.checked import (
    as_index,
    check_class,
    check_layers,
    check_reals,
)
from kfac_core.reference.layer import Layer, Tensors, normals_for
from kfac_core.reference.passes import Backward, Forward, NetworkParams
from kfac_core.registry import backend_of
from kfac_core.typing import Array, Key


@dataclass(frozen=True)
class Sequential:
    """One layer after another.

    Whatever there is one of for each layer (parameters, inputs, gradients) is listed
    for the layers with parameters alone, in order; a ``layer`` is an index into these.
    As one vector, parameters stand layer by layer, each as in
    `kfac_core.linalg.parameters`: the weights row-major, then the bias.

    Attributes:
        layers: The layers; an embedding can only be the first.

    Example:
        >>> import numpy as np
        >>> from kfac_core.loss_functions import CategoricalLogitsNegativeLogProbLoss
        >>> from kfac_core.reference import Dense, Tanh
        >>> rng = np.random.default_rng(0)
        >>> x, targets = rng.normal(size=(5, 4)), rng.integers(3, size=5)
        >>> network = Sequential((Dense(4, 6), Tanh(), Dense(6, 3)))
        >>> params = network.init(rng, like=x)
        >>> forward = network.forward(params, x)
        >>> loss = CategoricalLogitsNegativeLogProbLoss()
        >>> g = loss.gradient(forward.outputs, targets)
        >>> backward = network.backward(params, forward, g)
        >>> [g.shape for g in backward.output_gradients]
        [(5, 6), (5, 3)]
        >>> [tuple(p.shape for p in layer) for layer in backward.param_gradients]
        [((4, 6), (6,)), ((6, 3), (3,))]
        >>> network.case_gradients(params, forward, g).shape
        (5, 51)
    """

    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        """Make a list of layers a tuple: specs are hashable.

        Raises:
            ArgumentError: If it holds anything but layers.
        """
        check_layers(self.layers)
        object.__setattr__(self, "layers", tuple(self.layers))

    @property
    def param_layers(self) -> tuple[Layer, ...]:
        """The layers with parameters, in order."""
        return tuple(layer for layer in self.layers if layer.param_shapes)

    @property
    def num_params(self) -> int:
        """Number of entries of all parameters."""
        return sum(layer.num_params for layer in self.layers)

    def init(self, key: Key, like: Array) -> NetworkParams:
        """Draw the parameters of all layers; arguments and errors as in `Layer.init`.

        One draw for all layers, cut in pieces: no key is used twice.

        Args:
            key: What the array library draws from.
            like: Array that gives library, device and dtype.

        Returns:
            The parameters of each layer that has any.
        """
        normals = normals_for(key, like, self.num_params, "Sequential")
        return tuple(
            layer.init_from(normals[start : start + layer.num_params])
            for start, layer in zip(self._starts(), self.param_layers, strict=True)
        )

    def forward(self, params: NetworkParams, x: Array) -> Forward:
        """Return the outputs for inputs ``[batch, ..]``, and what derivatives need.

        Args:
            params: The parameters of each layer that has any.
            x: Inputs of the first layer.

        Returns:
            The forward pass.

        Raises:
            ShapeError: If inputs or parameters have another shape than a layer takes.
        """
        backend_for("Sequential", "x", x)
        inputs, caches = [], []
        for layer, own in self.paired(params):
            if own:
                inputs.append(x)
            x, cache = layer.forward(own, x)
            caches.append(cache)
        return Forward(x, tuple(inputs), tuple(caches))

    def output_gradients(
        self, params: NetworkParams, forward: Forward, g_outputs: Array
    ) -> tuple[Array, ...]:
        """Return each case's gradient for the outputs of each layer with parameters.

        Args:
            params: The parameters.
            forward: The forward pass with these.
            g_outputs: Gradient for the network's outputs, ``[batch, outputs]``: of the
                summed loss, one row a case.

        Returns:
            The gradients, each of the shape of its layer's outputs.

        Raises:
            ShapeError: If the gradient is not of the shape of the outputs.
        """
        check_class(forward, Forward, "forward", "Sequential")
        pairs = self.paired(params)
        for layer, own in pairs:  # not all of them are asked below
            layer.check_params(own)
        backend_for(
            "Sequential",
            "g_outputs, forward, params",
            *(g_outputs, forward.outputs),
            *(tensor for _, own in pairs for tensor in own),
        )
        passed = zip(pairs, forward.caches, strict=True)
        expected = tuple(forward.outputs.shape)
        check_shape(g_outputs, expected, "g_outputs", "Sequential")
        gradients: list[Array] = []
        g = g_outputs
        for (layer, own), cache in reversed(list(passed)):
            if own:
                gradients.append(g)
                if len(gradients) == len(forward.inputs):
                    break  # nothing before it asks for a gradient
            g = layer.backward(own, cache, g)
        return tuple(reversed(gradients))

    def backward(
        self, params: NetworkParams, forward: Forward, g_outputs: Array
    ) -> Backward:
        """Return the gradients for outputs and parameters of each layer with any.

        Arguments and errors are those of `output_gradients`.

        Returns:
            The backward pass.
        """
        gradients = self.output_gradients(params, forward, g_outputs)
        of_params = tuple(
            layer.param_gradients(cache, g)
            for layer, cache, g in zip(
                self.param_layers, self._param_caches(forward), gradients, strict=True
            )
        )
        return Backward(forward.inputs, gradients, of_params)

    def case_gradients(
        self,
        params: NetworkParams,
        forward: Forward,
        g_outputs: Array,
        layer: int | None = None,
    ) -> Array:
        """Return each case's gradient for the parameters, as rows of a matrix.

        Args:
            params: The parameters.
            forward: The forward pass with these.
            g_outputs: Gradient for the network's outputs, ``[batch, outputs]``.
            layer: Index of one layer with parameters; None: all.

        Returns:
            ``[batch, num_params]``, of the layer or of the network.
        """
        index = as_index(layer, len(self.param_layers), "Sequential")
        gradients = self.output_gradients(params, forward, g_outputs)
        xp = backend_of(g_outputs).xp
        triples = list(
            zip(self.param_layers, self._param_caches(forward), gradients, strict=True)
        )
        batch = g_outputs.shape[0]
        parts = [
            xp.reshape(tensor, (batch, math.prod(tensor.shape[1:])))
            for spec, cache, g in (triples if index is None else [triples[index]])
            for tensor in spec.case_gradients(cache, g)
        ]
        return xp.concat(parts, axis=1)

    def jacobian(
        self, params: NetworkParams, x: Array, layer: int | None = None
    ) -> Array:
        """Return the derivative of every output by every parameter, for each case.

        Args:
            params: The parameters.
            x: Inputs.
            layer: Index of one layer with parameters; None: all.

        Returns:
            ``[batch, outputs, num_params]``, of the layer or of the network.
        """
        forward = self.forward(params, x)
        backend = backend_of(forward.outputs)
        xp, outputs = backend.xp, forward.outputs
        device = backend.creation_device(outputs)
        eye = xp.eye(outputs.shape[-1], dtype=outputs.dtype, device=device)
        rows = [
            self.case_gradients(
                params, forward, xp.broadcast_to(eye[k, :], outputs.shape), layer
            )
            for k in range(outputs.shape[-1])
        ]
        return xp.stack(rows, axis=1)

    def push_forward(
        self, params: NetworkParams, forward: Forward, tangents: NetworkParams
    ) -> Array:
        """Return the derivative of the outputs along a change of the parameters.

        Args:
            params: The parameters.
            forward: The forward pass with these.
            tangents: Change of the parameters, of their structure.

        Returns:
            ``[batch, outputs]``: the Jacobian times the change.

        Raises:
            ShapeError: If the tangents have another shape than the parameters.
        """
        check_class(forward, Forward, "forward", "Sequential")
        change: Array | None = None
        for (layer, own), (_, tangent), cache in zip(
            self.paired(params),
            self.paired(tangents, "tangents"),
            forward.caches,
            strict=True,
        ):
            change = layer.push_forward(own, cache, tangent, change)
        if change is None:
            return backend_of(forward.outputs).xp.zeros_like(forward.outputs)
        return change

    def params_to_vector(self, params: NetworkParams) -> Array:
        """Return all parameters (or gradients, or tangents) as one vector."""
        tensors: list[Array] = []
        for layer, own in self.paired(params):
            layer.check_params(own)
            tensors += own
        backend = backend_for("Sequential", "params", *tensors)
        return params_to_vector(backend, tuple(tensors))

    def vector_to_params(self, vector: Array) -> NetworkParams:
        """Return a vector ``[num_params]`` in the structure of the parameters."""
        check_reals(vector, "vector", "Sequential")
        check_shape(vector, (self.num_params,), "vector", "Sequential")
        xp = backend_of(vector).xp
        params = []
        start = 0
        for layer in self.param_layers:
            tensors = []
            for shape in layer.param_shapes:
                stop = start + math.prod(shape)
                tensors.append(xp.reshape(vector[start:stop], shape))
                start = stop
            params.append(tuple(tensors))
        return tuple(params)

    def layer_slice(self, layer: int | None) -> slice:
        """Return where the parameters of one layer stand in the vector of all."""
        index = as_index(layer, len(self.param_layers), "Sequential")
        if index is None:
            return slice(0, self.num_params)
        start = self._starts()[index]
        return slice(start, start + self.param_layers[index].num_params)

    def _starts(self) -> list[int]:
        starts, total = [], 0
        for layer in self.param_layers:
            starts.append(total)
            total += layer.num_params
        return starts

    def paired(
        self, params: NetworkParams, argument: str = "params"
    ) -> list[tuple[Layer, Tensors]]:
        """Return every layer with its parameters, none for those without.

        `argument` is its name, for the message.

        Raises:
            ShapeError: If there are not those of as many layers.
        """
        given: object = params
        number = len(params) if isinstance(given, tuple | list) else 0
        if number != len(self.param_layers):
            msg = (
                f"Sequential: {argument}: parameters of {number} layers, expected of"
                f" {len(self.param_layers)}: {[x.label for x in self.param_layers]}"
            )
            raise ShapeError(msg)
        rest = iter(params)
        return [
            (layer, next(rest) if layer.param_shapes else ()) for layer in self.layers
        ]

    def _param_caches(self, forward: Forward) -> list[Any]:
        return [
            cache
            for layer, cache in zip(self.layers, forward.caches, strict=True)
            if layer.param_shapes
        ]
