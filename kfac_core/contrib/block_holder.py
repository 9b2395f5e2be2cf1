"""A block's spec, state and data with the methods of ``tf.contrib.kfac``."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from kfac_core import fisher_blocks as core
from kfac_core.arguments.powers import as_exponent
from kfac_core.arguments.sizes import as_size
from kfac_core.contrib.damping_functions import DampingFunc, damping_of
from kfac_core.contrib.factor_holder import FisherFactor as FactorHolder
from kfac_core.contrib.forms import first_array, sources_of, towers_of
from kfac_core.errors import ArgumentError, NotComputedError
from kfac_core.fisher_factors import FactorState
from kfac_core.typing import Array, Key, Params, Scalar


class FisherBlock(ABC):
    """Base of the blocks, and the holder of each.

    Attributes:
        layer_collection: What the block belongs to; it is kept, but not used.

    Example:
        >>> import numpy as np
        >>> from kfac_core.contrib.fisher_blocks import NaiveDiagonalFB
        >>> block: FisherBlock = NaiveDiagonalFB(None, params=np.zeros(1))
        >>> block.register_additional_tower(batch_size=1)
        >>> block.instantiate_factors([[np.asarray([4.0])]], damping=lambda: 9.0)
        >>> block.make_covariance_update_op(ema_decay=0.95)()
        >>> for update in block.make_inverse_update_ops():
        ...     update()
        >>> block.multiply_inverse(np.asarray([100.0]))  # 100 / (16 + 9)
        array([4.])
    """

    def __init__(self, layer_collection: Any, **options: Any) -> None:
        """Hold the options of the spec, which `instantiate_factors` makes.

        Args:
            layer_collection: What the block belongs to.
            **options: Fields of the spec that ``tf.contrib.kfac`` has no argument for.
        """
        self.layer_collection = layer_collection
        self._options = options
        self._spec: Any = None
        self._served: Any = None
        self._state: Any = None
        self._damping: DampingFunc | Scalar = 0.0
        self._data: tuple[Any, ...] = ()

    @property
    def _label(self) -> str:
        """Name for messages before there is a spec."""
        return str(self._options.get("name") or type(self).__name__)

    @property
    def spec(self) -> core.FisherBlock[Any]:
        """The block of `kfac_core` that does the work.

        Raises:
            NotComputedError: Before `instantiate_factors`.
        """
        if self._spec is None:
            msg = f"{self._label}: call instantiate_factors first"
            raise NotComputedError(msg)
        spec: core.FisherBlock[Any] = self._spec
        return spec

    @property
    def state(self) -> Any:
        """The current state."""
        self.spec  # noqa: B018 - raises before instantiate_factors
        return self._state

    @property
    @abstractmethod
    def num_registered_towers(self) -> int:
        """Number of towers."""

    @property
    def num_registered_minibatches(self) -> int:
        """Number of towers, by the name until r1.8."""
        return self.num_registered_towers

    @abstractmethod
    def tensors_to_compute_grads(self) -> Any:
        """Return what the loss is to be differentiated for."""

    @abstractmethod
    def _arrange(self, *data: Any) -> tuple[Any, ...]:
        """Return data, as ``tf.contrib.kfac`` takes it, as `update_covs` does."""

    @abstractmethod
    def _make_spec(self, *data: Any) -> core.FisherBlock[Any]:
        """Return the spec for data, as arguments of `update_covs`."""

    def instantiate_factors(
        self, grads_list: Any, damping: DampingFunc | Scalar
    ) -> None:
        """Make the factors.

        Args:
            grads_list: List over sources of gradients for what
                `tensors_to_compute_grads` returns.
            damping: Added to the block, approximately, times the identity: a number, a
                0-d array, or a function that returns one.
        """
        self._data = self._registered(grads_list)
        self._damping = damping
        self._spec = self._served = self._make_spec(*self._data)
        self._state = self._spec.init(like=self._like())

    def instantiate_cov_variables(self) -> None:
        """Make the statistics of all factors, at their initial value."""
        self._state = self._served.init(like=self._like())

    def make_covariance_update_op(
        self, ema_decay: Scalar, ema_weight: Scalar | None = None
    ) -> Callable[..., None]:
        """Return a callable that folds a batch into the statistics of all factors.

        Args:
            ema_decay: As in `update_covs` of the spec.
            ema_weight: As in `update_covs` of the spec.

        Returns:
            A callable. Without arguments it uses the registered data. New data are, for
            a layer, the inputs and the gradients; and for a naive block, the gradients
            and the batch size. Where it draws a sample, it takes a ``key``.
        """

        def op(*data: Any, key: Key = None) -> None:
            given = self._arrange(*data) if data else self._data
            drawn = {} if key is None else {"key": key}
            self._state = self._served.update_covs(
                self.state, *given, ema_decay=ema_decay, ema_weight=ema_weight, **drawn
            )

        return op

    def instantiate_inv_variables(self) -> None:
        """Make places for all that is registered so far."""
        self._served = self.spec
        self._state = self._served.init_inverses(self.state)

    def make_inverse_update_ops(self) -> list[Callable[[], None]]:
        """Return one callable that computes all that is registered."""

        def op() -> None:
            self._state = self._served.update_inverses(
                self.state, damping_of(self._damping)
            )

        return [op]

    def register_matpower(self, exp: float) -> None:
        """Ask for products with the power `exp`."""
        self._spec = self.spec.register_matpower(exp)

    def register_inverse(self) -> None:
        """Ask for products with the inverse, which every block serves anyway."""
        self._spec = self.spec.register_inverse()

    def register_cholesky(self) -> None:
        """Ask for products with the Cholesky factor."""
        self._spec = self.spec.register_cholesky()

    def register_cholesky_inverse(self) -> None:
        """Ask for products with the inverse of the Cholesky factor."""
        self._spec = self.spec.register_cholesky_inverse()

    def multiply_matpower(self, vector: Params, exp: float) -> Params:
        """Return a power of the damped block times `vector`."""
        spec, state = self._served, self.state
        if as_exponent(exp, self._label, "exp") == 1:
            # The power 1 is fresh, with the current damping, and decomposes nothing.
            spec = replace(spec, matpowers=(), cholesky=False, cholesky_inverse=False)
            state = spec.update_inverses(
                spec.init_inverses(state), damping_of(self._damping)
            )
        product: Params = spec.multiply_matpower(state, vector, exp)
        return product

    def multiply(self, vector: Params) -> Params:
        """Return the damped block times `vector`."""
        return self.multiply_matpower(vector, 1)

    def multiply_inverse(self, vector: Params) -> Params:
        """Return the inverse of the damped block times `vector`."""
        return self.multiply_matpower(vector, -1)

    def multiply_cholesky(self, vector: Params, transpose: bool = False) -> Params:
        """Return the Cholesky factor, or its transpose, times `vector`."""
        product: Params = self._served.multiply_cholesky(
            self.state, vector, transpose=transpose
        )
        return product

    def multiply_cholesky_inverse(
        self, vector: Params, transpose: bool = False
    ) -> Params:
        """Return the inverse Cholesky factor, or its transpose, times `vector`."""
        product: Params = self._served.multiply_cholesky_inverse(
            self.state, vector, transpose=transpose
        )
        return product

    def full_fisher_block(self) -> Array:
        """Return the block, undamped and dense."""
        block: Array = self._served.full_fisher_block(self.state)
        return block

    @abstractmethod
    def _registered(self, grads_list: Any) -> tuple[Any, ...]:
        """Return what is registered and gradients as arguments of `update_covs`."""

    def _like(self) -> Array:
        """Return the first gradient, which gives the states their dtype."""
        return first_array(self._gradients(*self._data), "grads_list", self._label)

    @abstractmethod
    def _gradients(self, *data: Any) -> tuple[tuple[Array, ...], ...]:
        """Return the gradients among arguments of `update_covs`."""


class LayerBlock(FisherBlock):
    """Base of the blocks with inputs and outputs: one registration for each tower."""

    def __init__(self, layer_collection: Any, **options: Any) -> None:
        super().__init__(layer_collection, **options)
        self._inputs: list[Array] = []
        self._outputs: list[Array] = []

    def register_additional_tower(self, inputs: Array, outputs: Array) -> None:
        """Add a tower's data.

        Args:
            inputs: Inputs of the layer, ``[batch, ...]``.
            outputs: Outputs of the layer, ``[batch, ...]``, before the non-linearity.
        """
        self._inputs.append(inputs)
        self._outputs.append(outputs)

    register_additional_minibatch = register_additional_tower
    """The name until r1.8."""

    @property
    def num_registered_towers(self) -> int:
        """Number of towers."""
        return len(self._inputs)

    def tensors_to_compute_grads(self) -> tuple[Array, ...]:
        """Return the outputs of all towers."""
        return tuple(self._outputs)

    def _registered(self, grads_list: Any) -> tuple[Any, ...]:
        if not self._inputs:
            msg = (
                f"{self._label}: no tower is registered;"
                " call register_additional_minibatch first"
            )
            raise ArgumentError(msg)
        return self._arrange(self._inputs, grads_list)

    def _arrange(self, *data: Any) -> tuple[Any, ...]:
        inputs, grads_list = self._pair(data)
        return towers_of(inputs), sources_of(grads_list)

    def _pair(self, data: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the inputs and the gradients of an update."""
        if len(data) != 2:
            msg = f"{self._label}: {len(data)} arguments, expected inputs and gradients"
            raise ArgumentError(msg)
        return data

    def _gradients(self, *data: Any) -> tuple[tuple[Array, ...], ...]:
        return tuple(data[1])


class KroneckerProductFB(LayerBlock):
    """Base of the blocks that are a Kronecker product of two factors.

    Example:
        >>> import numpy as np
        >>> from kfac_core.contrib.fisher_blocks import FullyConnectedKFACBasicFB
        >>> x, g = np.asarray([[2.0], [0.0]]), np.asarray([[1.0], [3.0]])
        >>> block: KroneckerProductFB = FullyConnectedKFACBasicFB(None)
        >>> block.register_additional_tower(inputs=x, outputs=0 * g)
        >>> block.instantiate_factors([[g]], damping=0.1)
        >>> block.make_covariance_update_op(ema_decay=0.95)()
        >>> block.input_factor.get_cov(), block.output_factor.get_cov()
        (array([[2.]]), array([[5.]]))
        >>> block.full_fisher_block()
        array([[10.]])
    """

    @property
    def input_factor(self) -> FactorHolder:
        """The factor of the inputs, with its current state."""
        return _view(self.spec.input_factor, self.state.input_factor)  # type: ignore[attr-defined]

    @property
    def output_factor(self) -> FactorHolder:
        """The factor of the output gradients, with its current state."""
        return _view(self.spec.output_factor, self.state.output_factor)  # type: ignore[attr-defined]


class NaiveBlock(FisherBlock):
    """Base of the blocks of parameters: one batch size for each tower."""

    def __init__(self, layer_collection: Any, params: Params, **options: Any) -> None:
        super().__init__(layer_collection, **options)
        self._params = params
        self._batch_sizes: list[int] = []

    def register_additional_tower(self, batch_size: int) -> None:
        """Add the number of cases of a tower."""
        batch_size = as_size(batch_size, "batch_size", self._label)
        self._batch_sizes.append(batch_size)

    register_additional_minibatch = register_additional_tower
    """The name until r1.8."""

    @property
    def num_registered_towers(self) -> int:
        """Number of towers."""
        return len(self._batch_sizes)

    def tensors_to_compute_grads(self) -> Params:
        """Return the parameters."""
        return self._params

    def _registered(self, grads_list: Any) -> tuple[Any, ...]:
        return self._arrange(grads_list)

    def _arrange(self, *data: Any) -> tuple[Any, ...]:
        grads_list, *batch_size = data
        return sources_of(grads_list), *(batch_size or [sum(self._batch_sizes)])

    def _gradients(self, *data: Any) -> tuple[tuple[Array, ...], ...]:
        return tuple(data[0])


def _view(spec: Any, state: FactorState) -> FactorHolder:
    """Return a factor for reading; updates of this factor would not reach the block."""
    holder = FactorHolder(spec, (), like=state.cov.total)
    holder.state = state
    return holder
