"""The members that make a loss, and how its methods prepare their arguments."""

from abc import ABC, abstractmethod
from copy import copy
from dataclasses import dataclass
from numbers import Integral
from typing import Any, ClassVar, NoReturn, Self, cast

from kfac_core.arguments.arrays import backend_for
from kfac_core.backend import Backend
from kfac_core.errors import (
    ArgumentError,
    DTypeError,
    NotFiniteError,
    ShapeError,
    UnsupportedError,
)
from kfac_core.loss_functions.positions import (
    Positions,
    check_beside,
    input_arrays,
    like_inputs,
    positions_of,
    shape_of,
)
from kfac_core.loss_functions.validity import checked_inputs, checked_targets
from kfac_core.spec.quiet import Quiet
from kfac_core.state import is_known_false
from kfac_core.typing import Array, LossInputs

_REALS = ("bool", "integral", "real floating")

Index = tuple[int, ...]
"""A place on all axes of an inner vector, except the batch."""


@dataclass(frozen=True)
class LossMembers(Quiet, ABC):
    """The members of a loss; `LossFunction` describes arguments and results."""

    input_names: ClassVar[tuple[str, ...]] = ("inputs",)
    has_range: ClassVar[bool] = False
    expected_targets: ClassVar[str] = "finite numbers"

    calls_a_model: ClassVar[bool] = False

    _called: ClassVar[str] = ""

    @property
    def label(self) -> str:
        """The name of the loss in messages: its own, or the name of its class."""
        return self._called or type(self).__name__

    def called(self, name: str) -> Self:
        """Return the loss with a name for messages, such as the registered name.

        Raises:
            ArgumentError: If the name is not a string.
        """
        given: object = name
        if not isinstance(given, str) or not given:
            msg = f"{self.label}: name is {given!r}, expected a string"
            raise ArgumentError(msg)
        if name == self.label:
            return self
        named = copy(self)
        object.__setattr__(named, "_called", name)
        return named

    def targets_shape(self, inputs: LossInputs) -> tuple[int, ...]:
        """Return the shape of the targets; by default the shape of the inputs."""
        return shape_of(inputs, self.input_names, self.label)

    def noise_shape(self, inputs: LossInputs) -> tuple[int, ...]:
        """Return the shape of the uniform noise that makes one set of targets.

        By default it is the shape of the targets.
        """
        return self.targets_shape(inputs)

    def fisher_factor_inner_shape(self, inputs: LossInputs) -> tuple[int, ...]:
        """Return the shape of what ``B`` multiplies; by default the inputs' shape."""
        return shape_of(inputs, self.input_names, self.label)

    def ggn_factor_inner_shape(self, inputs: LossInputs) -> tuple[int, ...]:
        """Return the shape of what the factor of `multiply_ggn_factor` multiplies.

        Raises:
            UnsupportedError: If the loss has no Gauss-Newton matrix.
        """
        del inputs
        self._no_ggn()

    def mask_for(self, targets: Array, mask: Array | None = None) -> Array | None:
        """Return a mask that is zero where targets are to be ignored: here, nowhere.

        Args:
            targets: Targets of the shape `targets_shape`.
            mask: Weights of the positions, ``[batch, ...]``, or None.

        Returns:
            Weights of the positions, or None.
        """
        given = [] if mask is None else [mask]
        backend_for(self.label, "targets, mask", targets, *given)
        return mask

    def counting_all(self) -> Self:
        """Return the loss that ignores no target, for targets drawn from the model."""
        return self

    def _valid_inputs(self, backend: Backend, inputs: Any) -> Array:
        """Return whether inputs are valid, in the shape of each input, or broadcast.

        By default, finite inputs are valid.
        """
        first, *others = input_arrays(inputs)
        valid = backend.xp.isfinite(first)
        for x in others:
            valid = valid & backend.xp.isfinite(x)
        return valid

    def _valid_targets(
        self, backend: Backend, given: Array, targets: Array, inputs: Any
    ) -> Array:
        """Return whether targets are valid, broadcast to those of `_as_targets`.

        By default, finite targets are valid. `given` are the user's targets, with zeros
        where the mask is zero.
        """
        del given, inputs
        return backend.xp.isfinite(targets)

    def _as_targets(self, backend: Backend, targets: Array, inputs: Any) -> Array:
        """Return targets of the right shape in the form that the other members get."""
        if not backend.isdtype(targets.dtype, _REALS):
            msg = f"{self.label}: targets has dtype {targets.dtype}, expected reals"
            raise DTypeError(msg)
        return backend.xp.astype(targets, input_arrays(inputs)[0].dtype)

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
        """Return the transpose of the Gauss-Newton factor times a vector."""
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
        backend = backend_for(
            self.label, "targets, inputs", targets, *input_arrays(inputs)
        )
        shape = self.targets_shape(inputs)
        check_beside(targets, shape, "targets", self.input_names, self.label)
        at = self._checked(inputs, self.mask_for(targets, mask))
        by_position = shape == tuple(input_arrays(inputs)[0].shape[:-1])
        known = at.filled(backend.stop_gradient(targets), by_position=by_position)
        prepared = self._as_targets(backend, known, at.inputs)
        valid = self._valid_targets(backend, known, prepared, at.inputs)
        expected = self.expected_targets
        return at, checked_targets(at, valid, known, prepared, expected, self.label)

    def _checked(self, inputs: LossInputs, mask: Array | None) -> Positions:
        """Return the inputs, checked and masked, after checking their values, too."""
        return self._values(self._positions(inputs, mask))

    def _values(self, at: Positions) -> Positions:
        """Check the values of checked and masked inputs, and return the inputs."""
        names, has_range = self.input_names, self.has_range
        return checked_inputs(
            at, self._valid_inputs, names, self.label, has_range=has_range
        )

    def _with_vector(
        self, inputs: LossInputs, vector: LossInputs, mask: Array | None
    ) -> tuple[Positions, Any]:
        """Return inputs and a vector like them, checked and masked."""
        at = self._positions(inputs, mask, least_axes=1)
        vectors = self._vectors(at, inputs, vector)
        return self._values(at), vectors

    def _vectors(self, at: Positions, inputs: LossInputs, vector: LossInputs) -> Any:
        """Return a vector like the inputs, checked and masked."""
        given, parts = input_arrays(inputs), input_arrays(vector)
        if len(given) != len(parts):
            msg = f"{self.label}: vector has {len(parts)} arrays, the inputs have"
            msg = f"{msg} {len(given)}; give one for each"
            raise ShapeError(msg)
        vectors = [
            self._vector(at, part, tuple(x.shape), "vector", inputs)
            for part, x in zip(parts, given, strict=True)
        ]
        shapes = [tuple(part.shape) for part in vectors]
        if shapes != shapes[:1] * len(shapes):
            msg = f"{self.label}: vector has arrays of shapes {shapes}, expected the"
            msg = f"{msg} same of all"
            raise ShapeError(msg)
        return like_inputs(inputs, vectors)

    def _with_inner(
        self,
        inputs: LossInputs,
        inner: Array,
        shape: tuple[int, ...],
        mask: Array | None,
    ) -> tuple[Positions, Array]:
        """Return inputs and an inner vector, checked and masked."""
        at = self._positions(inputs, mask, least_axes=1)
        vector = self._vector(at, inner, shape, "inner", inputs)
        return self._values(at), vector

    def _vector(
        self,
        at: Positions,
        x: Array,
        shape: tuple[int, ...],
        argument: str,
        inputs: LossInputs,
    ) -> Array:
        backend_for(self.label, f"{argument}, inputs", x, *input_arrays(inputs))
        if not at.backend.isdtype(x.dtype, _REALS):
            msg = f"{self.label}: {argument} has dtype {x.dtype}, expected real numbers"
            raise DTypeError(msg)
        leading = max(0, len(x.shape) - len(shape))
        wanted: tuple[int | str, ...] = (*["..."] * leading, *shape)
        check_beside(x, wanted, argument, self.input_names, self.label)
        vector = at.filled(at.backend.xp.astype(x, at.dtype))
        if is_known_false(at.backend, at.backend.is_finite(vector)):
            msg = f"{self.label}: {argument} holds NaN or infinity"
            raise NotFiniteError(msg)
        return vector

    def _results(
        self, at: Positions, product: Any, inputs: LossInputs, *, root: bool = False
    ) -> Any:
        """Return arrays like the inputs, weighted and in the dtypes of the inputs."""
        arrays = [
            at.backend.xp.astype(at.weighted(part, root=root), x.dtype)
            for part, x in zip(input_arrays(product), input_arrays(inputs), strict=True)
        ]
        return like_inputs(inputs, arrays)

    def _inner_result(self, at: Positions, product: Array, inputs: LossInputs) -> Array:
        """Return an inner vector, weighted and in the dtype of the inputs."""
        dtype = at.backend.xp.result_type(*input_arrays(inputs))
        return at.backend.xp.astype(at.weighted(product, root=True), dtype)

    def _as_uniforms(self, at: Positions, noise: Array) -> Array:
        """Check noise, and return it in the dtype of the inputs, still below one."""
        xp = at.backend.xp
        if not at.backend.isdtype(noise.dtype, "real floating"):
            msg = f"{self.label}: noise has dtype {noise.dtype}, expected real numbers"
            raise DTypeError(msg)
        if is_known_false(at.backend, xp.all((noise >= 0) & (noise < 1))):
            msg = f"{self.label}: noise is not all in [0, 1), as uniform numbers are"
            raise ArgumentError(msg)
        if noise.dtype == at.dtype:
            return noise
        # A number that rounds to one in a narrower dtype would not be in [0, 1).
        largest = 1 - float(xp.finfo(at.dtype).eps) / 2
        uniforms = xp.astype(noise, at.dtype)
        return xp.minimum(uniforms, xp.full_like(uniforms, largest))

    def _replicated_one_hot(
        self, at: Positions, shape: tuple[int, ...], index: Index
    ) -> Array:
        """Return an inner vector that is one at an index, for every case."""
        sizes, given = shape[1:], cast("Any", index)
        if (
            not isinstance(given, tuple | list)
            or len(given) != len(sizes)
            or not all(
                isinstance(place, int | Integral)
                and not isinstance(place, bool)
                and 0 <= int(place) < size
                for place, size in zip(given, sizes, strict=True)
            )
        ):
            msg = (
                f"{self.label}: index is {index}, expected a place on each axis of"
                f" {sizes}, the inner shape but the batch"
            )
            raise ArgumentError(msg)
        xp = at.backend.xp
        device = at.backend.creation_device(input_arrays(at.inputs)[0])
        one_hot = xp.ones(shape, dtype=at.dtype, device=device)
        for axis, (place, size) in enumerate(zip(index, sizes, strict=True)):
            places = xp.arange(size, device=device)
            hit = xp.astype(xp.equal(places, place), at.dtype)
            ones = (1,) * (len(sizes) - axis - 1)
            one_hot = one_hot * xp.reshape(hit, (size, *ones))
        return one_hot
