"""A state as a flat dictionary of arrays, by dotted names, and what made its parts."""

import json
from typing import Any

import numpy as np

from kfac_core import tree
from kfac_core.errors import ArgumentError, BackendError, StateError
from kfac_core.registry import backend_of
from kfac_core.spec.signature import kind_of, served_of
from kfac_core.typing import Array

MADE_BY = "made_by"
"""Name of the array that holds what made the parts of a state, as text."""


def state_to_dict(state: Any) -> dict[str, Array]:
    """Return the arrays of a state by name, and nothing else.

    A name joins the fields, the names of layers and the places in tuples that lead to
    an array with dots, such as ``blocks.fc1.input_factor.cov.total``. The array
    ``made_by`` holds, as bytes, what kind of spec made each part and what that serves:
    `state_from_dict` refuses the powers of another spec. Any format that stores arrays
    by name stores a state so.

    Args:
        state: A state of a factor, a block, an estimator or an optimiser; or a tuple or
            dictionary of states and arrays.

    Returns:
        The arrays by name, in the order of the state; they are not copied.

    Raises:
        ArgumentError: If two arrays would have one name, as with a layer named
            ``a.parts.0`` beside a layer named ``a``.
        BackendError: If a leaf is not an array.
        StateError: If there is no array in it.

    Example:
        >>> import numpy as np
        >>> import kfac_core as kc
        >>> state = kc.factors.FullyConnectedKroneckerFactor(2).init(np.zeros(1))
        >>> list(kc.state_to_dict(state))[:3]
        ['cov.total', 'cov.weight', 'computed']
    """
    found = named_leaves(state)
    if not found:
        msg = f"state_to_dict: state is {type(state).__name__} without arrays"
        raise StateError(msg)
    for name, x in found.items():
        check_array(x, f"state_to_dict: state{name and '.'}{name}")
    like = next(iter(found.values()))
    backend = backend_of(like)
    text = np.asarray([*signatures_text(state).encode()], dtype=np.uint8)
    device = None if backend.is_traced(like) else backend.creation_device(like)
    return {**found, MADE_BY: backend.from_numpy(text, device)}


def named_leaves(state: Any) -> dict[str, Any]:
    """Return all leaves of a tree by their dotted names.

    Args:
        state: Tuples, lists, named tuples and dictionaries.

    Returns:
        The leaves, in the order of `kfac_core.tree.leaves`.

    Raises:
        ArgumentError: If two leaves have one name.
    """
    found: dict[str, Any] = {}
    for name, part in tree.named_leaves(state):
        if name in found:
            msg = (
                f"two arrays of the state have the name {name!r}: a layer's name is"
                " that of a part of another layer; give it another name"
            )
            raise ArgumentError(msg)
        found[name] = part
    return found


def signatures_text(state: Any) -> str:
    """Return what made the parts of a state: JSON of kinds and what they serve."""
    found = {}
    for name, part in tree.named_parts(state):
        made_by = getattr(part, MADE_BY, None)
        if (kind := kind_of(made_by)) is not None:
            found[name] = [kind, served_of(made_by)]
    return json.dumps(found, sort_keys=True)


def check_array(x: Any, what: str) -> None:
    """Check that a leaf is an array.

    Args:
        x: The leaf.
        what: What it is, for the message.

    Raises:
        BackendError: If no library of ours has it.
    """
    try:
        backend_of(x)
    except BackendError as error:
        msg = f"{what}: {error}"
        raise BackendError(msg) from None
