"""`KfacOptimizer`: K-FAC as a pure function from state to state."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeAlias, TypeVar

from kfac_core.arguments import as_scalar
from kfac_core.backend import Backend
from kfac_core.estimator import EstimatorState, FisherEstimator
from kfac_core.layer_collection import LayerCollection
from kfac_core.linalg.named import cast_like, inner, map_named
from kfac_core.linearization import Linearization, Model, NamedParams
from kfac_core.optimizer.clock import turn
from kfac_core.optimizer.damping_adaptation import adapted
from kfac_core.optimizer.hyper_parameters import HyperParameters, step_numbers
from kfac_core.optimizer.messages import check_given, not_finite
from kfac_core.optimizer.options import KfacOptions
from kfac_core.optimizer.quadratic_model import quadratic_model
from kfac_core.optimizer.state import (
    KfacState,
    StepStatistics,
    initial_state,
    statistics_of,
    unit,
)
from kfac_core.optimizer.update_rules import (
    RULES,
    Situation,
    change_of,
    predicted_change,
)
from kfac_core.optimizer.upkeep import with_inverses, with_statistics
from kfac_core.products import CurvatureMatrixVectorProductComputer
from kfac_core.registered_losses import mean_gradient, mean_loss
from kfac_core.registry import backend_of
from kfac_core.state import all_finite, commit
from kfac_core.typing import Array, Key, Scalar

B = TypeVar("B")
T = TypeVar("T")
Outcome: TypeAlias = tuple[KfacState, dict[str, Array], StepStatistics]


@dataclass(frozen=True)
class KfacOptimizer(KfacOptions, Generic[B]):
    """Minimises the mean of the registered losses of a model.

    A step updates the statistics, then the inverses, each when it is due, then the
    parameters, then the damping. Options are of `KfacOptions`, which says what each
    does; numbers that change from step to step are arguments of `step`.

    Attributes:
        model: What is trained: gives a linearization at parameters and a batch.
        layer_collection: Its layers and losses.
        estimator: Made from these.
        computer: Likewise.

    Example:
        >>> import numpy as np
        >>> from kfac_core.loss_functions import NormalMeanNegativeLogProbLoss
        >>> from kfac_core.reference import Batch, Dense, Sequential, SequentialModel
        >>> model = SequentialModel(Sequential((Dense(2, 1, has_bias=False),)))
        >>> optimizer = KfacOptimizer(
        ...     model,
        ...     model.layer_collection(NormalMeanNegativeLogProbLoss()),
        ...     momentum_type="qmodel",
        ...     damping=0.5,
        ...     estimation_mode="exact",
        ... )
        >>> x = np.asarray([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [2.0, -1.0]])
        >>> batch = Batch(x, np.asarray([[1.0], [2.0], [0.0], [1.0]]))
        >>> params = {"dense_0/weights": np.asarray([[0.5], [-0.5]])}
        >>> state = optimizer.init(params)
        >>> for _ in range(2):
        ...     state, params, statistics = optimizer.step(state, params, batch)
        >>> params["dense_0/weights"].round(6)
        array([[0.567027],
               [0.455305]])
    """

    model: Model[B]
    layer_collection: LayerCollection
    estimator: FisherEstimator = field(init=False, repr=False, compare=False)
    computer: CurvatureMatrixVectorProductComputer = field(
        init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        """Check the options, and make what they ask for."""
        super().__post_init__()
        estimator = FisherEstimator(
            self.layer_collection, self.estimation_mode, self.num_samples
        )
        object.__setattr__(self, "estimator", estimator)
        computer = CurvatureMatrixVectorProductComputer(self.layer_collection)
        object.__setattr__(self, "computer", computer)

    def init(self, params: NamedParams) -> KfacState:
        """Return the state before the first step.

        Args:
            params: The parameters, by name: for library, devices and dtypes.

        Returns:
            The state.

        Raises:
            ArgumentError: If a parameter is missing or unknown.
            ShapeError: If one has another shape than the collection says.
        """
        estimator = self.estimator.init(params)
        _, one = unit(params, _LABEL)
        return initial_state(estimator, params, one * self.damping)

    def step(
        self,
        state: KfacState,
        params: NamedParams,
        batch: B,
        *,
        key: Key | None = None,
        noise: Mapping[str, Array] | None = None,
        learning_rate: Scalar | None = None,
        momentum: Scalar | None = None,
        norm_constraint: Scalar | None = None,
        weight_decay_coeff: Scalar | None = None,
        damping: Scalar | None = None,
        gradient: NamedParams | None = None,
        loss: Array | None = None,
        prev_batch: B | None = None,
        update_covs: Array | bool | None = None,
        update_inverses: Array | bool | None = None,
    ) -> Outcome:
        """Make one step.

        Args:
            state: The state; left as it is.
            params: The parameters, by name; left as they are.
            batch: What the model takes.
            key: As in `FisherEstimator.update_covs`.
            noise: Likewise.
            learning_rate: Instead of that of the options, in this step.
            momentum: Likewise.
            norm_constraint: Likewise.
            weight_decay_coeff: Likewise.
            damping: Instead of that of the state, from now on.
            gradient: Of the mean loss, by parameter, where that is not the mean of the
                registered losses: it has a regulariser, say.
            loss: The mean loss itself, 0-d, likewise; to adapt the damping by it needs
                `loss_fn`, too.
            prev_batch: The batch of the step before, where the damping is adapted at
                the start of a step.
            update_covs: Whether to update the statistics; None: when it is due, by the
                counter of the state. Where a compiler cannot choose between two
                computations (PyTorch's computes both), a Python boolean is faster.
            update_inverses: Likewise for the inverses.

        Returns:
            The new state, the new parameters, and what happened.

        Raises:
            ArgumentError: If something is needed that is not given.
            NotFiniteError: If an update or the data of a block are not finite. Under a
                trace nothing changes then, and ``ok`` of the statistics is False.
            KfacError: What blocks and losses raise.
        """
        backend, one = unit(params, _LABEL)
        numbers = step_numbers(
            self,
            backend,
            one,
            learning_rate,
            momentum,
            norm_constraint,
            weight_decay_coeff,
        )
        check_given(self, loss, prev_batch)
        before = state
        if damping is not None:
            now = as_scalar(backend, damping, one, "damping", _LABEL)
            state = state._replace(damping=now)
        linearization = self.model.linearize(params, batch)

        def update(
            old: EstimatorState, decay: Scalar, weight: Scalar | None = None
        ) -> EstimatorState:
            return self.estimator.update_covs(
                old, linearization, decay, weight, key=key, noise=noise
            )

        def burn_in() -> Outcome:
            new = state._replace(
                estimator=update(state.estimator, 1.0, 1.0),
                burnin_counter=state.burnin_counter + 1,
                loss=self._mean_loss(one, params, batch, linearization, loss),
            )
            zero = one * 0
            return new, dict(params), statistics_of(new, zero, zero + 0, one)

        def train() -> Outcome:
            now = self._adapt_before(backend, one, state, params, prev_batch)
            now = with_statistics(backend, self, now, update, update_covs)
            now = with_inverses(backend, self, self.estimator, now, update_inverses)
            value = self._mean_loss(one, params, batch, linearization, loss)
            now = now._replace(loss=value)
            at = self._situation(backend, now, params, linearization, numbers, gradient)
            return self._update(before, now, params, batch, at, one)

        if not self.num_burnin_steps:
            return train()
        return backend.cond(
            state.burnin_counter < self.num_burnin_steps, burn_in, train
        )

    def _situation(
        self,
        backend: Backend,
        state: KfacState,
        params: NamedParams,
        linearization: Linearization,
        numbers: HyperParameters,
        gradient: NamedParams | None,
    ) -> Situation:
        if gradient is None:
            gradient = mean_gradient(self.layer_collection, linearization)
        self.estimator.check_vector(gradient, "gradient")
        of_mean = cast_like(backend, gradient, state.velocity)
        return Situation(
            backend=backend,
            options=self,
            numbers=numbers,
            gradient=of_mean,
            velocity=state.velocity,
            damping=state.damping,
            precondition=lambda v: self.estimator.multiply_inverse(state.estimator, v),
            multiply=lambda v: self.estimator.multiply(state.estimator, v),
            model=lambda *directions: quadratic_model(
                backend,
                self.computer,
                linearization,
                self.estimator.mat_type,
                of_mean,
                # A model takes tangents of the dtypes of its parameters.
                [cast_like(backend, d, params) for d in directions],
            ),
        )

    def _update(
        self,
        before: KfacState,
        state: KfacState,
        params: NamedParams,
        batch: B,
        at: Situation,
        one: Array,
    ) -> Outcome:
        """Update the parameters, and the damping where that follows a step."""
        backend = at.backend
        update = RULES[self.momentum_type](at)
        change = change_of(at.numbers, update, params)
        sums = map_named(lambda p, d: p + d, params, change)
        moved = cast_like(backend, sums, params)
        new = state._replace(
            velocity=cast_like(backend, update.velocity, state.velocity),
            counter=state.counter + 1,
            learning_rate=update.learning_rate,
            momentum=update.momentum + 0,
        )
        if update.predicted_change is not None:
            new = new._replace(predicted_change=update.predicted_change)

        def predict() -> KfacState:
            return new._replace(predicted_change=predicted_change(at, update, change))

        def adapt() -> KfacState:
            predicted = predict()
            after = self._mean_loss(one, moved, batch)
            return adapted(backend, self, predicted, after)

        if self.adapt_damping:
            new = backend.cond(
                turn(backend, new.counter, self.damping_adaptation_interval),
                adapt if self.update_damping_immediately else predict,
                lambda: new,
            )
        gradient_norm = backend.xp.sqrt(inner(backend, at.gradient, at.gradient))
        update_norm = backend.xp.sqrt(inner(backend, change, change))
        told = statistics_of(new, gradient_norm, update_norm, update.norm_coefficient)
        ok = all_finite(backend, moved, told.ok)
        kept = (before, dict(params), told)
        done = commit(
            backend, ok, (new, moved, told), kept, lambda: not_finite(at.gradient)
        )
        return (done[0], done[1], told._replace(ok=told.ok & ok))

    def _adapt_before(
        self,
        backend: Backend,
        one: Array,
        state: KfacState,
        params: NamedParams,
        prev_batch: B | None,
    ) -> KfacState:
        """Adapt the damping at the start of a step, where it is adapted there."""
        if not self.adapts_at_start or prev_batch is None:
            return state
        its_turn = turn(backend, state.counter, self.damping_adaptation_interval)
        return backend.cond(
            its_turn & (state.counter > 0),
            lambda: adapted(
                backend, self, state, self._mean_loss(one, params, prev_batch)
            ),
            lambda: state,
        )

    def _mean_loss(
        self,
        one: Array,
        params: NamedParams,
        batch: B,
        linearization: Linearization | None = None,
        given: Array | None = None,
    ) -> Array:
        """Return the mean loss, in the dtype of all scalars."""
        value = given
        if value is None and self.loss_fn is not None:
            value = self.loss_fn(params, batch)
        if value is None:
            if linearization is None:
                linearization = self.model.linearize(params, batch)
            value = mean_loss(self.layer_collection, linearization)
        return backend_of(one).xp.astype(value * one, one.dtype)


_LABEL = "KfacOptimizer"
