"""`BlockTridiagonalEstimator`: K-FAC whose inverse couples neighbouring layers."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from kfac_core import moving_average, tree
from kfac_core.estimator.fisher_estimator import FisherEstimator
from kfac_core.estimator.sources import EstimationMode, MatrixType
from kfac_core.estimator.tridiagonal.chain import check_chain, check_unweighted
from kfac_core.estimator.tridiagonal.cross_factors import merged, with_batch
from kfac_core.estimator.tridiagonal.links import (
    are_definite,
    factors,
    links_of,
    not_definite,
)
from kfac_core.estimator.tridiagonal.matrix import LABEL, BlockTridiagonalMatrix
from kfac_core.estimator.tridiagonal.state import (
    TridiagonalState,
    empty_state,
)
from kfac_core.layer_collection import LayerCollection
from kfac_core.linearization import Linearization, NamedParams
from kfac_core.spec.quiet import Quiet
from kfac_core.state import commit
from kfac_core.typing import Array, Key, LayerDampings, Scalar


@dataclass(frozen=True)
class BlockTridiagonalEstimator(Quiet, BlockTridiagonalMatrix):
    """Estimates the Fisher of a chain of layers, its inverse block-tridiagonal.

    The matrix is K-FAC's ``F_ij = kron(E[a_i a_j'], E[g_i g_j'])`` for each layer ``i``
    with itself and with the next, damped on the diagonal as the layers' blocks are.
    Blocks further apart follow from these: given the gradient of the next layer, that
    of a layer depends on no later one (Martens & Grosse, 2015, section 4.3). Beside
    `FisherEstimator`, it takes as many backward passes, three times the work for
    statistics, two eigendecompositions a layer more for inverses, and four times the
    work for a product with the inverse.

    Attributes:
        layer_collection: The losses, and fully connected layers, each used once a case,
            registered in the order in which the network uses them.
        estimation_mode: Name of the way to estimate; see `kfac_core.estimator.sources`.
        num_samples: Number of samples in the modes that draw random numbers.
        diagonal: The estimator of the layers by themselves, which draws the numbers.

    Example:
        >>> import numpy as np
        >>> from kfac_core.loss_functions import CategoricalLogitsNegativeLogProbLoss
        >>> from kfac_core.reference import (
        ...     Batch, Dense, Sequential, SequentialModel, Tanh
        ... )
        >>> model = SequentialModel(Sequential((Dense(4, 3), Tanh(), Dense(3, 2))))
        >>> rng = np.random.default_rng(0)
        >>> batch = Batch(rng.normal(size=(8, 4)))
        >>> params = model.init(rng, like=batch.inputs)
        >>> collection = model.layer_collection(CategoricalLogitsNegativeLogProbLoss())
        >>> estimator = BlockTridiagonalEstimator(collection, "exact")
        >>> state = estimator.init(params)
        >>> state = estimator.update_covs(state, model.linearize(params, batch), 0.95)
        >>> state = estimator.update_inverses(state, damping=0.1)
        >>> step = estimator.multiply_inverse(state, params)
        >>> back = estimator.multiply(state, step)
        >>> bool(np.allclose(back["dense_0/bias"], params["dense_0/bias"]))
        True
    """

    layer_collection: LayerCollection
    estimation_mode: EstimationMode = "gradients"
    num_samples: int = 1
    diagonal: FisherEstimator = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check that the layers are a chain.

        Raises:
            KfacError: What `FisherEstimator` raises of the same options.
            UnsupportedError: If the layers are no chain of fully connected layers.
        """
        diagonal = FisherEstimator(
            self.layer_collection, self.estimation_mode, self.num_samples
        )
        check_chain(diagonal.layers, LABEL)
        object.__setattr__(self, "num_samples", diagonal.num_samples)
        object.__setattr__(self, "diagonal", diagonal)

    def init(self, params: NamedParams) -> TridiagonalState:
        """Return the state before any data; see `FisherEstimator.init`."""
        diagonal = self.diagonal.init(params)
        backend = self.diagonal.check_state(diagonal)
        debias = self.layers[0].block.zero_debias
        return empty_state(backend, diagonal, self._sizes, zero_debias=debias)

    def update_covs(
        self,
        state: TridiagonalState,
        linearization: Linearization,
        ema_decay: Scalar,
        ema_weight: Scalar | None = None,
        *,
        key: Key | None = None,
        noise: Mapping[str, Array] | None = None,
    ) -> TridiagonalState:
        """Fold a batch into the statistics of all layers and pairs.

        Args:
            state: The state; left as it is.
            linearization: The model at its parameters and a batch, without masks.
            ema_decay: What the weights of earlier batches are multiplied by, in [0, 1].
            ema_weight: Weight of this batch; one by default, or ``1 - ema_decay``
                for blocks without debiasing.
            key: What the array library draws from, where the mode is random.
            noise: Random numbers in place of a key, of the shapes of
                `FisherEstimator.noise_shapes` of `diagonal`.

        Returns:
            The new state; under a trace the old one with ``ok`` False, if the data of a
            layer are not finite.

        Raises:
            UnsupportedError: If rows have weights, or cases do not reach all layers.
            KfacError: What `FisherEstimator.update_covs` raises.
        """
        backend = self.check_state(state)
        like = state.damped[0][0]
        ema = moving_average.weights_of(
            backend,
            ema_decay,
            ema_weight,
            like,
            LABEL,
            zero_debias=self.layers[0].block.zero_debias,
        )
        diagonal, given = self.diagonal._folded(
            state.diagonal,
            linearization,
            (ema_decay, ema_weight),
            key,
            noise,
            self.layers,
        )
        check_unweighted(self.layers, given, LABEL)
        cross = with_batch(backend, state.cross, self.layers, given, ema)
        ok = diagonal.flag("cov_ok")
        if backend.is_traced(ok):
            cross = tree.where(backend, ok, cross, state.cross)
        return state._replace(diagonal=diagonal, cross=cross)

    def merge(
        self, state: TridiagonalState, *others: TridiagonalState
    ) -> TridiagonalState:
        """Return the state of all that several states saw, such as those of shards.

        The statistics of pairs add up as those of layers do; see
        `FisherEstimator.merge`.

        Args:
            state: A state of this estimator; left as it is.
            others: More of them.

        Returns:
            The new state, whose inverses `update_inverses` computes. Under a trace
            where a layer refuses its union, it is `state` with ``ok`` False.

        Raises:
            StateError: If a state was made by another estimator.
            KfacError: What `FisherEstimator.merge` raises.
        """
        states = (state, *others)
        for each in states:
            self.check_state(each)
        diagonal = self.diagonal.merge(*[each.diagonal for each in states])
        backend = self.check_state(state._replace(diagonal=diagonal))
        cross = merged(backend, [each.cross for each in states])
        new = empty_state(backend, diagonal, self._sizes, zero_debias=True)
        new = new._replace(cross=cross)
        ok = diagonal.flag("cov_ok")
        if backend.is_traced(ok):
            new = tree.where(backend, ok, new, state)._replace(diagonal=diagonal)
        return new

    def update_inverses(
        self, state: TridiagonalState, damping: LayerDampings
    ) -> TridiagonalState:
        """Compute what products need from the current statistics.

        Args:
            state: The state; left as it is.
            damping: As in `FisherEstimator.update_inverses`: it is split between the
                two factors of each layer.

        Returns:
            The new state; under a trace the old one with ``ok`` False, if the matrix
            has no inverse.

        Raises:
            NotPositiveDefiniteError: If the damped matrix has no inverse.
            KfacError: What `FisherEstimator.update_inverses` raises.
        """
        backend = self.check_state(state)
        diagonal = self.diagonal.update_inverses(state.diagonal, damping)
        damped = factors(self.layers, diagonal, 1)
        inverses = factors(self.layers, diagonal, -1)
        links = links_of(backend, self.layers, state.cross, damped, inverses)
        new = state._replace(diagonal=diagonal, damped=damped, links=links)
        ok = diagonal.flag("derived_ok")
        fine = are_definite(backend, links, ok)
        for each in fine:
            ok = ok & each

        def error() -> Exception:
            like = damped[0][0]
            return not_definite(backend, self.layers, fine, like, LABEL)

        chosen = commit(backend, ok, new, state, error)
        if not backend.is_traced(ok):
            return chosen
        blocks = {
            name: block.with_flag("derived_ok", ok & ok)
            for name, block in chosen.diagonal.blocks.items()
        }
        return chosen._replace(diagonal=chosen.diagonal._replace(blocks=blocks))

    @property
    def mat_type(self) -> MatrixType:
        """Name of the matrix that is estimated."""
        return self.diagonal.mat_type
