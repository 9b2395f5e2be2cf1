"""`kfac`: the curvature of a captured function as a transformation of gradients."""

from collections.abc import Callable
from typing import Any, NamedTuple

from kfac_adapters.jax.captured import Captured
from kfac_adapters.jax.curvature import Curvature, CurvatureState
from kfac_core.errors import ArgumentError


class Transformation(NamedTuple):
    """A transformation of gradients, where optax is not installed.

    Attributes:
        init: Makes a state of parameters.
        update: Makes updates and a new state of gradients, a state and parameters.
    """

    init: Callable[[Any], CurvatureState]
    update: Callable[..., tuple[Any, CurvatureState]]


def kfac(captured: Captured, **options: Any) -> Any:
    """Return K-FAC's preconditioner, for ``optax.chain``.

    Its ``update(gradients, state, params, inputs=(x,), key=key)`` folds the batch into
    the curvature and multiplies the gradients by the inverse: follow it with
    ``optax.scale(-learning_rate)``, momentum, a schedule. Its arguments beside the
    gradients are those of `Curvature.update_curvature` and, for the norm constraint,
    ``learning_rate``.

    Args:
        captured: What `kfac_adapters.jax.capture` returned.
        **options: Options of `Curvature`: damping, ema_decay, invert_every and so on.

    Returns:
        An ``optax.GradientTransformationExtraArgs``; a `Transformation`, where optax is
        not installed.

    Raises:
        ArgumentError: If an option is of another form.
    """
    curvature = Curvature(captured, **options)

    def update(
        updates: Any,
        state: CurvatureState,
        params: Any = None,
        *,
        inputs: Any = None,
        key: Any = None,
        targets: Any = None,
        weights: Any = None,
        damping: Any = None,
        learning_rate: Any = None,
        **others: Any,
    ) -> tuple[Any, CurvatureState]:
        """Return preconditioned gradients, and the new state."""
        if params is None or inputs is None:
            missing = "params" if params is None else "inputs"
            msg = (
                f"kfac: {missing} is None. What passes no arguments on, such as"
                " apply_gradients of a Flax TrainState, has to be replaced by"
                " update(gradients, state, params, inputs=(x,), key=key), where inputs"
                " are the arguments of the function after its parameters"
            )
            raise ArgumentError(msg)
        new = curvature.update_curvature(
            state,
            params,
            inputs,
            key=key,
            targets=targets,
            weights=weights,
            damping=damping,
        )
        step = curvature.precondition(
            new, updates, learning_rate=learning_rate, params=params
        )
        return step, new

    try:
        from optax import GradientTransformationExtraArgs
    except ImportError:
        return Transformation(curvature.init, update)
    return GradientTransformationExtraArgs(curvature.init, update)
