"""What a `KfacOptimizer` remembers, and what it reports of a step."""

from typing import Any, NamedTuple, cast

from kfac_core import tree
from kfac_core.arguments.arrays import backend_for, statistics_dtype
from kfac_core.backend import Backend
from kfac_core.estimator import EstimatorState, TridiagonalState
from kfac_core.linearization import NamedParams
from kfac_core.registry import backend_of
from kfac_core.spec.signature import UNSIGNED, Signature
from kfac_core.state import kept
from kfac_core.state_classes import state_class
from kfac_core.typing import Array


@state_class
class KfacState(NamedTuple):
    """State of a `KfacOptimizer`; all but the first two and the last are 0-d.

    A field whose value is not known yet is NaN.

    Attributes:
        estimator: Statistics and inverses of all blocks.
        velocity: The velocity of each parameter, at least float32; see `KfacOptions`.
        damping: The current damping; a dictionary where each layer has its own.
        counter: Number of updates of the parameters.
        burnin_counter: Number of steps that averaged statistics alone.
        loss: The mean loss before the last step.
        predicted_change: The change of the loss that was last predicted: the ``qmodel``
            types predict it in each step, the others where the damping is adapted.
        actual_change: The change of the loss when the damping was last adapted.
        rho: The reduction ratio then.
        learning_rate: Learning rate of the last step; a ``qmodel`` type finds it, as
            minus the rescaled ``alpha``.
        momentum: Momentum of the last step.
        batch_cases: Number of cases of the batch that counts as one in the statistics,
            the first; zero before it, and where all batches count alike.
        made_by: The momentum type that the velocity belongs to.

    Example:
        >>> import numpy as np
        >>> from kfac_core.loss_functions import NormalMeanNegativeLogProbLoss
        >>> from kfac_core.optimizer import KfacOptimizer
        >>> from kfac_core.reference import Batch, Dense, Sequential, SequentialModel
        >>> model = SequentialModel(Sequential((Dense(1, 1, has_bias=False),)))
        >>> collection = model.layer_collection(NormalMeanNegativeLogProbLoss(var=1.0))
        >>> options = {"learning_rate": 1.0, "damping": 1e-9}
        >>> optimizer = KfacOptimizer(
        ...     model, collection, estimation_mode="exact", **options
        ... )
        >>> params = {"dense_0/weights": np.zeros((1, 1))}
        >>> batch = Batch(np.asarray([[2.0]]), np.asarray([[6.0]]))
        >>> state = optimizer.init(params)
        >>> int(state.counter), float(state.loss)  # no loss is known yet
        (0, nan)
        >>> state, params, _ = optimizer.step(state, params, batch)
        >>> int(state.counter), round(float(state.loss), 4)
        (1, 18.9189)
        >>> params["dense_0/weights"].round(3)  # 3 times 2 is the target
        array([[3.]])
    """

    estimator: EstimatorState | TridiagonalState
    velocity: dict[str, Array]
    damping: Any
    counter: Array
    burnin_counter: Array
    loss: Array
    predicted_change: Array
    actual_change: Array
    rho: Array
    learning_rate: Array
    momentum: Array
    batch_cases: Array
    made_by: Signature = UNSIGNED


NOT_KNOWN_YET = (
    *("loss", "predicted_change", "actual_change", "rho"),
    *("learning_rate", "momentum"),
)
"""The fields of a `KfacState` that are NaN before the first step that computes them."""


@state_class
class StepStatistics(NamedTuple):
    """What happened in a step; all fields are 0-d. In a burn-in only the loss is new.

    Attributes:
        loss: As in the `KfacState` after the step.
        predicted_change: As in the `KfacState` after the step.
        actual_change: As in the `KfacState` after the step.
        rho: As in the `KfacState` after the step.
        damping: As in the `KfacState` after the step.
        learning_rate: As in the `KfacState` after the step.
        momentum: As in the `KfacState` after the step.
        gradient_norm: Euclidean norm of the gradient of the mean loss.
        update_norm: Euclidean norm of the change of the parameters.
        norm_coefficient: What the norm constraint multiplied the step by.
        ok: Boolean. Under a trace, False if the step was refused: because a number was
            out of range, data or a loss were not finite, or a block had no inverse. The
            whole state is then as before. Without a trace, these are errors.

    Example:
        >>> import numpy as np
        >>> from kfac_core.loss_functions import NormalMeanNegativeLogProbLoss
        >>> from kfac_core.optimizer import KfacOptimizer
        >>> from kfac_core.reference import Batch, Dense, Sequential, SequentialModel
        >>> model = SequentialModel(Sequential((Dense(1, 1, has_bias=False),)))
        >>> collection = model.layer_collection(NormalMeanNegativeLogProbLoss(var=1.0))
        >>> options = {"learning_rate": 1.0, "damping": 1e-9}
        >>> optimizer = KfacOptimizer(
        ...     model, collection, estimation_mode="exact", **options
        ... )
        >>> params = {"dense_0/weights": np.zeros((1, 1))}
        >>> batch = Batch(np.asarray([[2.0]]), np.asarray([[6.0]]))
        >>> state = optimizer.init(params)
        >>> _, _, told = optimizer.step(state, params, batch)
        >>> float(told.gradient_norm), round(float(told.update_norm), 3), bool(told.ok)
        (12.0, 3.0, True)
    """

    loss: Array
    predicted_change: Array
    actual_change: Array
    rho: Array
    damping: Any
    learning_rate: Array
    momentum: Array
    gradient_norm: Array
    update_norm: Array
    norm_coefficient: Array
    ok: Array


def unit(params: NamedParams, label: str) -> tuple[Backend, Array]:
    """Return the backend of parameters, and a 0-d one of the dtype of all scalars.

    The dtype is that of the widest parameter, whatever their order, which changes under
    a trace.

    Raises:
        DTypeError: If a parameter does not hold real floating-point numbers.
    """
    backend = backend_for(label, "params", *params.values())
    xp = backend.xp
    dtypes = [statistics_dtype(backend, p, n, label) for n, p in params.items()]
    device = backend.creation_device(next(iter(params.values())))
    return backend, xp.ones((), dtype=xp.result_type(*dtypes), device=device)


def initial_state(
    estimator: EstimatorState | TridiagonalState,
    params: NamedParams,
    one: Array,
    damping: Array | dict[str, Array],
    made_by: Signature,
) -> KfacState:
    """Return the state before any step.

    Args:
        estimator: State of the estimator before any data.
        params: The parameters.
        one: 0-d, of the dtype of all numbers.
        damping: 0-d, or by layer.
        made_by: What the state is signed with.

    Returns:
        The state.
    """
    backend = backend_of(one)
    xp, sign = backend.xp, cast("Any", type(made_by))
    zero = xp.zeros_like(estimator.cases)
    unknown = one * float("nan")
    state = KfacState(
        estimator,
        {
            name: xp.zeros_like(p, dtype=statistics_dtype(backend, p, name, "params"))
            for name, p in params.items()
        },
        damping=damping,
        counter=zero,
        # Each field has a copy: no array stands in two places of a state.
        burnin_counter=zero + 0,
        loss=unknown,
        predicted_change=unknown + 0,
        actual_change=unknown + 0,
        rho=unknown + 0,
        learning_rate=unknown + 0,
        momentum=unknown + 0,
        batch_cases=one * 0,
        # Its own, as `kfac_core.spec` says.
        made_by=sign(),
    )
    return kept_state(state)


def kept_state(state: KfacState) -> KfacState:
    """Return a state without NumPy's scalars; see `kfac_core.state.kept`.

    The states of the blocks have none.
    """
    return KfacState(state.estimator, *tree.map(kept, tuple(state[1:])))


def statistics_of(
    state: KfacState,
    gradient_norm: Array,
    update_norm: Array,
    norm_coefficient: Array,
    ok: Array,
) -> StepStatistics:
    """Return the statistics of a step, from the state after it and its norms."""
    return StepStatistics(
        loss=state.loss + 0,
        predicted_change=state.predicted_change + 0,
        actual_change=state.actual_change + 0,
        rho=state.rho + 0,
        damping=tree.map(lambda x: x + 0, state.damping),
        learning_rate=state.learning_rate + 0,
        momentum=state.momentum + 0,
        gradient_norm=gradient_norm,
        update_norm=update_norm,
        norm_coefficient=norm_coefficient,
        ok=ok & ok,
    )
