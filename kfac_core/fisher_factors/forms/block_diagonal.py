"""The factor for rows whose matrix is too large: it keeps blocks along the diagonal."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields

from kfac_core.backend import Backend
from kfac_core.errors import ArgumentError
from kfac_core.fisher_factors.base.options import Registration
from kfac_core.fisher_factors.base.state import Derived, FactorState
from kfac_core.fisher_factors.fully_connected import FullyConnectedKroneckerFactor
from kfac_core.fisher_factors.rows import RowsFactor
from kfac_core.linalg import psd
from kfac_core.linalg.block_diagonal import BlockDiagonalOperator
from kfac_core.linalg.psd import Eigendecomposition
from kfac_core.linalg.stacks import diagonals
from kfac_core.statistics.weighted_rows import Rows
from kfac_core.typing import Array, DampingId


@dataclass(frozen=True)
class FullyConnectedBlockDiagonalFactor(RowsFactor):
    """Second moment of rows, kept as blocks along its diagonal.

    It is a `FullyConnectedKroneckerFactor` whose rows are cut into parts that are taken
    to be uncorrelated. With ``b`` blocks, its memory and the work for a batch are
    divided by ``b``, and the work of `update_inverses` by ``b^2``. One block is the
    whole matrix; as many blocks as entries are the diagonal.

    The blocks are stored as a stack ``[num_blocks, m, m]``. The last block may be
    smaller; the padding in its place is never used.

    Attributes:
        size: Length of a row.
        has_bias: Whether each row ends in a one that is not stored; it belongs to the
            last block.
        num_blocks: Number of blocks. All have one size, except for the last.
        parts: The factor of each block, made from these fields.
        data_name: What the rows are called in messages.

    Example:
        >>> import numpy as np
        >>> factor = FullyConnectedBlockDiagonalFactor(3, num_blocks=2)
        >>> rows = np.asarray([[1.0, 2.0, 3.0], [3.0, 4.0, 5.0]])
        >>> state = factor.update_cov(factor.init(rows), rows, ema_decay=0.95)
        >>> factor.get_cov(state)
        array([[ 5.,  7.,  0.],
               [ 7., 10.,  0.],
               [ 0.,  0., 17.]])
    """

    num_blocks: int = field(kw_only=True)
    parts: tuple[FullyConnectedKroneckerFactor, ...] = field(
        init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        """Make the factors of the blocks, once.

        Raises:
            ArgumentError: If blocks of equal size would be fewer than `num_blocks`.
        """
        super().__post_init__()
        fewer = -(-self.dimension // self._block_size)
        if fewer < self.num_blocks:
            msg = (
                f"{self.label}: num_blocks is {self.num_blocks}, but"
                f" {self.dimension} entries, in blocks of {self._block_size}, are"
                f" {fewer} blocks; give num_blocks={fewer}"
            )
            raise ArgumentError(msg)
        served = {f.name: getattr(self, f.name) for f in fields(Registration) if f.init}
        m, count = self._block_size, self.num_blocks - 1
        whole = FullyConnectedKroneckerFactor(m, **served)
        last = FullyConnectedKroneckerFactor(
            self.size - count * m, self.has_bias, **served
        )
        object.__setattr__(self, "parts", (whole,) * count + (last,))

    @property
    def dimension(self) -> int:
        """Length of a row, with the one for the bias."""
        return self.size + self.has_bias

    @property
    def cov_shape(self) -> tuple[int, ...]:
        """``(num_blocks, m, m)``."""
        return (self.num_blocks, self._block_size, self._block_size)

    def get_cov_as_linear_operator(self, state: FactorState) -> BlockDiagonalOperator:
        """Return the estimated matrix as an operator."""
        return self._operator(self._backend(state), self.get_cov_var(state))

    def get_eigendecomp(self, state: FactorState) -> Eigendecomposition:
        """Return the eigendecomposition of the current statistics.

        Args:
            state: The state.

        Returns:
            Eigenvalues ``[n]``, block after block, ascending within each block and
            clipped at zero; eigenvectors, dense ``[n, n]``.
        """
        backend = self._backend(state)
        blocks = self._operator(backend, self.get_cov_var(state)).blocks
        parts = [self._decomposed(backend, block) for block in blocks]
        vectors = BlockDiagonalOperator(tuple(part.vectors for part in parts))
        values = backend.xp.concat([part.values for part in parts])
        return Eigendecomposition(values, vectors.to_dense())

    def get_eigenvectors(self, state: FactorState) -> BlockDiagonalOperator:
        """Return the eigenvectors of the stored eigendecomposition, as columns."""
        self.get_eigenvalues(state)
        (eigen,) = state.derived.eigendecompositions
        return self._operator(self._backend(state), eigen.vectors)

    @property
    def _block_size(self) -> int:
        return -(-self.dimension // self.num_blocks)

    def _moment(self, backend: Backend, rows: Rows) -> Array:
        m = self._block_size
        moments = []
        for i, part in enumerate(self.parts):
            own = [x[:, i * m : i * m + part.size] for x in rows.arrays]
            moments.append(part._moment(backend, rows._replace(arrays=own)))
        return self._stacked(backend, moments)

    def _identity(self, backend: Backend, like: Array) -> Array:
        eyes = [part._identity(backend, like) for part in self.parts]
        return self._stacked(backend, eyes)

    def _operator(self, backend: Backend, stored: Array) -> BlockDiagonalOperator:
        sizes = [part.dimension for part in self.parts]
        return BlockDiagonalOperator(
            tuple(stored[i, :n, :n] for i, n in enumerate(sizes))
        )

    def _power(self, backend: Backend, cov: Array, damping: Array, exp: float) -> Array:
        blocks = self._operator(backend, cov).blocks
        powers = [psd.power(backend, block, damping, exp) for block in blocks]
        return self._stacked(backend, powers)

    def _derive(
        self, backend: Backend, cov: Array, dampings: Mapping[DampingId, Array]
    ) -> Derived:
        blocks = self._operator(backend, cov).blocks
        derived = [
            part._derive(backend, block, dampings)
            for part, block in zip(self.parts, blocks, strict=True)
        ]
        return self._joined(backend, derived)

    def _refresh(
        self,
        backend: Backend,
        state: FactorState,
        cov: Array,
        dampings: Mapping[DampingId, Array],
    ) -> Derived:
        blocks = self._operator(backend, cov).blocks
        totals = self._operator(backend, state.cov.total).blocks
        inverses = [self._operator(backend, x).blocks for x in state.derived.matpowers]
        derived = []
        for i, part in enumerate(self.parts):
            of_part = state._replace(
                cov=state.cov._replace(total=totals[i]),
                derived=state.derived._replace(
                    matpowers=tuple(inverse[i] for inverse in inverses)
                ),
            )
            derived.append(part._refresh(backend, of_part, blocks[i], dampings))
        return self._joined(backend, derived)

    def _joined(self, backend: Backend, parts: Sequence[Derived]) -> Derived:
        """Return what the blocks derived, joined as the whole factor stores it."""

        def stacks(field: str) -> tuple[Array, ...]:
            places = zip(*(getattr(part, field) for part in parts), strict=True)
            return tuple(self._stacked(backend, blocks) for blocks in places)

        return Derived(
            dampings=parts[0].dampings,
            matpowers=stacks("matpowers"),
            choleskys=stacks("choleskys"),
            cholesky_inverses=stacks("cholesky_inverses"),
            eigendecompositions=tuple(
                Eigendecomposition(
                    backend.xp.concat([each.values for each in blocks]),
                    self._stacked(backend, [each.vectors for each in blocks]),
                )
                for blocks in zip(
                    *(part.eigendecompositions for part in parts), strict=True
                )
            ),
        )

    def _stacked(self, backend: Backend, blocks: Sequence[Array]) -> Array:
        """Return blocks as a stack, the last one filled up with zeros."""
        xp, last = backend.xp, blocks[-1]
        device = backend.creation_device(last)

        def zeros(*shape: int) -> Array:
            return xp.zeros(shape, dtype=last.dtype, device=device)

        n, m = last.shape[0], self._block_size
        last = xp.concat([last, zeros(n, m - n)], axis=1)
        last = xp.concat([last, zeros(m - n, m)], axis=0)
        stack: Array = xp.stack([*blocks[:-1], last])
        return stack

    def _entries_to_check(self, backend: Backend, statistic: Array) -> Array:
        return diagonals(backend, statistic)

    def _empty_eigendecomposition(
        self, backend: Backend, like: Array
    ) -> Eigendecomposition:
        blocks = self._operator(backend, like).blocks
        values = [psd.diagonal(backend, block) for block in blocks]
        return Eigendecomposition(backend.xp.concat(values) * 0, like * 0)
