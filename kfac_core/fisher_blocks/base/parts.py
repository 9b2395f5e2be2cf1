"""`PartsFB`: a block that is block diagonal, with a block for each part."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

from kfac_core.arguments.sizes import as_flag
from kfac_core.backend import Backend
from kfac_core.fisher_blocks.base.block import FisherBlock
from kfac_core.fisher_blocks.base.state import whole
from kfac_core.fisher_factors import FactorState, FisherFactor
from kfac_core.linalg.spectrum import Spectrum
from kfac_core.registry import backend_of
from kfac_core.spec.signature import UNSIGNED, Signature, check_kind
from kfac_core.state_classes import state_class
from kfac_core.typing import Array, Params, Scalar


@state_class
class PartsState(NamedTuple):
    """State of a `PartsFB`.

    Attributes:
        parts: State of the block of each part.
        made_by: What kind of block the state belongs to, and what it serves.

    Example:
        >>> import numpy as np
        >>> from kfac_core.fisher_blocks import TransposedConvKFCBasicFB
        >>> from kfac_core import ConvolutionGeometry
        >>> geometry = ConvolutionGeometry((2, 1, 1), padding="VALID", strides=2)
        >>> block = TransposedConvKFCBasicFB(geometry, has_bias=True)
        >>> state = block.init(like=np.ones(1))
        >>> [type(part).__name__ for part in state.parts]
        ['KroneckerState', 'SingleFactorState']
    """

    parts: tuple[Any, ...]
    made_by: Signature = UNSIGNED

    @property
    def ok(self) -> Array:
        """0-d boolean: whether, under a trace, no last update was refused."""
        return _all([part.ok for part in self.parts])

    def flag(self, name: str) -> Array:
        """Return whether a flag of `FactorState` holds for all factors."""
        return _all([part.flag(name) for part in self.parts])

    def with_flag(self, name: str, ok: Array) -> Self:
        """Return the state with a flag of all factors set."""
        # An array for each: no array stands in two places of a state.
        return self._replace(
            parts=tuple(part.with_flag(name, ok & ok) for part in self.parts)
        )


@dataclass(frozen=True, kw_only=True)
class PartsFB(FisherBlock[PartsState]):
    """Abstract base of the blocks whose parameters fall into uncorrelated parts.

    Each part has a block of its own, such as a Kronecker product for the weights and a
    whole matrix for the bias. The parts are updated together: all of them, or none.

    Attributes:
        parts: For each part its name and its block, made from the block's fields.

    Example:
        >>> from kfac_core.fisher_blocks import TransposedConvKFCBasicFB
        >>> from kfac_core import ConvolutionGeometry
        >>> geometry = ConvolutionGeometry((2, 1, 1), padding="VALID", strides=2)
        >>> block = TransposedConvKFCBasicFB(geometry, has_bias=True)
        >>> [(name, type(part).__name__) for name, part in block.parts]
        [('weights', 'TransposedWeightsFB'), ('bias', 'BiasFullFB')]
    """

    parts: tuple[tuple[str, FisherBlock[Any]], ...] = field(
        init=False, repr=False, compare=False
    )

    def init(self, like: Array) -> PartsState:
        """Return the state before any data; see `FisherBlock.init`."""
        parts = tuple(block.init(like) for _, block in self.parts)
        return PartsState(parts, self._signed())

    def init_inverses(self, state: PartsState) -> PartsState:
        """Return `state` with its statistics, and nothing computed from them yet."""
        check_kind(state, self._made_by, self.label)
        parts = (block.init_inverses(part) for block, part in self._paired(state))
        return PartsState(tuple(parts), self._signed())

    def update_inverses(self, state: PartsState, damping: Scalar) -> PartsState:
        """Compute all that is registered; see `FisherBlock.update_inverses`."""
        new = self._own(state)._replace(
            parts=tuple(
                block.update_inverses(part, damping)
                for block, part in self._paired(state)
            )
        )
        return whole(backend_of(new.ok), new, state, "derived_ok")

    def inverse_error(self, state: PartsState, damping: Scalar) -> Array:
        """Return the largest error of the parts; see `FisherBlock.inverse_error`."""
        backend = backend_of(self._own(state).ok)
        worst, *others = (
            block.inverse_error(part, damping) for block, part in self._paired(state)
        )
        for error in others:
            worst = backend.xp.maximum(worst, error)
        return worst

    def multiply_matpower(
        self, state: PartsState, vector: Params, exp: float
    ) -> Params:
        """Return a power times `vector`; see `FisherBlock.multiply_matpower`."""
        return self._multiply(
            state, vector, lambda block, part, v: block.multiply_matpower(part, v, exp)
        )

    def multiply_cholesky(
        self, state: PartsState, vector: Params, transpose: bool = False
    ) -> Params:
        """Return ``L`` times `vector`; see `FisherBlock.multiply_cholesky`."""
        flag = as_flag(transpose, "transpose", self.label)
        return self._multiply(
            state,
            vector,
            lambda block, part, v: block.multiply_cholesky(part, v, flag),
        )

    def multiply_cholesky_inverse(
        self, state: PartsState, vector: Params, transpose: bool = False
    ) -> Params:
        """Return ``inv(L)`` times `vector`; see `FisherBlock.multiply_cholesky`."""
        flag = as_flag(transpose, "transpose", self.label)
        return self._multiply(
            state,
            vector,
            lambda block, part, v: block.multiply_cholesky_inverse(part, v, flag),
        )

    def full_fisher_block(self, state: PartsState) -> Array:
        """Return the block of the current statistics, dense and undamped."""
        backend = backend_of(self._own(state).ok)
        dense = [block.full_fisher_block(part) for block, part in self._paired(state)]
        return self._in_order(backend, _block_diagonal(backend, dense))

    def spectrum(self, state: PartsState) -> tuple[Spectrum, ...]:
        """Return those of all parts; see `FisherBlock.spectrum`."""
        pairs = self._paired(self._own(state))
        return tuple(s for block, part in pairs for s in block.spectrum(part))

    def to_tensors(self, backend: Backend, vector: Params) -> tuple[Array, ...]:
        """Return the tensor of each part; see `FisherBlock.to_tensors`."""
        split = self._split(backend, vector)
        return tuple(
            tensor
            for (_, block), part in zip(self.parts, split, strict=True)
            for tensor in block.to_tensors(backend, part)
        )

    def from_tensors(
        self, backend: Backend, tensors: tuple[Array, ...], like: Params
    ) -> Params:
        """Return a vector in the form of `like`; see `FisherBlock.from_tensors`."""
        split = self._split(backend, like)
        products = tuple(
            block.from_tensors(backend, (tensor,), part)
            for (_, block), tensor, part in zip(self.parts, tensors, split, strict=True)
        )
        return self._joined(backend, products, like)

    def factors(self, state: PartsState) -> dict[str, tuple[FisherFactor, FactorState]]:
        """Return the factors of all parts, each by the names of part and factor."""
        return {
            f"{name}_{factor}": pair
            for (name, block), part in zip(
                self.parts, self._own(state).parts, strict=True
            )
            for factor, pair in block.factors(part).items()
        }

    def _union(self, states: tuple[PartsState, ...]) -> PartsState:
        columns = zip(*[state.parts for state in states], strict=True)
        parts = tuple(
            block.merge(*own)
            for (_, block), own in zip(self.parts, columns, strict=True)
        )
        new = PartsState(parts, self._signed())
        return whole(backend_of(new.ok), new, states[0], "cov_ok")

    @abstractmethod
    def _split(self, backend: Backend, vector: Params) -> tuple[Params, ...]:
        """Check the shapes, and return the vector of each part."""

    @abstractmethod
    def _joined(
        self, backend: Backend, products: tuple[Params, ...], vector: Params
    ) -> Params:
        """Return the products of all parts in the form of `vector`."""

    def _in_order(self, backend: Backend, dense: Array) -> Array:
        """Return a matrix of all parts, reordered as the parameters are."""
        return dense

    def _paired(self, state: PartsState) -> list[tuple[FisherBlock[Any], Any]]:
        return [
            (block, part)
            for (_, block), part in zip(self.parts, state.parts, strict=True)
        ]

    def _multiply(
        self,
        state: PartsState,
        vector: Params,
        multiply: Callable[[FisherBlock[Any], Any, Params], Params],
    ) -> Params:
        backend = self._vector_backend(self._own(state), vector)
        pairs = zip(self._paired(state), self._split(backend, vector), strict=True)
        products = tuple(multiply(block, part, v) for (block, part), v in pairs)
        return self._joined(backend, products, vector)

    def _set_parts(self, **parts: FisherBlock[Any] | None) -> None:
        """Set the parts that are not None, by name."""
        there = tuple((name, block) for name, block in parts.items() if block)
        object.__setattr__(self, "parts", there)


def _all(flags: list[Array]) -> Array:
    first, *others = flags
    for flag in others:
        first = first & flag
    return first


def _block_diagonal(backend: Backend, matrices: list[Array]) -> Array:
    """Return a matrix with the given matrices along its diagonal."""
    if len(matrices) == 1:
        return matrices[0]
    xp = backend.xp
    total = sum(matrix.shape[0] for matrix in matrices)
    rows, start = [], 0
    for matrix in matrices:
        size = matrix.shape[0]
        device = backend.creation_device(matrix)

        def zeros(
            columns: int, size: int = size, matrix: Array = matrix, device: Any = device
        ) -> Array:
            return xp.zeros((size, columns), dtype=matrix.dtype, device=device)

        after = total - start - size
        rows.append(xp.concat([zeros(start), matrix, zeros(after)], axis=1))
        start += size
    dense: Array = xp.concat(rows, axis=0)
    return dense
