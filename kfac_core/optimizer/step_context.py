"""What the update of a step is made of: the gradient, and products with curvature."""

from collections.abc import Callable
from typing import NamedTuple

from kfac_core.backend import Backend
from kfac_core.linalg.named import Named, cast_like
from kfac_core.linearization import NamedParams
from kfac_core.linearization.checked import CheckedLinearization
from kfac_core.optimizer.given import checked_gradient
from kfac_core.optimizer.hyper_parameters import HyperParameters
from kfac_core.optimizer.layer_damping import Damping, by_parameter
from kfac_core.optimizer.options import KfacOptions
from kfac_core.optimizer.quadratic_model import QuadraticModel, quadratic_model
from kfac_core.optimizer.shards import gradient_of_all
from kfac_core.optimizer.state import KfacState
from kfac_core.optimizer.structure import Estimator
from kfac_core.products import CurvatureMatrixVectorProductComputer
from kfac_core.registered_losses import mean_gradient
from kfac_core.registry import backend_of
from kfac_core.state import without_graph


class StepContext(NamedTuple):
    """What an update is made of.

    Attributes:
        backend: Backend of all arrays.
        options: Options of the optimiser.
        numbers: The numbers of this step.
        gradient: Gradient of the mean loss.
        velocity: The velocity before the step.
        damping: Damping of the quadratic model: 0-d, or one for each parameter.
        precondition: Multiplies a vector with the inverse of the damped blocks.
        multiply: Multiplies a vector with the damped blocks themselves.
        model: Makes the quadratic model along some directions.
    """

    backend: Backend
    options: KfacOptions
    numbers: HyperParameters
    gradient: Named
    velocity: Named
    damping: Damping
    precondition: Callable[[Named], Named]
    multiply: Callable[[Named], Named]
    model: Callable[..., QuadraticModel]


def step_context(
    options: KfacOptions,
    estimator: Estimator,
    computer: CurvatureMatrixVectorProductComputer,
    state: KfacState,
    params: NamedParams,
    linearization: CheckedLinearization,
    numbers: HyperParameters,
    gradient: NamedParams | None,
) -> StepContext:
    """Return the context of a step whose statistics and inverses are up to date.

    Args:
        options: The options of the optimiser.
        estimator: Its estimator.
        computer: Gives its exact products.
        state: Its state.
        params: The parameters, by name.
        linearization: The model at the parameters and the batch, checked.
        numbers: The numbers of the step.
        gradient: The gradient of the mean loss that the step was given; None: that of
            the registered losses.

    Returns:
        The context.

    Raises:
        KfacError: If the gradient is not one of the parameters, or not finite.
    """
    backend = backend_of(state.counter)
    if gradient is None:
        own = mean_gradient(estimator.layer_collection, linearization)
        gradient = gradient_of_all(backend, linearization, own)
    of_mean = checked_gradient(backend, estimator, state, gradient)
    damping = by_parameter(estimator, state.damping)
    return StepContext(
        backend=backend,
        options=options,
        numbers=numbers,
        gradient=of_mean,
        velocity=without_graph(backend, state.velocity),
        damping=damping,
        precondition=lambda v: estimator.multiply_inverse(state.estimator, v),
        multiply=lambda v: estimator.multiply(state.estimator, v),
        model=lambda *directions: quadratic_model(
            backend,
            computer,
            linearization,
            estimator.mat_type,
            of_mean,
            damping,
            # A model takes tangents of the dtypes of its parameters.
            [cast_like(backend, d, params) for d in directions],
        ),
    )
