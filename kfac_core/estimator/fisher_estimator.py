"""`FisherEstimator`: the blocks of all layers as one curvature matrix."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from kfac_core.arguments.arrays import backend_for
from kfac_core.arguments.random_keys import drawn
from kfac_core.arguments.sizes import as_size
from kfac_core.errors import ArgumentError
from kfac_core.estimator.block_diagonal import BlockDiagonalMatrix
from kfac_core.estimator.cases import check_cases
from kfac_core.estimator.counting import case_weights, counting
from kfac_core.estimator.given import check_unused
from kfac_core.estimator.layer_data import (
    LayerGiven,
    layer_data,
    parameter_data,
    weight_of,
)
from kfac_core.estimator.sharing import Turn, check_share
from kfac_core.estimator.sources import (
    LABEL,
    RANDOM_MODES,
    EstimationMode,
    MatrixType,
    check_mode,
    matrix_type,
    noise_for,
    noise_shapes,
    sources,
)
from kfac_core.estimator.state import EstimatorState, whole
from kfac_core.layer_collection import LayerRegistration
from kfac_core.layer_collection.parts import owners
from kfac_core.linearization import Linearization, NamedLossInputs
from kfac_core.linearization.checked import checked
from kfac_core.registered_losses import losses_at
from kfac_core.state import chosen_together, kept, without_graph
from kfac_core.typing import Array, Key, Scalar


@dataclass(frozen=True)
class FisherEstimator(BlockDiagonalMatrix):
    """Estimates the Fisher (or GGN) of a model, block-diagonal over its layers.

    Statistics and inverses are updated independently: the caller decides when to call
    `update_covs` and `update_inverses`, for all layers or some.

    Attributes:
        estimation_mode: Name of the way to estimate; see `kfac_core.estimator.sources`.
        num_samples: Number of samples in the modes that draw random numbers; each
            sample costs a backward pass.
        statistics_share: Share of the cases that statistics are made of, above 0; 1:
            all. See `kfac_core.estimator.sharing`.

    Example:
        >>> import numpy as np
        >>> from kfac_core.loss_functions import CategoricalLogitsNegativeLogProbLoss
        >>> from kfac_core.reference import Batch, Dense, Sequential, SequentialModel
        >>> model = SequentialModel(Sequential((Dense(4, 3),)))
        >>> rng = np.random.default_rng(0)
        >>> batch = Batch(rng.normal(size=(8, 4)))
        >>> params = model.init(rng, like=batch.inputs)
        >>> collection = model.layer_collection(CategoricalLogitsNegativeLogProbLoss())
        >>> estimator = FisherEstimator(collection, estimation_mode="exact")
        >>> state = estimator.init(params)
        >>> state = estimator.update_covs(state, model.linearize(params, batch), 0.95)
        >>> state = estimator.update_inverses(state, damping=0.1)
        >>> step = estimator.multiply_inverse(state, params)
        >>> {name: array.shape for name, array in step.items()}
        {'dense_0/weights': (4, 3), 'dense_0/bias': (3,)}
    """

    estimation_mode: EstimationMode = "gradients"
    num_samples: int = 1
    statistics_share: float = field(default=1.0, kw_only=True)

    def __post_init__(self) -> None:
        """Check these options, too.

        Raises:
            ArgumentError: If an option is unknown, or a mode does not fit a layer.
        """
        super().__post_init__()
        check_mode(self.estimation_mode, LABEL)
        count = as_size(self.num_samples, "num_samples", LABEL)
        object.__setattr__(self, "num_samples", count)
        share = check_share(self.statistics_share, LABEL)
        object.__setattr__(self, "statistics_share", share)
        for layer in self.layers:
            if not layer.towers and self.estimation_mode not in RANDOM_MODES:
                msg = (
                    f"{layer.name}: a block of the batch-summed gradient is an estimate"
                    " only where the gradients of the cases have mean zero, which the"
                    f" mode {self.estimation_mode!r} does not give; take one of"
                    f" {', '.join(sorted(RANDOM_MODES))}, or another block"
                )
                raise ArgumentError(msg)

    @property
    def mat_type(self) -> MatrixType:
        """Name of the matrix that is estimated."""
        return matrix_type(self.estimation_mode)

    @property
    def needs_randomness(self) -> bool:
        """Whether the mode draws random numbers; a block may need a key, too.

        If no block takes gradients, nothing is drawn in any mode.
        """
        return self.estimation_mode in RANDOM_MODES and _need_gradients(self.layers)

    @property
    def _blocks_need_key(self) -> bool:
        return any(layer.block.needs_key for layer in self.layers)

    def noise_shapes(self, linearization: Linearization) -> dict[str, tuple[int, ...]]:
        """Return the shapes of noise for `update_covs`, by loss site; may be empty."""
        if not self.needs_randomness:
            return {}
        shapes = noise_shapes(
            self.layer_collection, linearization, self.estimation_mode
        )
        return {site: (self.num_samples, *shape) for site, shape in shapes.items()}

    def merge(self, state: EstimatorState, *others: EstimatorState) -> EstimatorState:
        """Return the state of all that several states saw, such as those of shards.

        The states of each layer are merged as its block says, and the numbers of cases
        added; see `FisherBlock.merge`. A state that saw no data, of all layers or of
        some, adds nothing.

        Args:
            state: A state of this estimator; left as it is.
            others: More of them.

        Returns:
            The new state, whose inverses `update_inverses` computes. Under a trace
            where a block refuses its union, all layers keep those of `state`, and
            ``ok`` is False.

        Raises:
            StateError: If a state was made by another estimator.
            KfacError: What the blocks raise.
        """
        states = (state, *others)
        for each in states:
            self.check_state(each)
        counts = [each.cases for each in states]
        backend = backend_for(LABEL, "state, others", *counts)
        blocks = {
            layer.name: layer.block.merge(*[each.blocks[layer.name] for each in states])
            for layer in self.layers
        }
        cases = counts[0]
        for count in counts[1:]:
            cases = cases + count
        new = EstimatorState(blocks, kept(cases))
        return whole(backend, new, state, "cov_ok", list(blocks))

    def update_covs(
        self,
        state: EstimatorState,
        linearization: Linearization,
        ema_decay: Scalar,
        ema_weight: Scalar | Mapping[str, Scalar | None] | None = None,
        *,
        key: Key | None = None,
        noise: Mapping[str, Array] | None = None,
        layers: Collection[str] | None = None,
    ) -> EstimatorState:
        """Fold a batch into the statistics.

        Args:
            state: The state; left as it is.
            linearization: The model at its parameters and a batch. Its masks, of losses
                and of layer sites, say which rows count. Its `batch_size` is what the
                mean loss divides by, even if fewer rows reach a layer.
            ema_decay: What the weights of earlier batches are multiplied by, in
                [0, 1].
            ema_weight: Weight of this batch; one by default, or ``1 - ema_decay``
                for blocks without debiasing. Or a mapping from the name of each layer
                to its weight, or None.
            key: What the array library draws from, where the mode is random or a block
                sub-samples.
            noise: Random numbers for the mode, in place of a key: uniform on [0, 1), of
                the shapes of `noise_shapes`. They can be drawn outside of a compiled
                function.
            layers: Names of the layers to update; None: all.

        Returns:
            The new state. It has no derivatives: data, decay and weight are constants.
            Either all layers take a batch, or none does: under a trace, if the data of
            one layer are not finite, all layers keep their statistics, and ``ok`` is
            False.

        Raises:
            ArgumentError: If the linearization lacks a site; if a name is unknown; if a
                key is missing, or is given beside noise though no block needs it; or if
                no layer or loss holds as many cases as `batch_size` says.
            ShapeError: Also if a layer or a loss holds more cases than `batch_size`, as
                where the uses of a layer are registered as towers; see
                `kfac_core.estimator.cases`.
            KfacError: What the blocks raise.
        """
        chosen = self._chosen(layers)
        ema = (ema_decay, ema_weight)
        return self._folded(state, linearization, ema, key, noise, chosen)[0]

    def _folded(
        self,
        state: EstimatorState,
        linearization: Linearization,
        ema: tuple[Scalar, Scalar | Mapping[str, Scalar | None] | None],
        key: Key | None,
        noise: Mapping[str, Array] | None,
        chosen: Sequence[LayerRegistration],
    ) -> tuple[EstimatorState, dict[str, LayerGiven]]:
        """Return the new state, and what each layer was given; see `update_covs`."""
        backend = self.check_state(state)
        linearization = checked(self.layer_collection, linearization)
        ema_decay, ema_weight = ema
        drawing = [layer for layer in chosen if layer.block.needs_key]
        own_key = key
        keys: tuple[Key, ...] = (None,) * len(drawing)
        if drawing and key is not None:
            count = 1 + len(drawing)
            own_key, *rest = drawn(
                backend, key, LABEL, lambda k: backend.split(k, count)
            )
            keys = tuple(rest)
        if noise is not None and self._blocks_need_key:
            own_key = None  # beside noise, a key is for the blocks alone
        if not self.needs_randomness:
            check_unused(None, noise, linearization)
        if not drawing and (own_key is None or not self.needs_randomness):
            check_unused(key, None, linearization)
        vectors: tuple[NamedLossInputs, ...] = ()
        if _need_gradients(chosen):
            mode, collection = self.estimation_mode, self.layer_collection
            numbers = noise_for(
                collection, linearization, mode, self.num_samples, own_key, noise
            )
            pulled = sources(collection, linearization, mode, numbers, self._verb)
            vectors = without_graph(backend, tuple(pulled))
        of_outputs, of_params = [], []
        if _need_gradients(layer for layer in chosen if layer.towers):
            of_outputs = [linearization.output_gradients(v) for v in vectors]
        cut = self.layer_collection.parts
        summed = [name for layer in chosen if not layer.towers for name in layer.params]
        if summed:
            summed = list(owners(cut, summed))
            of_params = [linearization.param_gradients(v, summed) for v in vectors]
        data = {
            layer.name: (
                layer_data(layer, linearization, of_outputs)
                if layer.towers
                else parameter_data(layer, linearization, of_params, cut)
            )
            for layer in chosen
        }
        losses = tuple(losses_at(self.layer_collection, linearization))
        are_all = len(chosen) == len(self.layers)
        reached = check_cases(losses, chosen, data, linearization, are_all=are_all)
        cases = case_weights(losses, linearization)
        blocks, given = dict(state.blocks), {}
        turn, share = None, self.statistics_share
        if share < 1:
            turn = Turn.after(backend, share, state.cases, linearization.batch_size)
        for layer in chosen:
            own = LayerGiven(data[layer.name], {})
            if layer.towers:
                count = reached[layer.name]
                options = counting(layer, own.data, linearization, cases, count)
                own = LayerGiven(own.data, options)
                own = turn.of(layer, own, count) if turn else own
            given[layer.name] = own
            options = {**own.options}
            if layer in drawing:
                options["key"] = keys[drawing.index(layer)]
            with chosen_together(backend):
                blocks[layer.name] = self._verb(layer.block, "update_covs")(
                    blocks[layer.name],
                    *own.data,
                    ema_decay=ema_decay,
                    ema_weight=weight_of(ema_weight, layer.name),
                    **options,
                )
        new = EstimatorState(blocks, kept(state.cases + linearization.batch_size))
        names = [layer.name for layer in chosen]
        return whole(backend, new, state, "cov_ok", names), given


def _need_gradients(layers: Iterable[LayerRegistration]) -> bool:
    """Return whether a backward pass is needed for some layers."""
    return any(layer.block.takes_gradients for layer in layers)
