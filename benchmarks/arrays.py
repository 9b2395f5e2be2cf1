"""Take a step with the arrays of every library that few have.

``python -m benchmarks.arrays`` prints the tables of ``docs/array_libraries.md``.
"""

import functools
import importlib
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np

from kfac_core import backend_of, tree
from kfac_core.errors import BackendError
from kfac_core.registry import load_backend
from kfac_core.testing.families import FAMILIES, step_of
from kfac_core.testing.whole_models import (
    DATA,
    params,
    step_of_estimator,
    step_of_optimizer,
)

STEPS: dict[str, tuple[Any, ...]] = {
    name: (functools.partial(step_of, family), family.data, family.vector)
    for name, family in FAMILIES.items()
} | {
    "estimator": (step_of_estimator, DATA, params()),
    "optimizer": (step_of_optimizer, DATA, params()),
}
"""A step -> the function that takes it, and what that is given."""


class Library(NamedTuple):
    """An array library: its module, its distribution, and its dtype of numbers."""

    module: str
    distribution: str
    dtype: str = "float64"
    function: str = "asarray"


LIBRARIES = (
    Library("array_api_strict", "array-api-strict"),
    Library("mlx.core", "mlx", function="array"),
    Library("mparray", "mparray"),
    Library("marray", "marray"),
    Library("sparse", "sparse"),
    Library("dask.array", "dask"),
    Library("dpnp", "dpnp"),
    Library("rstsr_faer.api", "rstsr-faer-py"),
    Library("blosc2", "blosc2"),
    Library("cubed.array_api", "cubed"),
    Library("unxt", "unxt"),
    Library("heat", "heat", function="array"),
    Library("ragged", "ragged"),
)


def installed() -> list[Library]:
    """Return the libraries that are there."""
    return [own for own in LIBRARIES if find_spec(own.module.partition(".")[0])]


def maker(library: Library) -> Callable[[Any], Any]:
    """Return the function that makes an array of the library from one of NumPy's."""
    module = importlib.import_module(library.module)
    if library.module == "marray":
        module = module.masked_namespace(np)
    make: Callable[[Any], Any]
    if library.module == "mlx.core":  # whose own makes float32 of float64
        make = load_backend("mlx").from_numpy
    elif library.module == "unxt":  # which wants a unit
        make = functools.partial(module.Quantity, unit="")
    elif library.module == "rstsr_faer.api":  # which takes lists

        def make(x: Any) -> Any:
            dtype = getattr(module, x.dtype.name)
            return module.asarray(x.tolist(), dtype=dtype)

    else:
        make = getattr(module, library.function)
    return lambda x: make(x.astype("int32" if x.dtype.kind == "i" else library.dtype))


def refused(library: Library) -> str | None:
    """Return why no array of the library is computed with; None if it is."""
    try:
        backend_of(maker(library)(np.ones(2)))
    except BackendError as error:
        return str(error)
    # A library that makes no array here is told of, too.
    except Exception as error:
        return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
    return None


def outcome(library: Library, name: str) -> str:
    """Return how far a step is off NumPy's, or the first line of its error."""
    step, *given = STEPS[name]
    make = maker(library)
    expected = tree.leaves(in_order(step(*given)))
    try:
        found = tree.leaves(in_order(step(*(tree.map(make, part) for part in given))))
        own = [np.asarray(backend_of(x).to_numpy(x), float) for x in found]
    # Whatever a library raises is what the table tells.
    except Exception as error:
        return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
    pairs = zip(own, expected, strict=True)
    return f"{max(np.abs(x - y).max() / np.abs(y).max() for x, y in pairs):.0e}"


def in_order(result: Any) -> Any:
    """Return a dictionary's values in the order of its keys, and others as they are."""
    if isinstance(result, dict):
        return tuple(result[name] for name in sorted(result))
    return result


def title(library: Library) -> str:
    """Return the name, the version and the dtype."""
    known = f"{library.distribution} {version(library.distribution)}"
    return f"{known}, {library.dtype}"


def main() -> None:
    """Print a table of the libraries that work, and why the others do not."""
    reasons = {library: refused(library) for library in installed()}
    working = [library for library, reason in reasons.items() if reason is None]
    print("| step |", " | ".join(map(title, working)), "|")
    print("|---" * (len(working) + 1) + "|")
    for name in STEPS:
        cells = [outcome(library, name) for library in working]
        print(f"| {name.replace('_', ' ')} |", " | ".join(cells), "|")
    print()
    for library, reason in reasons.items():
        if reason is not None:
            print(f"- {title(library).rpartition(',')[0]}: {reason}")


if __name__ == "__main__":
    main()
