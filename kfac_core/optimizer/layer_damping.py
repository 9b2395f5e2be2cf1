"""The damping of an optimiser: one number, or one for each layer by its name."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from kfac_core import tree
from kfac_core.arguments.scalars import as_scalar
from kfac_core.backend import Backend
from kfac_core.errors import ArgumentError
from kfac_core.layer_collection.parts import whole_params
from kfac_core.linalg.named import Named, inner, map_named
from kfac_core.optimizer.hyper_parameters import in_range
from kfac_core.optimizer.options import KfacOptions
from kfac_core.optimizer.structure import Estimator
from kfac_core.registry import backend_of
from kfac_core.state import is_known_false, without_graph
from kfac_core.typing import Array, LayerDampings, Scalar

Damping: TypeAlias = Array | dict[str, Array]
"""0-d, or a 0-d array for each layer; or one for each parameter, for a penalty."""

_LABEL = "KfacOptimizer"


def initial_damping(options: KfacOptions, one: Array, layers: Sequence[str]) -> Damping:
    """Return the damping of the options.

    Args:
        options: Options of the optimiser.
        one: 0-d, of the dtype of all numbers.
        layers: Names of all layers.

    Returns:
        A 0-d array, or one for each layer.
    """
    given = options.layer_dampings
    if given is None:
        return one * options.one_damping
    return {name: one * given[name] for name in layers}


def check_layer_names(given: Mapping[str, Scalar], layers: Sequence[str]) -> None:
    """Check that a damping is given for every layer, and for no other.

    Raises:
        ArgumentError: If one is missing or unknown.
    """
    if set(given) != set(layers):
        msg = (
            f"{_LABEL}: damping has the layers {list(given)}, expected every layer of"
            f" {list(layers)}, and no other; or one number for all of them"
        )
        raise ArgumentError(msg)


def given_damping(
    backend: Backend,
    given: LayerDampings,
    known: Damping,
    one: Array,
    least: float = 0.0,
) -> tuple[Damping, Array]:
    """Return a damping that is given to a step, and whether it is in range.

    Args:
        backend: Backend of the state.
        given: A number, or one for each layer.
        known: The damping of the state, whose structure is kept.
        one: 0-d, of the dtype of all numbers.
        least: The smallest that is in range.

    Returns:
        The damping, and a 0-d boolean; outside of a trace it is checked at once.

    Raises:
        ArgumentError: If the damping is out of range; if a layer is missing or unknown;
            or if the damping is by layer, and the state has one number.
    """
    if isinstance(given, Mapping) and not isinstance(known, dict):
        msg = (
            f"{_LABEL}: damping is given by layer, but that of the state is one number:"
            " give the option damping by layer, too"
        )
        raise ArgumentError(msg)

    def number(value: Scalar, argument: str) -> Array:
        found = as_scalar(backend, value, one, argument, _LABEL)
        if is_known_false(backend, found >= one * least):
            msg = (
                f"{_LABEL}: {argument} is {value}, expected at least min_damping,"
                f" {least:g}; give more, or the option min_damping"
            )
            raise ArgumentError(msg)
        return found

    new: Damping
    if not isinstance(known, dict):
        assert not isinstance(given, Mapping)
        new = number(given, "damping")
    elif isinstance(given, Mapping):
        check_layer_names(given, tuple(known))
        new = {name: number(given[name], f"damping[{name!r}]") for name in known}
    else:
        new = {name: number(given, "damping") for name in known}
    ok = one > 0
    for value in new.values() if isinstance(new, dict) else (new,):
        if backend.is_traced(value):
            ok = ok & in_range(backend, value) & (value >= one * least)
    return without_graph(backend, new), ok


def times(damping: Damping, factor: float) -> Damping:
    """Return a damping times a number, for all layers."""
    product: Damping = tree.map(lambda x: x * factor, damping)
    return product


def by_parameter(estimator: Estimator, damping: Damping) -> Damping:
    """Turn a damping by layer into one by parameter; one number stays as it is.

    Args:
        estimator: It has the layers.
        damping: 0-d, or for each layer.

    Returns:
        0-d, or for each parameter what its gradient can be multiplied by: 0-d, or, if
        layers have parts of it, as many numbers as its axis that is cut.
    """
    if not isinstance(damping, dict):
        return damping
    found = {
        parameter: damping[layer.name]
        for layer in estimator.layers
        for parameter in layer.params
    }
    collection = estimator.layer_collection
    if not collection.parts:
        return found
    backend, shapes = backend_of(*found.values()), dict(collection.variables)
    for part in collection.parts:
        ones = (1,) * len(shapes[part.param])
        shape = part.shape(ones)
        found[part.name] = backend.xp.broadcast_to(found[part.name], shape)
    return whole_params(backend, collection.parts, found)


def penalised(backend: Backend, damping: Damping, x: Named, y: Named) -> Array:
    """Return ``x' L y``, where ``L`` is the diagonal of each parameter's damping.

    Args:
        backend: Backend of the vectors.
        damping: 0-d, or one for each parameter.
        x: A vector, by name.
        y: Another vector.

    Returns:
        The product, 0-d.

    Example:
        >>> import numpy as np
        >>> from kfac_core.registry import backend_of
        >>> x = {"w": np.ones((2, 2)), "b": np.asarray([3.0])}
        >>> damping = {"w": np.asarray(0.5), "b": np.asarray(2.0)}
        >>> float(penalised(backend_of(x["w"]), damping, x, x))
        20.0
    """
    if not isinstance(damping, dict):
        return damping * inner(backend, x, y)
    return inner(backend, map_named(lambda part, d: part * d, x, damping), y)
