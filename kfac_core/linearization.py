"""What K-FAC needs of a model, and only a framework or calculus by hand can give.

A *linearization* is a model at some parameters and a batch: the inputs of its layers
and losses, and the two products with the Jacobian ``J`` of the loss inputs by the
parameters. Parameters are named, as are *sites*, one for each use of a layer and for
each input of a loss: ``{name: array}`` throughout. `kfac_core.reference` implements it
for small networks; an adapter for a framework takes its forward hooks, ``vjp`` and
``jvp``.

Gradients and vectors belong to the *summed* loss: each case has its row, not divided by
the batch.
"""

from collections.abc import Mapping
from typing import Any, Protocol, TypeAlias, TypeVar

from kfac_core.typing import Array, LossInputs

NamedParams: TypeAlias = Mapping[str, Array]
"""Parameters by name, or a gradient or tangent of their shapes."""

NamedLossInputs: TypeAlias = Mapping[str, LossInputs]
"""For each loss site what the loss takes, or vectors of these shapes."""

B = TypeVar("B", contravariant=True)


class Linearization(Protocol):
    """A model at some parameters and a batch."""

    @property
    def batch_size(self) -> int:
        """Number of cases: what the sum of the loss is divided by to be the mean."""

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
        """For each site with weights a weight for each position, ``[batch, ...]``.

        For a loss site, what its loss is multiplied by. For a layer's site, how much
        each row counts in the statistics of the layer, ``[batch]`` or ``[batch,
        positions]``: zero for padding, for instance.
        """

    def output_gradients(self, vectors: NamedLossInputs) -> Mapping[str, Array]:
        """Pull vectors at the loss inputs back to the outputs of the layers.

        Args:
            vectors: For every loss site a vector of the shape of its inputs.

        Returns:
            For each site of a layer the vector times the derivative of the loss inputs
            by the layer's outputs, ``[batch, ...]``: a row of its own for each case.
        """

    def param_gradients(self, vectors: NamedLossInputs) -> NamedParams:
        """Return ``J' v``: pull vectors at the loss inputs back to the parameters.

        Args:
            vectors: For every loss site a vector of the shape of its inputs.

        Returns:
            For each parameter the vector times the derivative of the loss inputs by
            it, summed over the batch.
        """

    def push_forward(self, tangents: NamedParams) -> NamedLossInputs:
        """Return ``J v``: the change of the loss inputs along that of the parameters.

        Args:
            tangents: For every parameter its change.

        Returns:
            For each loss site the change of its inputs.
        """


class SecondOrderLinearization(Linearization, Protocol):
    """One that gives second derivatives of the model, too: for products with a Hessian.

    It is needed for `CurvatureMatrixVectorProductComputer.multiply_hessian` alone.
    """

    def param_gradients_change(
        self, vectors: NamedLossInputs, tangents: NamedParams
    ) -> NamedParams:
        """Return the derivative of `param_gradients` along a change of the parameters.

        Args:
            vectors: As there; held constant.
            tangents: For every parameter its change.

        Returns:
            ``(d/de) J(params + e tangents)' v``, for each parameter.
        """


class Model(Protocol[B]):
    """What can be linearized: all that an optimiser sees of a network."""

    def linearize(self, params: Any, batch: B) -> Linearization:
        """Return the model at these parameters and this batch.

        Args:
            params: For every parameter its value, by name.
            batch: Data, of whatever form the model takes.
        """
