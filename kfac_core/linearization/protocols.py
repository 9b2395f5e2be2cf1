"""What K-FAC needs from a model, which only a framework or hand-written code can give.

A *linearization* is a model at some parameters and a batch: the inputs of its layers
and losses, and products with the Jacobian ``J`` of the loss inputs by the parameters.
Parameters have names, and so do *sites*: there is one site for each use of a layer, and
one for each input of a loss. Data are ``{name: array}`` throughout.
`kfac_core.reference` implements linearizations of small networks; an adapter for a
framework uses the framework's forward hooks, ``vjp`` and ``jvp``.

Gradients and vectors belong to the *summed* loss: each case has a row, which is not
divided by the batch size.
"""

from collections.abc import Collection, Mapping
from typing import Any, Protocol, TypeAlias, TypeVar

from kfac_core.typing import Array, LossInputs

NamedParams: TypeAlias = Mapping[str, Array]
"""Parameters by name, or a gradient or tangent of their shapes."""

NamedLossInputs: TypeAlias = Mapping[str, LossInputs]
"""For each loss site what the loss takes, or vectors of these shapes."""

B = TypeVar("B", contravariant=True)


class Linearization(Protocol):
    """A model at some parameters and a batch.

    Example:
        >>> import numpy as np
        >>> from kfac_core.reference import Batch, Dense, Sequential, SequentialModel
        >>> model = SequentialModel(Sequential((Dense(2, 1, has_bias=False),)))
        >>> x, params = np.asarray([[1.0, 2.0]]), {"dense_0/weights": np.ones((2, 1))}
        >>> at: Linearization = model.linearize(params, Batch(x))
        >>> at.layer_inputs, at.loss_inputs
        ({'dense_0': array([[1., 2.]])}, {'outputs': array([[3.]])})
        >>> at.param_gradients({"outputs": np.asarray([[10.0]])})  # J' v
        {'dense_0/weights': array([[10.],
               [20.]])}
    """

    @property
    def batch_size(self) -> int:
        """Number of cases, by which the summed loss is divided to give the mean."""

    @property
    def layer_inputs(self) -> Mapping[str, Array]:
        """For each site of a layer its inputs, ``[batch, ...]``, or ids."""

    @property
    def loss_inputs(self) -> NamedLossInputs:
        """For each loss site what the loss takes, ``[batch, ...]``."""

    @property
    def targets(self) -> Mapping[str, Array]:
        """For each loss site its targets, if there are any."""

    @property
    def masks(self) -> Mapping[str, Array]:
        """For each site with weights, a weight for each position, ``[batch, ...]``.

        The loss of a loss site is multiplied by its weights. The weights of a layer's
        site, ``[batch]`` or ``[batch, positions]``, tell how much each row counts in
        the statistics of the layer: zero for padding, for instance.
        """

    def output_gradients(self, vectors: NamedLossInputs) -> Mapping[str, Array]:
        """Pull vectors at the loss inputs back to the outputs of the layers.

        Args:
            vectors: For every loss site a vector of the shape of its inputs.

        Returns:
            For each site of a layer, the vector times the derivative of the loss inputs
            by the layer's outputs, ``[batch, ...]``, with one row for each case.
        """

    def param_gradients(
        self, vectors: NamedLossInputs, names: Collection[str] | None = None
    ) -> NamedParams:
        """Return ``J' v``: pull vectors at the loss inputs back to the parameters.

        Args:
            vectors: For every loss site a vector of the shape of its inputs.
            names: The parameters that are wanted, so that no others are computed; None:
                all. More may be given than are wanted.

        Returns:
            For each parameter the vector times the derivative of the loss inputs by
            it, summed over the batch.
        """

    def push_forward(self, tangents: NamedParams) -> NamedLossInputs:
        """Return ``J v``: the change of the loss inputs for a change of the parameters.

        Args:
            tangents: For every parameter its change.

        Returns:
            For each loss site the change of its inputs.
        """


class SecondOrderLinearization(Linearization, Protocol):
    """A linearization that also gives second derivatives of the model.

    Only `CurvatureMatrixVectorProductComputer.multiply_hessian` needs it.

    Example:
        >>> import numpy as np
        >>> from kfac_core.reference import Batch, Dense, Sequential, SequentialModel
        >>> layers = (Dense(1, 1, has_bias=False), Dense(1, 1, has_bias=False))
        >>> model = SequentialModel(Sequential(layers))  # y = w1 w0 x
        >>> one = np.ones((1, 1))
        >>> params = {"dense_0/weights": one, "dense_1/weights": one}
        >>> at = model.linearize(params, Batch(5 * one))
        >>> tangents = {**params, "dense_1/weights": 0 * one}  # J' is (x w1, x w0)
        >>> at.param_gradients_change({"outputs": one}, tangents)
        {'dense_0/weights': array([[0.]]), 'dense_1/weights': array([[5.]])}
    """

    def param_gradients_change(
        self, vectors: NamedLossInputs, tangents: NamedParams
    ) -> NamedParams:
        """Return the derivative of `param_gradients` along a change of the parameters.

        Args:
            vectors: As in `param_gradients`; held constant.
            tangents: For every parameter its change.

        Returns:
            ``(d/de) J(params + e tangents)' v``, for each parameter.
        """


class CountedLinearization(Linearization, Protocol):
    """A linearization of a model with rows that do not belong to one case each.

    In a model that mixes positions, a row reaches the losses of several cases; and the
    rows of a layer may be in another order than those of the loss.

    Example:
        >>> import numpy as np
        >>> from kfac_core.estimator import FisherEstimator
        >>> from kfac_core.loss_functions import NormalMeanNegativeLogProbLoss
        >>> from kfac_core.reference import Batch, Dense, Sequential, SequentialModel
        >>> class Counted:  # the first row counts twice, the second not at all
        ...     row_counts = {"dense_0": np.asarray([2.0, 0.0])}
        ...     def __init__(self, at):
        ...         self.at = at
        ...     def __getattr__(self, name):
        ...         return getattr(self.at, name)
        >>> model = SequentialModel(Sequential((Dense(1, 1, has_bias=False),)))
        >>> collection = model.layer_collection(NormalMeanNegativeLogProbLoss(var=1.0))
        >>> params = {"dense_0/weights": np.ones((1, 1))}
        >>> at = model.linearize(params, Batch(np.asarray([[1.0], [3.0]])))
        >>> estimator = FisherEstimator(collection, "exact")
        >>> for each in (at, Counted(at)):
        ...     state = estimator.update_covs(estimator.init(params), each, 0.95)
        ...     block, = state.blocks.values()
        ...     print(block.input_factor.cov.total)  # (1 + 9) / 2, or 2 * 1 / 2
        [[5.]]
        [[1.]]
    """

    @property
    def row_counts(self) -> Mapping[str, Array]:
        """For such sites of layers how much each row counts, of the leading shape.

        They take the place of the weights that `masks` gives the cases, and are
        multiplied by a mask of the site itself.
        """


class ShardLinearization(Linearization, Protocol):
    """A linearization of one of the shards of a batch, which other processes have.

    Its `batch_size`, rows and masks are those of the shard. An optimiser needs some
    numbers of the whole batch, the same on all processes, to take the same step.

    Example:
        >>> import numpy as np
        >>> class Part:  # six of eight cases; the mean of the others is zero
        ...     num_cases = 8
        ...     def mean_of_shards(self, numbers):
        ...         return numbers * 6 / 8
        >>> Part().mean_of_shards(np.asarray([4.0]))
        array([3.])
    """

    @property
    def num_cases(self) -> int:
        """The number of cases of all shards."""

    def mean_of_shards(self, numbers: Array) -> Array:
        """Return the mean over all shards, each of which counts by its cases.

        Args:
            numbers: Means over the cases of this shard, ``[n]``.

        Returns:
            ``[n]``, the same bits on all processes.
        """


class Model(Protocol[B]):
    """A model that can be linearized; an optimiser sees no more of a network.

    Example:
        >>> import numpy as np
        >>> from types import SimpleNamespace
        >>> class Scale:  # y = w x
        ...     def linearize(self, params, batch):
        ...         return SimpleNamespace(
        ...             batch_size=len(batch),
        ...             layer_inputs={"scale": batch},
        ...             loss_inputs={"outputs": params["w"] * batch},
        ...             output_gradients=lambda vectors: {"scale": vectors["outputs"]},
        ...             param_gradients=lambda vectors, names=None: {
        ...                 "w": np.sum(vectors["outputs"] * batch)
        ...             },
        ...         )
        >>> model: Model = Scale()
        >>> at = model.linearize({"w": np.asarray(3.0)}, np.asarray([1.0, 2.0]))
        >>> at.param_gradients({"outputs": at.loss_inputs["outputs"]})["w"]
        np.float64(15.0)
    """

    def linearize(self, params: Any, batch: B) -> Linearization:
        """Return the model at these parameters and this batch.

        Args:
            params: For every parameter its value, by name.
            batch: Data, of whatever form the model takes.
        """
