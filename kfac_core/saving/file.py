"""A state in a file: `save` and `load`."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kfac_core import tree
from kfac_core.errors import ArgumentError, DTypeError
from kfac_core.estimator import BlockTridiagonalEstimator, FisherEstimator
from kfac_core.optimizer import KfacOptimizer
from kfac_core.optimizer.given import check_state
from kfac_core.registry import backend_of
from kfac_core.saving.compared import ANOTHER_VERSION, check_same
from kfac_core.saving.described import described
from kfac_core.saving.disk import Reader, reading, write
from kfac_core.saving.layout import CODES
from kfac_core.saving.leaves import Place, check_form, dtype_name, from_host, place_of
from kfac_core.saving.names import (
    MADE_BY,
    check_array,
    named_leaves,
    signatures_text,
    state_to_dict,
)
from kfac_core.saving.restoring import check_names, check_signatures
from kfac_core.spec import Spec
from kfac_core.spec.signature import check_made_by
from kfac_core.typing import Array

_BESIDE = "arrays."
"""What the names of arrays begin with that a file holds beside a state."""


def save(
    path: str | Path,
    state: Any,
    spec: Any,
    *,
    arrays: Mapping[str, Array] | None = None,
) -> None:
    """Write a state to a file, which any array library reads by `load`.

    The layout is that of safetensors. Whatever happens, the file of this name is the
    old one or the new one, and never a part of it. Arrays are copied to the host one at
    a time.

    Args:
        path: Name of the file.
        state: State of the spec.
        spec: A factor, a block, a `FisherEstimator`, a `BlockTridiagonalEstimator` or a
            `KfacOptimizer`. Its fields are written as JSON, and `load` compares them.
        arrays: What must be as old as the state, by name: the parameters, the data of a
            random key, a step counter. `load_arrays` returns them.

    Raises:
        ArgumentError: If `spec` is none, or an array has no value yet, within a trace.
        StateError: If the state is not one of the spec.
        DTypeError: If an array holds what the layout has no name for.
        OSError: If the file cannot be written; what was there is still there.

    Example:
        >>> import os, tempfile
        >>> import numpy as np
        >>> import kfac_core as kc
        >>> path = os.path.join(tempfile.mkdtemp(), "state.safetensors")
        >>> block = kc.blocks.FullyConnectedKFACBasicFB(2, 1)
        >>> kc.save(path, block.init(np.zeros(1)), block)
        >>> kc.load(path, block, like=np.zeros(1)).scale
        array(1.)
    """
    where = _as_path(path, "save")
    _check_spec(spec, "save")
    _check_state(spec, state)
    given: object = arrays
    if given is not None and not isinstance(given, Mapping):
        msg = f"save: arrays is a {type(arrays).__name__}, expected arrays by name"
        raise ArgumentError(msg)
    named = state_to_dict(state)
    for name, x in (arrays or {}).items():
        own: object = name
        if not isinstance(own, str):
            msg = f"save: arrays has the key {name!r}, expected names that are texts"
            raise ArgumentError(msg)
        check_array(x, f"save: arrays[{name!r}]")
        named[f"{_BESIDE}{name}"] = x
    for name, x in named.items():
        if dtype_name(x.dtype) not in CODES:
            msg = f"save: {name} has dtype {x.dtype}, expected one of {list(CODES)}"
            raise DTypeError(msg)
        if backend_of(x).is_traced(x):
            msg = f"save: the state has no value of {name} within a trace"
            raise ArgumentError(msg)
    forms = {name: (dtype_name(x.dtype), tuple(x.shape)) for name, x in named.items()}
    write(
        where,
        forms,
        lambda name: backend_of(named[name]).to_numpy(named[name]),
        {"spec": json.dumps(described(spec))},
    )


def load(path: str | Path, spec: Any, *, like: Any) -> Any:
    """Read a state that `save` wrote, with whatever library.

    Args:
        path: Name of the file.
        spec: The spec that it was saved with: its fields are compared, but for those
            that may change, such as a name or a learning rate.
        like: What ``spec.init`` takes: an array, or the parameters by name. It gives
            library, dtype and device.

    Returns:
        The state.

    Raises:
        SavedFileError: If the file is no such file, is damaged, or is of a later
            version.
        StateError: If the state was saved with another spec, or by a version with
            other fields; a field that the file does not have yet is at its default.
        DTypeError: If it has another dtype than `like` asks for.
        OSError: If the file cannot be read.
    """
    where = _as_path(path, "load")
    _check_spec(spec, "load")
    with reading(where) as file:
        check_same(json.loads(file.texts["spec"]), spec, "load")
        template: Any = spec.init(like)
        places = {name: place_of(x) for name, x in named_leaves(template).items()}
        expected = signatures_text(template)
        # Only its form is needed from here on: no two states are held at once.
        template = tree.map(lambda _: None, template)
        in_file = [name for name in file.entries if not name.startswith(_BESIDE)]
        check_names(in_file, [*places, MADE_BY], "load", ANOTHER_VERSION)
        made_by = file.array(MADE_BY).tobytes().decode(errors="replace")
        check_signatures(made_by, expected, "load")
        for name, place in places.items():
            entry = file.entries[name]
            check_form(entry.shape, entry.dtype, place, name, "load")
        found = iter(
            [
                from_host(file.array(name), place, name, "load")
                for name, place in places.items()
            ]
        )
    return tree.map(lambda _: next(found), template)


def load_arrays(path: str | Path, *, like: Array) -> dict[str, Array]:
    """Return the arrays that `save` wrote beside a state.

    Args:
        path: Name of the file.
        like: Array that gives library and device; dtypes are those of the file.

    Returns:
        The arrays by name.

    Raises:
        SavedFileError: As in `load`.
        DTypeError: If the library has no such dtype.
        BackendError: If `like` is not an array.
        OSError: If the file cannot be read.
    """
    check_array(like, "load_arrays: like")
    with reading(_as_path(path, "load_arrays")) as file:
        return {
            name.removeprefix(_BESIDE): _beside(file, name, like)
            for name in file.entries
            if name.startswith(_BESIDE)
        }


def _beside(file: Reader, name: str, like: Array) -> Array:
    entry, backend = file.entries[name], backend_of(like)
    dtype = getattr(backend.xp, entry.dtype, None)
    if dtype is None:
        msg = f"load_arrays: {name} has dtype {entry.dtype}, which {backend.name} lacks"
        raise DTypeError(msg)
    device = backend.creation_device(like)
    own = backend.xp.zeros((), dtype=dtype, device=device)
    place = Place(backend, entry.shape, own.dtype, backend.device(like), device)
    return from_host(file.array(name), place, name, "load_arrays")


def _as_path(path: object, function: str) -> Path:
    """Return the name of a file as a path.

    Raises:
        ArgumentError: If it is not one.
    """
    name = os.fspath(path) if isinstance(path, str | os.PathLike) else None
    if not isinstance(name, str):
        found = f"a {type(path).__name__}"
    elif not name or name.endswith("/") or "\0" in name:
        found = repr(name)
    else:
        return Path(name)
    msg = f"{function}: path is {found}, expected the name of a file"
    raise ArgumentError(msg)


def _check_spec(spec: object, function: str) -> None:
    """Check that a spec is one.

    Raises:
        ArgumentError: If it is not one.
    """
    estimators = FisherEstimator | BlockTridiagonalEstimator
    if not isinstance(spec, Spec | estimators | KfacOptimizer):
        msg = (
            f"{function}: spec is a {type(spec).__name__}, expected a factor, a block,"
            " a FisherEstimator, a BlockTridiagonalEstimator or a KfacOptimizer"
        )
        raise ArgumentError(msg)


def _check_state(spec: Any, state: Any) -> None:
    """Check that a state is one of a spec; each class has its error."""
    if isinstance(spec, Spec):
        check_made_by(state, spec.signature, spec.label)
        return
    estimator = spec
    if isinstance(spec, KfacOptimizer):
        estimator = spec.estimator
        check_state(spec, estimator, state)
        state = state.estimator
    estimator.check_state(state)
    for name, block in estimator.blocks.items():
        check_made_by(state.blocks[name], block.signature, block.label)
