"""`BlockDiagonal`: the form that keeps blocks along the diagonal of a large matrix."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from kfac_core.arguments.sizes import as_size
from kfac_core.backend import Backend
from kfac_core.errors import ArgumentError
from kfac_core.fisher_factors.base.factor import FisherFactor
from kfac_core.fisher_factors.base.form import Form, decomposed
from kfac_core.fisher_factors.base.state import Derived, FactorState
from kfac_core.fisher_factors.forms.dense import Dense
from kfac_core.linalg import psd
from kfac_core.linalg.block_diagonal import BlockDiagonalOperator
from kfac_core.linalg.psd import Eigendecomposition
from kfac_core.linalg.spectrum import Eigenbasis
from kfac_core.linalg.stacks import diagonals
from kfac_core.statistics.rows import second_moment
from kfac_core.statistics.weighted_rows import Rows
from kfac_core.typing import Array, DampingId


@dataclass(frozen=True)
class BlockDiagonal(Form):
    """Blocks along the diagonal: parts of a row are taken to be uncorrelated.

    With ``b`` blocks, the memory and the work for a batch are divided by ``b``, and the
    work of `update_inverses` by ``b^2``. One block is the whole matrix; as many blocks
    as entries are the diagonal.

    The blocks are kept as a stack ``[blocks, m, m]``. The last block may be smaller;
    the padding in its place is never used. The bias belongs to the last block.

    Attributes:
        blocks: Number of blocks. All have one size, except for the last.

    Example:
        >>> import numpy as np
        >>> import kfac_core as kc
        >>> form = BlockDiagonal(blocks=2)
        >>> factor = kc.factors.FullyConnectedKroneckerFactor(3, form=form)
        >>> rows = np.asarray([[1.0, 2.0, 3.0], [3.0, 4.0, 5.0]])
        >>> state = factor.update_cov(factor.init(rows), rows, ema_decay=0.95)
        >>> factor.get_cov(state)
        array([[ 5.,  7.,  0.],
               [ 7., 10.,  0.],
               [ 0.,  0., 17.]])
    """

    blocks: int = field(kw_only=True)

    of_block: ClassVar[Dense] = Dense()
    """The form of each block."""

    def __post_init__(self) -> None:
        """Check the number of blocks.

        Raises:
            ArgumentError: If it is not a positive integer.
        """
        blocks = as_size(self.blocks, "blocks", type(self).__name__)
        object.__setattr__(self, "blocks", blocks)

    def shape(self, size: int) -> tuple[int, ...]:
        m = -(-size // self.blocks)
        return (self.blocks, m, m)

    def check(self, factor: FisherFactor) -> None:
        """Check that there are as many blocks.

        Raises:
            ArgumentError: If blocks of equal size would be fewer than `blocks`.
        """
        size, m = factor.dimension, self.shape(factor.dimension)[-1]
        fewer = -(-size // m)
        if fewer < self.blocks:
            msg = (
                f"{factor.label}: blocks is {self.blocks}, but {size} entries, in"
                f" blocks of {m}, are {fewer} blocks; give blocks={fewer}"
            )
            raise ArgumentError(msg)

    def of_rows(self, backend: Backend, rows: Rows, has_bias: bool) -> Array:
        arrays, roots, count = rows
        n = arrays[0].shape[1]
        m = self.shape(n + has_bias)[-1]
        moments = [
            second_moment(
                backend,
                [x[:, i * m : min((i + 1) * m, n)] for x in arrays],
                has_bias=has_bias and i == self.blocks - 1,
                roots=roots,
                count=count,
            )
            for i in range(self.blocks)
        ]
        return _stacked(backend, moments, m)

    def identity(self, backend: Backend, like: Array, factor: FisherFactor) -> Array:
        kept = self.operator(backend, like, factor).blocks
        eyes = [self.of_block.identity(backend, block, factor) for block in kept]
        return _stacked(backend, eyes, like.shape[-1])

    def operator(
        self, backend: Backend, kept: Array, factor: FisherFactor
    ) -> BlockDiagonalOperator:
        m = kept.shape[-1]
        last = factor.dimension - (self.blocks - 1) * m
        sizes = [m] * (self.blocks - 1) + [last]
        return BlockDiagonalOperator(
            tuple([kept[i, :n, :n] for i, n in enumerate(sizes)])
        )

    def power(
        self,
        backend: Backend,
        cov: Array,
        damping: Array,
        exp: float,
        factor: FisherFactor,
    ) -> Array:
        blocks = self.operator(backend, cov, factor).blocks
        powers = [psd.power(backend, block, damping, exp) for block in blocks]
        return _stacked(backend, powers, cov.shape[-1])

    def derive(
        self,
        backend: Backend,
        cov: Array,
        dampings: Mapping[DampingId, Array],
        factor: FisherFactor,
    ) -> Derived:
        derived = [
            self.of_block.derive(backend, block, dampings, factor)
            for block in self.operator(backend, cov, factor).blocks
        ]
        return _joined(backend, derived, cov.shape[-1])

    def refresh(
        self,
        backend: Backend,
        state: FactorState,
        cov: Array,
        dampings: Mapping[DampingId, Array],
        factor: FisherFactor,
    ) -> Derived:
        def blocks(kept: Array) -> tuple[Array, ...]:
            return self.operator(backend, kept, factor).blocks

        totals = blocks(state.cov.total)
        inverses = [blocks(inverse) for inverse in state.derived.matpowers]
        derived = []
        for i, block in enumerate(blocks(cov)):
            of_part = state._replace(
                cov=state.cov._replace(total=totals[i]),
                derived=state.derived._replace(
                    matpowers=tuple([inverse[i] for inverse in inverses])
                ),
            )
            derived.append(
                self.of_block.refresh(backend, of_part, block, dampings, factor)
            )
        return _joined(backend, derived, cov.shape[-1])

    def eigendecomposition(
        self, backend: Backend, cov: Array, factor: FisherFactor
    ) -> Eigendecomposition:
        """Return the eigenvalues block after block, and dense eigenvectors."""
        values, vectors = self.eigenbasis(backend, cov, factor)
        return Eigendecomposition(values, BlockDiagonalOperator(vectors).to_dense())

    def eigenbasis(
        self, backend: Backend, cov: Array, factor: FisherFactor
    ) -> Eigenbasis:
        blocks = self.operator(backend, cov, factor).blocks
        parts = [decomposed(backend, block, factor.label) for block in blocks]
        values = backend.xp.concat([part.values for part in parts])
        return Eigenbasis(values, tuple([part.vectors for part in parts]))

    def kept_basis(
        self, backend: Backend, kept: Eigendecomposition, factor: FisherFactor
    ) -> Eigenbasis:
        blocks = self.operator(backend, kept.vectors, factor).blocks
        return Eigenbasis(kept.values, blocks)

    def entries_to_check(self, backend: Backend, statistic: Array) -> Array:
        return diagonals(backend, statistic)


def _joined(backend: Backend, parts: Sequence[Derived], m: int) -> Derived:
    """Return what the blocks derived, joined as the factor keeps it."""

    def stacks(field: str) -> tuple[Array, ...]:
        places = zip(*(getattr(part, field) for part in parts), strict=True)
        return tuple(_stacked(backend, blocks, m) for blocks in places)

    return Derived(
        dampings=parts[0].dampings,
        matpowers=stacks("matpowers"),
        choleskys=stacks("choleskys"),
        cholesky_inverses=stacks("cholesky_inverses"),
        eigendecompositions=tuple(
            Eigendecomposition(
                backend.xp.concat([each.values for each in blocks]),
                _stacked(backend, [each.vectors for each in blocks], m),
            )
            for blocks in zip(
                *(part.eigendecompositions for part in parts), strict=True
            )
        ),
    )


def _stacked(backend: Backend, blocks: Sequence[Array], m: int) -> Array:
    """Return blocks as a stack ``[blocks, m, m]``, the last filled up with zeros."""
    xp, last = backend.xp, blocks[-1]
    device = backend.creation_device(last)

    def zeros(*shape: int) -> Array:
        return xp.zeros(shape, dtype=last.dtype, device=device)

    n = last.shape[0]
    last = xp.concat([last, zeros(n, m - n)], axis=1)
    last = xp.concat([last, zeros(m - n, m)], axis=0)
    stack: Array = xp.stack([*blocks[:-1], last])
    return stack
