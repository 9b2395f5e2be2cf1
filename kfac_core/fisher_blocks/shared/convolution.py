"""KFC of a convolution that every case uses several times."""

from dataclasses import dataclass, field
from typing import Any

from kfac_core.arguments.arrays import as_sources, as_towers, backend_for, check_paired
from kfac_core.arguments.random_keys import check_key
from kfac_core.backend import Backend
from kfac_core.errors import ArgumentError
from kfac_core.fisher_blocks.convolution.kronecker import ConvKFCBasicFB
from kfac_core.fisher_blocks.kronecker.state import KroneckerState
from kfac_core.rows.counts import counted, counted_uses
from kfac_core.rows.uses import MultiTowers, arrays_of, folded, in_parts
from kfac_core.rows.weights import sides
from kfac_core.statistics.patches.older_calls import takes_older_calls
from kfac_core.typing import (
    Array,
    Key,
    RowWeights,
    Scalar,
    Sources,
    Towers,
    Weights,
)


@takes_older_calls
@dataclass(frozen=True)
class ConvKFCBasicMultiIndepFB(ConvKFCBasicFB):
    """KFC of a shared convolution, its uses taken to be independent.

    ``F = P T kron(E[p p'], E[g g'])`` for ``P`` locations and ``T`` uses, the means
    over cases, locations and uses. ``tf.contrib.kfac`` mistakes the number of uses for
    a request to sample the cases.

    Attributes:
        geometry: The convolution's geometry; its data format is that of one use.
        has_bias: Whether the layer has a bias.
        num_uses: ``T``; None where the data say it. See `kfac_core.rows.uses`.
        batch_first: Whether the cases of an array come before their uses; see
            `kfac_core.rows.uses`.

    Example:
        >>> import numpy as np
        >>> from kfac_core import ConvolutionGeometry
        >>> geometry = ConvolutionGeometry((1, 1, 1, 1), padding="VALID")
        >>> block = ConvKFCBasicMultiIndepFB(geometry, num_uses=2)
        >>> x, g = np.ones((2, 3, 3, 1)), np.ones((2, 3, 3, 1))  # one case, two uses
        >>> state = block.update_covs(block.init(like=g), x, g, ema_decay=0.0)
        >>> block.full_fisher_block(state)
        array([[18.]])
    """

    num_uses: int | None = None
    batch_first: bool = field(default=False, kw_only=True)

    def update_covs(
        self,
        state: KroneckerState,
        inputs: Towers,
        outputs_grads: Sources,
        ema_decay: Scalar,
        ema_weight: Scalar | None = None,
        *,
        key: Key = None,
        weights: Weights | None = None,
        num_cases: Scalar | None = None,
    ) -> KroneckerState:
        """Fold a batch into the statistics of both factors.

        Args:
            state: The state; left as it is.
            inputs: One tower, in a form of `kfac_core.rows.uses`, each use an image
                ``[batch, ..spatial.., in_channels]``, or channels first; or a tuple of
                these (towers, weighted by their rows).
            outputs_grads: Gradients of the summed loss for the outputs of all uses,
                ``[batch, ..locations.., out_channels]`` each, or channels first, and in
                any of the forms of `inputs`; or a tuple of these (towers); or a tuple
                of such tuples (sources, summed).
            ema_decay: As in `ConvKFCBasicFB.update_covs`.
            ema_weight: As in `ConvKFCBasicFB.update_covs`.
            key: As in `ConvKFCBasicFB.update_covs`.
            weights: How much each case counts, ``[batch]``, or each use of each, ``[T,
                batch]``, ``[T * batch]`` or `Uses`, perhaps with axes for locations; or
                a tuple of these (towers). None: one each.
            num_cases: As in `ConvKFCBasicFB.update_covs`.

        Returns:
            The new state.

        Raises:
            KfacError: As `ConvKFCBasicFB.update_covs`.
            ArgumentError: Also if the number of uses is not known, not `num_uses`, or
                not the same for all data.
        """
        towers, sources = as_towers(inputs), as_sources(outputs_grads)
        all_data = (towers, *sources)
        arrays = (x for data in all_data for tower in data for x in arrays_of(tower))
        backend = backend_for(
            self.label, "state, inputs, outputs_grads", self._own(state).scale, *arrays
        )
        x, gradients, uses = self._paired(backend, towers, sources)
        options = {"key": key} if self.needs_key else {}
        if not options:
            check_key(backend, key, state.scale, self.label)
        shapes, like = [self._weighted_shape(each) for each in x], state.scale
        of_inputs, of_outputs = sides(weights)
        first = {"batch_first": self.batch_first}
        own, all_uses = counted_uses(
            backend, of_inputs, shapes, uses, num_cases, like, self.label, **first
        )
        others, _ = counted_uses(
            backend, of_outputs, shapes, uses, num_cases, like, self.label, **first
        )
        locations, rows = self._mean_uses(x), RowWeights(own, others)
        # The factors see each use of a case as a case of its own.
        counts = counted(backend, rows, shapes, locations, all_uses, like, self.label)
        return self._fold(
            backend,
            state,
            (x, gradients),
            counts._replace(uses=uses * locations),
            ema_decay,
            ema_weight,
            **options,
        )

    def count_cases(self, inputs: MultiTowers) -> int:
        """Return the number of cases in all towers, each counted once."""
        towers = as_towers(inputs)
        arrays = (x for tower in towers for x in arrays_of(tower))
        backend = backend_for(self.label, "inputs", *arrays)
        rank, cases = self.geometry.window.spatial_rank + 2, 0
        for tower in towers:
            parts, uses = in_parts(
                backend,
                tower,
                rank,
                self.num_uses,
                "inputs",
                self.label,
                batch_first=self.batch_first,
                in_order=False,
            )
            cases += sum(x.shape[0] for x in parts) // uses
        return cases

    def _paired(
        self,
        backend: Backend,
        towers: tuple[Any, ...],
        sources: tuple[tuple[Any, ...], ...],
    ) -> tuple[tuple[Array, ...], tuple[tuple[Array, ...], ...], int]:
        """Return inputs and gradients as arrays of all rows, checked, and ``T``.

        Raises:
            ArgumentError: If gradients have another number of uses.
        """
        x, uses = self._folded(backend, towers, "inputs")
        gradients = []
        for source in sources:
            g, found = self._folded(backend, source, "outputs_grads")
            if found != uses:
                msg = (
                    f"{self.label}: the inputs have {uses} uses and outputs_grads"
                    f" {found}; give both for the same uses"
                )
                raise ArgumentError(msg)
            check_paired(x, g, self.label)
            for pair in zip(x, g, strict=True):
                self._check_pair(*pair)
            gradients.append(g)
        return x, tuple(gradients), uses

    def _folded(
        self, backend: Backend, towers: tuple[Any, ...], argument: str
    ) -> tuple[tuple[Array, ...], int]:
        """Return the towers as arrays of all rows, and ``T``."""
        rank = self.geometry.window.spatial_rank + 2
        pairs = [
            folded(
                backend,
                tower,
                rank,
                self.num_uses,
                argument,
                self.label,
                batch_first=self.batch_first,
            )
            for tower in towers
        ]
        counts = [uses for _, uses in pairs]
        if len(set(counts)) != 1:
            msg = (
                f"{self.label}: the towers of {argument} have {counts} uses, expected"
                " at least one tower, and as many uses in each"
            )
            raise ArgumentError(msg)
        return tuple(x for x, _ in pairs), counts[0]
