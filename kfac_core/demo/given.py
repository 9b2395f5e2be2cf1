"""What the demonstration is given, checked: errors name the argument."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kfac_core.arguments.arrays import backend_for, statistics_dtype
from kfac_core.arguments.powers import shown
from kfac_core.arguments.scalars import as_scalar
from kfac_core.backend import Backend
from kfac_core.errors import ArgumentError
from kfac_core.layer_collection import LayerCollection
from kfac_core.linalg.named import check_named
from kfac_core.linearization import NamedParams
from kfac_core.linearization.checked import check_is_collection
from kfac_core.typing import Array, Scalar


def check_is(truth: bool, value: object, argument: str, wanted: str) -> None:
    """Check that an argument is what is wanted.

    Raises:
        ArgumentError: If it is not.
    """
    if not truth:
        msg = f"demo: {argument} is {shown(value)}, expected {wanted}"
        raise ArgumentError(msg)


def check_backend_is_one(backend: Any) -> None:
    """Check that something has the methods of a backend.

    Raises:
        ArgumentError: If it has not.
    """
    methods = ("from_numpy", "to_numpy", "jit")
    fits = not isinstance(backend, type) and all(
        callable(getattr(backend, name, None)) for name in methods
    )
    check_is(fits, backend, "backend", "one of kfac_core.load_backend")


def as_setting(value: object, argument: str, *, upper: float | None = None) -> float:
    """Return a positive number.

    Args:
        value: What was given.
        argument: Its name, for the message.
        upper: What it must be below; None: finite.

    Raises:
        ArgumentError: If the value is no such number.
    """
    given: Any = value
    real = isinstance(given, int | float) and not isinstance(given, bool)
    largest = 1e300 if upper is None else upper
    wanted = "a positive number" if upper is None else f"a number in [0, {upper:g})"
    least_fits = real and (given > 0 if upper is None else given >= 0)
    check_is(real and least_fits and given < largest, value, argument, wanted)
    return float(given)


def check_spec(spec: Any) -> None:
    """Check what the specs of optimisers share: model, collection, words and grid.

    Raises:
        ArgumentError: If one of them is none.
    """
    model = spec.model
    fits = not isinstance(model, type) and callable(getattr(model, "linearize", None))
    check_is(fits, model, "model", "a model with a method linearize")
    check_is_collection(spec.collection, "collection", "demo")
    check_words(spec)


def check_words(spec: Any) -> None:
    """Check the name, the setting and the grid of an optimiser.

    Raises:
        ArgumentError: If one of them is none.
    """
    for name in ("name", "setting"):
        word = getattr(spec, name)
        check_is(isinstance(word, str) and word != "", word, name, "a word")
    grid = spec.grid
    check_is(isinstance(grid, tuple) and bool(grid), grid, "grid", "a tuple of numbers")
    for value in grid:
        as_setting(value, "grid")


def check_by_name(
    collection: LayerCollection, given: NamedParams, argument: str
) -> Backend:
    """Return the backend of arrays in the names and shapes of the parameters.

    Raises:
        KfacError: If they are none; see `kfac_core.linalg.named.check_named`.
    """
    return check_named(given, dict(collection.variables), argument, "demo")


def checked_step(
    collection: LayerCollection,
    velocities: Iterable[NamedParams],
    params: NamedParams,
    noise: Array,
    learning_rate: Scalar,
) -> Array:
    """Return the learning rate of a step, 0-d, its arguments checked.

    Args:
        collection: The collection of the parameters.
        velocities: What the state has for each parameter.
        params: The parameters.
        noise: Real numbers, of no use to some optimisers.
        learning_rate: Not negative.

    Raises:
        KfacError: If one of them is none that could be.
    """
    backend = check_by_name(collection, params, "params")
    for velocity in velocities:
        check_by_name(collection, velocity, "state")
    like = next(iter(params.values()))
    backend_for("demo", "noise", like, noise)
    statistics_dtype(backend, noise, "noise", "demo")
    return as_scalar(backend, learning_rate, like, "learning_rate", "demo")


def as_path(path: object) -> Path:
    """Return a path.

    Raises:
        ArgumentError: If the value is not a path.
    """
    given: Any = path
    check_is(
        isinstance(given, str | Path) and given != "", path, "path", "that of a file"
    )
    return Path(given)
