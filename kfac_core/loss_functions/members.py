"""What a loss is made of, and how its verbs prepare what these members get."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, NoReturn

from kfac_core.arguments import backend_for, check_shape
from kfac_core.backend import Backend
from kfac_core.errors import ArgumentError, DTypeError, ShapeError, UnsupportedError
from kfac_core.loss_functions.positions import (
    Positions,
    arrays_of,
    like_inputs,
    positions_of,
)
from kfac_core.typing import Array, LossInputs

Index = tuple[int, ...]
"""A place on all axes of an inner vector but the batch."""


@dataclass(frozen=True)
class LossMembers(ABC):
    """The members of a loss; `LossFunction` says what they get and return."""

    input_names: ClassVar[tuple[str, ...]] = ("inputs",)

    @property
    def label(self) -> str:
        """The name of the loss in messages: that of its class."""
        return type(self).__name__

    def targets_shape(self, inputs: LossInputs) -> tuple[int, ...]:
        """Return the shape of the targets: by default that of the inputs."""
        return tuple(arrays_of(inputs)[0].shape)

    def noise_shape(self, inputs: LossInputs) -> tuple[int, ...]:
        """Return the shape of the uniform noise that one set of targets is made of.

        By default that of the targets.
        """
        return self.targets_shape(inputs)

    def fisher_factor_inner_shape(self, inputs: LossInputs) -> tuple[int, ...]:
        """Return the shape of what ``B`` multiplies: by default that of the inputs."""
        return tuple(arrays_of(inputs)[0].shape)

    def ggn_factor_inner_shape(self, inputs: LossInputs) -> tuple[int, ...]:
        """Return the shape of what the factor of `multiply_ggn_factor` multiplies.

        Raises:
            UnsupportedError: If the loss has no Gauss-Newton matrix.
        """
        del inputs
        self._no_ggn()

    def _as_targets(self, backend: Backend, targets: Array, inputs: Any) -> Array:
        """Return targets of the right shape as the other members get them."""
        if not backend.xp.isdtype(targets.dtype, ("bool", "integral", "real floating")):
            msg = f"{self.label}: targets has dtype {targets.dtype}, expected reals"
            raise DTypeError(msg)
        return backend.xp.astype(targets, arrays_of(inputs)[0].dtype)

    @abstractmethod
    def _losses(self, backend: Backend, inputs: Any, targets: Array) -> Array:
        """Return the negative log-probability of each position, ``[batch, ...]``."""

    @abstractmethod
    def _gradient(self, backend: Backend, inputs: Any, targets: Array) -> Any:
        """Return the gradient of each position's loss, like the inputs."""

    @abstractmethod
    def _sample_from(self, backend: Backend, noise: Array, inputs: Any) -> Array:
        """Return targets made of noise."""

    def _fisher(self, backend: Backend, inputs: Any, vector: Any) -> Any:
        """Return ``F v``."""
        inner = self._fisher_factor_transpose(backend, inputs, vector)
        return self._fisher_factor(backend, inputs, inner)

    @abstractmethod
    def _fisher_factor(self, backend: Backend, inputs: Any, inner: Array) -> Any:
        """Return ``B u``."""

    @abstractmethod
    def _fisher_factor_transpose(
        self, backend: Backend, inputs: Any, vector: Any
    ) -> Array:
        """Return ``B' v``."""

    def _ggn(self, backend: Backend, inputs: Any, vector: Any) -> Any:
        """Return the Gauss-Newton matrix times a vector."""
        del backend, inputs, vector
        self._no_ggn()

    def _ggn_factor(self, backend: Backend, inputs: Any, inner: Array) -> Any:
        """Return the factor of the Gauss-Newton matrix times a vector."""
        del backend, inputs, inner
        self._no_ggn()

    def _ggn_factor_transpose(
        self, backend: Backend, inputs: Any, vector: Any
    ) -> Array:
        """Return the transpose of that factor times a vector."""
        del backend, inputs, vector
        self._no_ggn()

    @abstractmethod
    def _hessian(
        self, backend: Backend, inputs: Any, targets: Array, vector: Any
    ) -> Any:
        """Return the second derivative of the losses times a vector."""

    def _no_ggn(self) -> NoReturn:
        msg = (
            f"{self.label} has no Gauss-Newton matrix: its second derivative for its"
            " inputs may be indefinite; use the Fisher"
        )
        raise UnsupportedError(msg)

    def _positions(
        self, inputs: LossInputs, mask: Array | None = None, *, least_axes: int = 2
    ) -> Positions:
        """Return the inputs, checked and masked."""
        return positions_of(inputs, mask, self.input_names, self.label, least_axes)

    def _with_targets(
        self, inputs: LossInputs, targets: Array, mask: Array | None
    ) -> tuple[Positions, Array]:
        """Return inputs and targets, checked and masked."""
        at = self._positions(inputs, mask)
        backend_for(self.label, targets, *arrays_of(inputs))
        shape = self.targets_shape(inputs)
        check_shape(targets, shape, "targets", self.label)
        by_position = shape == tuple(arrays_of(inputs)[0].shape[:-1])
        known = at.filled(at.backend.stop_gradient(targets), by_position=by_position)
        return at, self._as_targets(at.backend, known, at.inputs)

    def _with_vector(
        self, inputs: LossInputs, vector: LossInputs, mask: Array | None
    ) -> tuple[Positions, Any]:
        """Return inputs and a vector like them, checked and masked."""
        at = self._positions(inputs, mask, least_axes=1)
        given, parts = arrays_of(inputs), arrays_of(vector)
        if len(given) != len(parts):
            msg = f"{self.label}: vector has {len(parts)} arrays, the inputs have"
            msg = f"{msg} {len(given)}; give one for each"
            raise ShapeError(msg)
        vectors = [
            self._vector(at, part, tuple(x.shape), "vector", inputs)
            for part, x in zip(parts, given, strict=True)
        ]
        return at, like_inputs(inputs, vectors)

    def _with_inner(
        self,
        inputs: LossInputs,
        inner: Array,
        shape: tuple[int, ...],
        mask: Array | None,
    ) -> tuple[Positions, Array]:
        """Return inputs and an inner vector, checked and masked."""
        at = self._positions(inputs, mask, least_axes=1)
        return at, self._vector(at, inner, shape, "inner", inputs)

    def _vector(
        self,
        at: Positions,
        x: Array,
        shape: tuple[int, ...],
        argument: str,
        inputs: LossInputs,
    ) -> Array:
        backend_for(self.label, x, *arrays_of(inputs))
        leading = max(0, len(x.shape) - len(shape))
        check_shape(x, (*["..."] * leading, *shape), argument, self.label)
        return at.filled(at.backend.xp.astype(x, at.dtype))

    def _results(
        self, at: Positions, product: Any, inputs: LossInputs, *, root: bool = False
    ) -> Any:
        """Return what is like the inputs, weighted and in their dtypes."""
        arrays = [
            at.backend.xp.astype(at.weighted(part, root=root), x.dtype)
            for part, x in zip(arrays_of(product), arrays_of(inputs), strict=True)
        ]
        return like_inputs(inputs, arrays)

    def _inner_result(self, at: Positions, product: Array, inputs: LossInputs) -> Array:
        """Return an inner vector, weighted and in the dtype of the inputs."""
        dtype = at.backend.xp.result_type(*arrays_of(inputs))
        return at.backend.xp.astype(at.weighted(product, root=True), dtype)

    def _replicated_one_hot(
        self, inputs: LossInputs, shape: tuple[int, ...], index: Index
    ) -> Array:
        """Return an inner vector that is one at an index, for every case."""
        at = self._positions(inputs)
        sizes = shape[1:]
        if len(index) != len(sizes) or not all(
            0 <= place < size for place, size in zip(index, sizes, strict=False)
        ):
            msg = (
                f"{self.label}: index is {index}, expected a place on each axis of"
                f" {sizes}, the inner shape but the batch"
            )
            raise ArgumentError(msg)
        xp = at.backend.xp
        device = at.backend.creation_device(arrays_of(inputs)[0])
        one_hot = xp.ones(shape, dtype=at.dtype, device=device)
        for axis, (place, size) in enumerate(zip(index, sizes, strict=True)):
            places = xp.arange(size, device=device)
            hit = xp.astype(xp.equal(places, place), at.dtype)
            ones = (1,) * (len(sizes) - axis - 1)
            one_hot = one_hot * xp.reshape(hit, (size, *ones))
        return one_hot
