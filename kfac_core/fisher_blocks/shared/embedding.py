"""The block of an embedding that every case uses several times."""

from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from kfac_core.backend import Backend
from kfac_core.fisher_blocks.embedding.rows import EmbeddingRowsFB
from kfac_core.fisher_blocks.shared.fully_connected import MultiUseFB
from kfac_core.fisher_factors import EmbeddingInputKroneckerFactor
from kfac_core.linalg.layouts import DenseLayout
from kfac_core.rows.weights import UseWeights, in_uses
from kfac_core.statistics.ids import RepeatedIds
from kfac_core.typing import Array, DTypeName, Uses


@dataclass(frozen=True)
class EmbeddingKFACMultiIndepFB(EmbeddingRowsFB, MultiUseFB):
    """K-FAC of a shared embedding, its uses taken to be independent.

    It is a `FullyConnectedMultiIndepFB` with the input factor of `EmbeddingKFACFB`.

    Attributes:
        vocab_size: Number of ids, rows of the parameters.
        output_size: Length of an embedding, columns of the parameters.
        dtype: Dtype of the statistics of ids; by default that of `init`'s array.
        repeated_ids: How an id that is repeated within one use of a case counts; see
            `kfac_core.fisher_factors.EmbeddingInputKroneckerFactor`.
        num_uses: ``T``, or None where the data say it. Ids are ``[T * N]``,
            ``[T, N]``, ``[T, N, m]`` for ``m`` ids a use, or `Uses` of ``[N]`` or
            ``[N, m]``.
        batch_first: As in `MultiUseFB`.
        diagonal_approx_for_output: Whether to keep the diagonal of ``G`` alone.
        output_max_rows: As in `FullyConnectedMultiIndepFB`.
        output_blocks: As in `FullyConnectedMultiIndepFB`.
        layout: As in `EmbeddingKFACFB`.
        padding_id: As in `EmbeddingKFACFB`.
        negative_ids_are_padding: As in `EmbeddingKFACFB`.

    Example:
        >>> import numpy as np
        >>> block = EmbeddingKFACMultiIndepFB(vocab_size=3, output_size=1)
        >>> ids, g = np.asarray([[0, 1], [1, 1]]), np.ones((2, 2, 1))
        >>> state = block.update_covs(block.init(like=g), ids, g, ema_decay=0.0)
        >>> block.full_fisher_block(state).diagonal()
        array([0.5, 1.5, 0. ])
    """

    vocab_size: int
    output_size: int
    dtype: DTypeName | None = None
    repeated_ids: RepeatedIds = field(default="n_hot", kw_only=True)
    num_uses: int | None = None
    diagonal_approx_for_output: bool = False
    output_max_rows: int | None = field(default=None, kw_only=True)
    output_blocks: int = field(default=1, kw_only=True)
    layout: DenseLayout = field(default="in_out", kw_only=True)
    padding_id: int | None = field(default=None, kw_only=True)
    negative_ids_are_padding: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        """Make the factors, once."""
        super().__post_init__()
        self._set_dense_layout(
            self.layout, self.vocab_size, self.output_size, self.label
        )
        self._set_factors(
            EmbeddingInputKroneckerFactor(
                self.vocab_size,
                self.dtype,
                self.repeated_ids,
                padding_id=self.padding_id,
                negative_ids_are_padding=self.negative_ids_are_padding,
                **self._factor_options("input"),
            ),
            self._rows_factor(
                self.output_size,
                False,
                "output",
                diagonal=self.diagonal_approx_for_output,
                max_rows=self.output_max_rows,
                num_blocks=self.output_blocks,
            ),
        )

    def _input_rank(self, tower: Any) -> int:
        if isinstance(tower, Uses):
            return tower.arrays[0].ndim if tower.arrays else 1
        return 2 if tower.ndim == 3 else 1

    def _known(
        self,
        backend: Backend,
        towers: tuple[Any, ...],
        parts: tuple[Array, ...],
        uses: int,
        like: Array,
    ) -> tuple[UseWeights, ...] | None:
        known = self.input_factor.known_cases(backend, parts, like.dtype)
        if known is None:
            return None
        rest, found = iter(known), []
        for tower in towers:
            if isinstance(tower, Uses):
                own = list(islice(rest, len(tower.arrays)))
                found.append(UseWeights(backend.xp.stack(own)))
            else:
                found.append(
                    in_uses(backend, next(rest), uses, case_slow=self.batch_first)
                )
        return tuple(found)
