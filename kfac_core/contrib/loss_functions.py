"""``tf.contrib.kfac.loss_functions``: losses whose constructors take the data.

A `seed` is what the array library draws from: a generator, or a key. The methods named
``hessian`` in 2018 are named ``ggn`` in 2022; both names work here.

Example:
    >>> import numpy as np
    >>> from kfac_core.contrib import loss_functions
    >>> logits, targets = np.asarray([[1.0, 2.0], [3.0, 4.0]]), np.asarray([0, 1])
    >>> loss = loss_functions.CategoricalLogitsNegativeLogProbLoss(logits, targets)
    >>> print(f"{loss.evaluate():.7f}")
    1.6265234
    >>> loss.hessian_factor_inner_static_shape
    (2, 2)
"""

from typing import Any, cast

from kfac_core import loss_functions as core
from kfac_core.errors import ArgumentError
from kfac_core.loss_functions.positions import input_arrays
from kfac_core.typing import Array, DType, Key, LossInputs


class LossFunction:
    """Base of the losses, and the holder of each.

    Attributes:
        spec: The loss of `kfac_core` that does the work.
        inputs: What the loss takes from the network.
        targets: The targets, or None.
    """

    def __init__(
        self,
        spec: core.LossFunction,
        inputs: LossInputs,
        targets: Array | None = None,
        seed: Key = None,
    ) -> None:
        """Hold a spec and its data.

        Args:
            spec: The loss of `kfac_core`.
            inputs: ``[batch, ..., n]``, or a tuple of these.
            targets: Targets of the shape that the spec takes, or None.
            seed: What samples are drawn from by default, or None.

        Raises:
            ArgumentError: If `spec` is not a loss.
            BackendError: If inputs or targets are not arrays.
            ShapeError: If there are not as many inputs as the loss has.
        """
        given: object = spec
        if not isinstance(given, core.LossFunction):
            msg = (
                f"{type(self).__name__}: spec is a {type(given).__name__}, expected a"
                " kfac_core.loss_functions.LossFunction"
            )
            raise ArgumentError(msg)
        spec.targets_shape(inputs)
        if targets is not None:
            spec.mask_for(targets)
        self.spec = spec
        self.inputs = inputs
        self.targets = targets
        self._seed = seed

    @property
    def params(self) -> LossInputs:
        """The parameters of the distribution: `inputs`."""
        return self.inputs

    @property
    def dtype(self) -> DType:
        """The dtype of the inputs; if there are several, of the first."""
        return input_arrays(self.inputs)[0].dtype

    def evaluate(self) -> Array:
        """Return the loss at the targets, 0-d.

        Raises:
            ArgumentError: If there are no targets.
        """
        if self.targets is None:
            msg = f"{self.spec.label}: targets is None; give them to the constructor"
            raise ArgumentError(msg)
        return self.spec.evaluate(self.inputs, self.targets)

    def sample(self, seed: Key) -> Array:
        """Return targets drawn from the model."""
        return self.spec.sample(seed, self.inputs)

    def evaluate_on_sample(self, seed: Key = None) -> Array:
        """Return the loss at targets drawn from the model, 0-d.

        Args:
            seed: What the targets are drawn from; None: the seed of the constructor.

        Raises:
            ArgumentError: If there is no seed.
        """
        key = self._seed if seed is None else seed
        if key is None:
            msg = f"{self.spec.label}: seed is None; give a generator, or a key"
            raise ArgumentError(msg)
        return self.spec.evaluate_on_sample(key, self.inputs)

    def multiply_fisher(self, vector: LossInputs) -> Any:
        """Return ``F v``, of the structure of the inputs."""
        return self.spec.multiply_fisher(self.inputs, vector)

    def multiply_fisher_factor(self, vector: Array) -> Any:
        """Return ``B u``, with ``B B' = F``, of the structure of the inputs."""
        return self.spec.multiply_fisher_factor(self.inputs, vector)

    def multiply_fisher_factor_transpose(self, vector: LossInputs) -> Array:
        """Return ``B' v``, of the inner shape."""
        return self.spec.multiply_fisher_factor_transpose(self.inputs, vector)

    def multiply_fisher_factor_replicated_one_hot(
        self, index: tuple[int, ...] | list[int]
    ) -> Any:
        """Return a column of ``B`` for every case at once."""
        return self.spec.multiply_fisher_factor_replicated_one_hot(
            self.inputs, cast("tuple[int, ...]", index)
        )

    @property
    def fisher_factor_inner_shape(self) -> tuple[int, ...]:
        """Shape of what ``B`` multiplies."""
        return self.spec.fisher_factor_inner_shape(self.inputs)

    @property
    def fisher_factor_inner_static_shape(self) -> tuple[int, ...]:
        """Shape of what ``B`` multiplies: every shape is static."""
        return self.fisher_factor_inner_shape

    def multiply_ggn(self, vector: LossInputs) -> Any:
        """Return the Gauss-Newton matrix times a vector.

        This method and those that follow raise `UnsupportedError` where the loss has no
        such matrix.
        """
        return self.spec.multiply_ggn(self.inputs, vector)

    def multiply_ggn_factor(self, vector: Array) -> Any:
        """Return the Gauss-Newton factor times an inner vector."""
        return self.spec.multiply_ggn_factor(self.inputs, vector)

    def multiply_ggn_factor_transpose(self, vector: LossInputs) -> Array:
        """Return the transpose of the Gauss-Newton factor times a vector."""
        return self.spec.multiply_ggn_factor_transpose(self.inputs, vector)

    def multiply_ggn_factor_replicated_one_hot(
        self, index: tuple[int, ...] | list[int]
    ) -> Any:
        """Return a column of the Gauss-Newton factor for every case at once."""
        return self.spec.multiply_ggn_factor_replicated_one_hot(
            self.inputs, cast("tuple[int, ...]", index)
        )

    @property
    def ggn_factor_inner_shape(self) -> tuple[int, ...]:
        """Shape of what the Gauss-Newton factor multiplies."""
        return self.spec.ggn_factor_inner_shape(self.inputs)

    @property
    def ggn_factor_inner_static_shape(self) -> tuple[int, ...]:
        """Shape of what the Gauss-Newton factor multiplies: all shapes are static."""
        return self.ggn_factor_inner_shape

    multiply_hessian = multiply_ggn
    multiply_hessian_factor = multiply_ggn_factor
    multiply_hessian_factor_transpose = multiply_ggn_factor_transpose
    multiply_hessian_factor_replicated_one_hot = multiply_ggn_factor_replicated_one_hot
    hessian_factor_inner_shape = ggn_factor_inner_shape
    hessian_factor_inner_static_shape = ggn_factor_inner_static_shape


class NormalMeanNegativeLogProbLoss(LossFunction):
    """Normal noise; see `kfac_core.loss_functions.NormalMeanNegativeLogProbLoss`."""

    def __init__(
        self,
        mean: Array,
        var: float = 0.5,
        targets: Array | None = None,
        seed: Key = None,
    ) -> None:
        """Hold the mean ``[batch, ..., n]``, the variance, and targets."""
        spec = core.NormalMeanNegativeLogProbLoss(var)
        super().__init__(spec, mean, targets, seed)


class NormalMeanVarianceNegativeLogProbLoss(LossFunction):
    """See `kfac_core.loss_functions.NormalMeanVarianceNegativeLogProbLoss`."""

    def __init__(
        self,
        mean: Array,
        variance: Array,
        targets: Array | None = None,
        seed: Key = None,
    ) -> None:
        """Hold the mean and the variance, ``[batch, ..., n]``, and targets."""
        spec = core.NormalMeanVarianceNegativeLogProbLoss()
        super().__init__(spec, (mean, variance), targets, seed)


class CategoricalLogitsNegativeLogProbLoss(LossFunction):
    """See `kfac_core.loss_functions.CategoricalLogitsNegativeLogProbLoss`."""

    def __init__(
        self, logits: Array, targets: Array | None = None, seed: Key = None
    ) -> None:
        """Hold logits ``[batch, ..., n]``, and labels ``[batch, ...]``."""
        spec = core.CategoricalLogitsNegativeLogProbLoss()
        super().__init__(spec, logits, targets, seed)


class OnehotCategoricalLogitsNegativeLogProbLoss(LossFunction):
    """See `kfac_core.loss_functions.OnehotCategoricalLogitsNegativeLogProbLoss`."""

    def __init__(
        self, logits: Array, targets: Array | None = None, seed: Key = None
    ) -> None:
        """Hold logits, and one-hot targets, ``[batch, ..., n]``."""
        spec = core.OnehotCategoricalLogitsNegativeLogProbLoss()
        super().__init__(spec, logits, targets, seed)


class MultiBernoulliNegativeLogProbLoss(LossFunction):
    """See `kfac_core.loss_functions.MultiBernoulliNegativeLogProbLoss`."""

    def __init__(
        self, logits: Array, targets: Array | None = None, seed: Key = None
    ) -> None:
        """Hold logits, and targets of zeros and ones, ``[batch, ..., n]``."""
        spec = core.MultiBernoulliNegativeLogProbLoss()
        super().__init__(spec, logits, targets, seed)
