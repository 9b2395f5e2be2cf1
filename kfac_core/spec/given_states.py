"""What is wrong with a state that a verb was given, told once the verb has failed.

No verb looks for it before: that would cost more than a small layer's work.
"""

from collections.abc import Iterable
from typing import Any

from kfac_core import tree
from kfac_core.errors import (
    ArgumentError,
    BackendError,
    EigendecompositionError,
    KfacError,
    NotComputedError,
    NotFiniteError,
    NotPositiveDefiniteError,
    StateError,
)
from kfac_core.registry import backend_of
from kfac_core.state_classes import bare_part, state_classes
from kfac_core.typing import Array

OF_BARE_STATES = (AttributeError, TypeError)
"""The errors that come of a state without its classes."""

OF_SPOILED_STATES = (
    ArgumentError,  # a damping that is computed from statistics
    EigendecompositionError,
    NotComputedError,  # a weight that is not above zero
    NotFiniteError,
    NotPositiveDefiniteError,
)
"""The errors that come of NaN or infinity in a state."""

_SHOWN = 3  # names in a message


def explain(spec: Any, arguments: Iterable[Any], error: Exception) -> None:
    """Raise a better error than one that comes of a broken state.

    Args:
        spec: Whose verb raised the error.
        arguments: What the verb was given.
        error: The error.

    Raises:
        StateError: If a part of a state is a dictionary or a list.
        NotFiniteError: If a state holds NaN or infinity.
        BackendError: If an array of a state is refused, and the error names no layer.
    """
    label = getattr(spec, "label", type(spec).__name__)
    states = [x for x in arguments if isinstance(x, state_classes())]
    if isinstance(error, OF_SPOILED_STATES):
        for state in states:
            _check_numbers(state, spec.not_known_yet, label, error)
    elif isinstance(error, BackendError) and not str(error).startswith(label):
        for state in states:
            _check_kinds(state, label)
    elif not isinstance(error, KfacError):
        for state in states:
            _check_classes(state, label, error)


def _check_classes(state: Any, label: str, error: Exception) -> None:
    if (part := bare_part(state)) is not None:
        msg = (
            f"{label}: {part} of the state was restored without its classes: give the"
            " tree to kfac_core.from_tree"
        )
        raise StateError(msg) from error


def _check_kinds(state: Any, label: str) -> None:
    for name, x in tree.named_leaves(state):
        try:
            backend_of(x)
        except BackendError as error:
            msg = f"{label}: {name} of the state: {error}"
            raise BackendError(msg) from None


def _check_numbers(
    state: Any, not_known_yet: tuple[str, ...], label: str, error: Exception
) -> None:
    spoiled = [
        name
        for name, x in tree.named_leaves(state)
        if name not in not_known_yet and _is_spoiled(x)
    ]
    if spoiled:
        more = f" and {len(spoiled) - _SHOWN} more" if len(spoiled) > _SHOWN else ""
        msg = (
            f"{label}: the state that was given holds NaN or infinity in"
            f" {', '.join(spoiled[:_SHOWN])}{more}; go on from one that an update"
            " returned, or that was saved"
        )
        # The outer verb tells the name in its own state, and keeps the first cause.
        raise NotFiniteError(msg) from error.__cause__ or error


def _is_spoiled(x: Array) -> bool:
    """Return whether an array holds NaN or infinity; False under a trace."""
    try:
        backend = backend_of(x)
    except BackendError:
        return False
    if backend.is_traced(x) or not backend.xp.isdtype(x.dtype, "real floating"):
        return False
    return not bool(backend.is_finite(x))
