"""The mean loss of a batch, whatever computes it, and its rounding error."""

from typing import Any

from kfac_core.linearization import Linearization
from kfac_core.loss_functions.positions import input_arrays
from kfac_core.optimizer.given import check_loss
from kfac_core.registered_losses import batch_size_of
from kfac_core.registry import backend_of
from kfac_core.state import without_graph
from kfac_core.typing import Array


def as_loss(one: Array, value: Any, argument: str) -> Array:
    """Return a loss as a 0-d array of the dtype of all numbers, without a graph.

    Raises:
        KfacError: As `kfac_core.optimizer.given.check_loss`.
    """
    backend = backend_of(one)
    check_loss(one, value, argument)
    return without_graph(backend, backend.xp.astype(value * one, one.dtype))


def number_of_cases(one: Array, linearization: Linearization) -> Array:
    """Return the number of cases of a batch, 0-d, in the dtype of all numbers.

    Raises:
        ArgumentError: If it is not a positive integer.
    """
    return one * batch_size_of(linearization)


def rounding_of(one: Array, value: Any, linearization: Linearization) -> Array:
    """Return the relative error of a mean loss: ``eps sqrt(N)``.

    Args:
        one: 0-d, of the dtype of all numbers.
        value: The loss as it was computed.
        linearization: The model at the batch, with ``N`` cases. The dtype of its loss
            inputs counts as well: a loss is not known better than its inputs.

    Returns:
        0-d; see `kfac_core.optimizer.damping_adaptation`.
    """
    backend = backend_of(one)
    arrays = [a for x in linearization.loss_inputs.values() for a in input_arrays(x)]
    if _is_array(value):
        arrays.append(value)
    dtypes = [one.dtype, *(array.dtype for array in arrays)]
    eps = max(
        float(backend.finfo(dtype).eps)
        for dtype in dtypes
        if backend.isdtype(dtype, "real floating")
    )
    # The shards of one batch have one error, or each would adapt another damping.
    cases: int = getattr(linearization, "num_cases", linearization.batch_size)
    return eps * backend.xp.sqrt(one * cases)


def _is_array(value: Any) -> bool:
    return hasattr(value, "dtype") and hasattr(value, "shape")
