"""`KfacOptimizer`: K-FAC as a pure function from state to state."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Generic, TypeAlias, TypeVar, Union

from kfac_core import tree
from kfac_core.backend import Backend
from kfac_core.estimator import FisherEstimator
from kfac_core.layer_collection import LayerCollection
from kfac_core.linalg.named import map_named
from kfac_core.linearization import Model, NamedParams
from kfac_core.linearization.checked import CheckedLinearization, checked
from kfac_core.optimizer.clock import turn
from kfac_core.optimizer.damping_adaptation import adapted
from kfac_core.optimizer.given import (
    check_flag,
    check_model,
    check_state,
    checked_gradient,
)
from kfac_core.optimizer.hyper_parameters import step_numbers
from kfac_core.optimizer.layer_damping import (
    check_layer_names,
    given_damping,
    initial_damping,
)
from kfac_core.optimizer.mean_loss import as_loss, number_of_cases, rounding_of
from kfac_core.optimizer.messages import check_given, not_finite
from kfac_core.optimizer.movement import Moved, moved
from kfac_core.optimizer.options import LABEL, KfacOptions
from kfac_core.optimizer.shards import loss_of_all
from kfac_core.optimizer.state import (
    NOT_KNOWN_YET,
    KfacState,
    StepStatistics,
    initial_state,
    kept_state,
    statistics_of,
    unit,
)
from kfac_core.optimizer.step_context import step_context
from kfac_core.optimizer.structure import Estimator, estimator_of
from kfac_core.optimizer.upkeep import batch_weights, with_inverses, with_statistics
from kfac_core.products import CurvatureMatrixVectorProductComputer
from kfac_core.registered_losses import mean_loss
from kfac_core.state import commit, kept
from kfac_core.typing import Array, Key, LayerDampings, Scalar

if TYPE_CHECKING:
    from kfac_core.estimator import BlockTridiagonalEstimator

B = TypeVar("B")
T = TypeVar("T")
Outcome: TypeAlias = tuple[KfacState, dict[str, Array], StepStatistics]


@dataclass(frozen=True)
class KfacOptimizer(KfacOptions, Generic[B]):
    """Minimises the mean of the registered losses of a model.

    A step updates the statistics and then the inverses, each when it is due, then the
    parameters, then the damping. `KfacOptions` describes the options; numbers that
    change from step to step are arguments of `step`.

    Attributes:
        model: The model to train; it gives a linearization at parameters and a batch.
        layer_collection: The layers and losses of the model.
        estimator: Made from the layer collection and the options.
        computer: Made from the layer collection.

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

    not_known_yet: ClassVar[tuple[str, ...]] = NOT_KNOWN_YET

    model: Model[B]
    layer_collection: LayerCollection
    estimator: Union[FisherEstimator, "BlockTridiagonalEstimator"] = field(
        init=False, repr=False, compare=False
    )
    computer: CurvatureMatrixVectorProductComputer = field(
        init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        """Check the options, and make what they ask for.

        Raises:
            ArgumentError: If one is out of range, or does not go with another.

        """
        super().__post_init__()
        check_model(self.model)
        estimator = estimator_of(self, self.layer_collection)
        object.__setattr__(self, "estimator", estimator)
        if self.layer_dampings is not None:
            check_layer_names(self.layer_dampings, tuple(estimator.blocks))
        computer = CurvatureMatrixVectorProductComputer(self.layer_collection)
        object.__setattr__(self, "computer", computer)

    def init(self, params: NamedParams) -> KfacState:
        """Return the state before the first step.

        Args:
            params: The parameters, by name, which give library, devices and dtypes.

        Returns:
            The state.

        Raises:
            ArgumentError: If a parameter is missing or unknown.
            ShapeError: If a parameter's shape is not the one in the collection.
        """
        estimator = self.estimator.init(params)
        _, one = unit(params, LABEL)
        damping = initial_damping(self, one, tuple(self.estimator.blocks))
        return initial_state(estimator, params, one, damping, self.signature)

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
        damping: LayerDampings | None = None,
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
            key: As in `FisherEstimator.update_covs`; checked in any case.
            noise: As in `FisherEstimator.update_covs`; checked in any case.
            learning_rate: Takes the place of the option, in this step.
            momentum: Takes the place of the option, in this step.
            norm_constraint: Takes the place of the option, in this step.
            weight_decay_coeff: Takes the place of the option, in this step.
            damping: Takes the place of the state's, from now on: a number, at least
                `min_damping`, or where the options have one for each layer, a mapping
                from the names of all layers.
            gradient: The gradient of the mean loss, by parameter, where that is not the
                mean of the registered losses: it has a regulariser, say.
            loss: The mean loss itself, 0-d, where it is not the mean of the registered
                losses; to adapt the damping by it needs `loss_fn`, too.
            prev_batch: The batch of the step before, where the damping is adapted at
                the start of a step: of the type of `batch`, also where it is not.
            update_covs: Whether to update the statistics; None: when it is due, by the
                counter of the state. Where a compiler cannot choose between two
                computations (PyTorch's computes both), a Python boolean is faster.
            update_inverses: Whether to update the inverses; None: when it is due.

        Returns:
            The new state, the new parameters, and what happened. None of these arrays
            has a graph, whatever the model gives: autograd cannot differentiate a step.
            If autograd tracks a parameter, it also tracks the new one.

        Raises:
            ArgumentError: If a needed argument is missing, or one is out of range.
            NotFiniteError: If the loss, an update or the data of a block are not
                finite.
            KfacError: What blocks and losses raise. Under a trace, where values would
                be refused, no part of the state changes, and ``ok`` of the step's
                statistics is False.
        """
        curvature: Estimator = self.estimator
        check_state(self, curvature, state)
        curvature.check_vector(params, "params")
        backend, one = unit(params, LABEL)
        check_flag(one, update_covs, "update_covs")
        check_flag(one, update_inverses, "update_inverses")
        of_step = (learning_rate, momentum, norm_constraint, weight_decay_coeff)
        numbers = step_numbers(self, backend, one, *of_step)
        check_given(self, batch, loss, prev_batch)
        before, ok = state, numbers.in_range
        if damping is not None:
            known, least = state.damping, self.min_damping
            now, fits = given_damping(backend, damping, known, one, least)
            state, ok = state._replace(damping=now), ok & fits
        linearization = self._linearized(params, batch)
        cases = number_of_cases(one, linearization)

        def update(
            old: KfacState, decay: Scalar, *, burn_in: bool = False
        ) -> KfacState:
            reference, weights = batch_weights(
                backend, self, old, curvature.blocks, cases, burn_in=burn_in
            )
            estimator = curvature.update_covs(
                old.estimator, linearization, decay, weights, key=key, noise=noise
            )
            return old._replace(estimator=estimator, batch_cases=reference)

        def settled(new: Moved, gradient: NamedParams) -> Outcome:
            """Return the outcome of the step if it is fine, else the old state."""
            fine = new.fine & ok & backend.xp.isfinite(new.state.loss)
            chosen, params_now = commit(
                backend,
                fine,
                (new.state, dict(new.params)),
                (before, dict(params)),
                lambda: not_finite(
                    new.state.loss, gradient, new.state.predicted_change
                ),
            )
            leaves = map_named(backend.as_leaf, tree.map(kept, params_now), params)
            told = statistics_of(chosen, *new[3:], fine)
            return kept_state(chosen), leaves, tree.map(kept, told)

        def burn_in() -> Outcome:
            if gradient is not None:
                checked_gradient(backend, curvature, state, gradient)
            value, _ = self._mean_loss(
                one, params, batch, linearization, known=True, given=loss
            )
            new = update(state, 1.0, burn_in=True)._replace(
                burnin_counter=state.burnin_counter + 1, loss=value
            )
            zero = one * 0
            seen = new.estimator.flag("cov_ok")
            return settled(Moved(new, params, seen, zero, zero + 0, one + 0), {})

        def train() -> Outcome:
            now = self._adapt_before(
                backend, one, state, params, prev_batch, linearization
            )
            now, seen = with_statistics(backend, self, now, update, update_covs)
            now, inverted = with_inverses(
                backend, self, curvature, now, update_inverses
            )
            value, _ = self._mean_loss(
                one, params, batch, linearization, known=True, given=loss
            )
            now = now._replace(loss=value)
            context = step_context(
                self,
                curvature,
                self.computer,
                now,
                params,
                linearization,
                numbers,
                gradient,
            )
            new = moved(
                context,
                now,
                params,
                lambda there: self._mean_loss(one, there, batch, linearization),
            )
            return settled(
                new._replace(fine=new.fine & seen & inverted), context.gradient
            )

        if not self.num_burnin_steps:
            return train()
        return backend.cond(
            state.burnin_counter < self.num_burnin_steps, burn_in, train
        )

    def _linearized(self, params: NamedParams, batch: B) -> CheckedLinearization:
        """Return the model's linearization, whose answers are checked."""
        return checked(self.layer_collection, self.model.linearize(params, batch))

    def _adapt_before(
        self,
        backend: Backend,
        one: Array,
        state: KfacState,
        params: NamedParams,
        prev_batch: B | None,
        about: CheckedLinearization,
    ) -> KfacState:
        """Adapt the damping at the start of a step, if the options say so."""
        if not self.adapts_at_start or prev_batch is None:
            return state
        its_turn = turn(backend, state.counter, self.damping_adaptation_interval)

        def adapt() -> KfacState:
            loss = self._mean_loss(one, params, prev_batch, about)
            return adapted(backend, self, state, *loss)

        return backend.cond(its_turn & (state.counter > 0), adapt, lambda: state)

    def _mean_loss(
        self,
        one: Array,
        params: NamedParams,
        batch: B,
        about: CheckedLinearization,
        *,
        known: bool = False,
        given: Array | None = None,
    ) -> tuple[Array, Array]:
        """Return the mean loss, in the dtype of all numbers, and its relative error.

        The linearization `about` gives the loss if it is `known` to belong to the
        parameters and the batch; it has their dtypes and sizes in any case.
        """
        value, source = given, "loss"
        if given is None and self.loss_fn is not None:
            value, source = self.loss_fn(params, batch), "what loss_fn returns"
        elif given is None:
            if not known:
                about = self._linearized(params, batch)
            value = mean_loss(self.layer_collection, about)
            value = loss_of_all(about, value)
        loss = as_loss(one, value, source)
        return loss, rounding_of(one, value, about)
