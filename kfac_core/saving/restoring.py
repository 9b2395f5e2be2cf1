"""A state from its arrays by name, or from a tree without the classes of its nodes."""

import json
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np

from kfac_core import tree
from kfac_core.errors import StateError
from kfac_core.registry import backend_of
from kfac_core.saving.leaves import fitted, place_of
from kfac_core.saving.names import MADE_BY, check_array, named_leaves, signatures_text
from kfac_core.typing import Array

S = TypeVar("S")

_SHOWN = 5  # names in a message


def state_from_dict(template: S, mapping: Mapping[str, Array]) -> S:
    """Return a state from its arrays by name, as `state_to_dict` gives them.

    Args:
        template: A state of the structure wanted, such as that of ``spec.init``, which
            gives library, device, dtypes and shapes; its numbers do not matter.
        mapping: The arrays by name, of any library.

    Returns:
        The state. Arrays of the template's library on its device are taken as they are,
        others are copied there. Counters may have another length; all else keeps its
        dtype.

    Raises:
        StateError: If a name is missing or unknown, if the state was made by a spec of
            another kind or one that serves something else, or if `mapping` is nested.
        KfacError: If an array has another shape or dtype, or is none.

    Example:
        >>> import numpy as np
        >>> import kfac_core as kc
        >>> factor = kc.factors.FullyConnectedKroneckerFactor(2)
        >>> empty = factor.init(np.zeros(1))
        >>> named = kc.state_to_dict(factor.update_cov(empty, np.eye(2), 0.95))
        >>> factor.get_cov(kc.state_from_dict(empty, named))
        array([[0.5, 0. ],
               [0. , 0.5]])
    """
    label = "state_from_dict"
    expected = _leaves_of(template, label)
    given: object = mapping
    if not isinstance(given, Mapping) or any(
        isinstance(x, Mapping | list | tuple) for x in given.values()
    ):
        msg = (
            f"{label}: mapping is a nested {type(mapping).__name__}, a state that was"
            " restored without its classes: give it to kfac_core.from_tree; or give"
            " what state_to_dict returned"
        )
        raise StateError(msg)
    check_names([*mapping], [*expected, MADE_BY], label)
    made_by = mapping[MADE_BY]
    check_array(made_by, f"{label}: {MADE_BY}")
    text = backend_of(made_by).to_numpy(made_by).astype(np.uint8).tobytes()
    check_signatures(text.decode(errors="replace"), signatures_text(template), label)
    return _filled(template, expected, mapping, label)


def from_tree(template: S, tree_of_arrays: Any) -> S:
    """Return a state from nested dictionaries, lists and tuples of its arrays.

    Formats that know no named tuples return such trees. They do not say what made a
    state: the template must be of the spec that the state was saved with.

    Args:
        template: As in `state_from_dict`.
        tree_of_arrays: The nested arrays: by the names of fields and layers, and by the
            places in tuples, whether these are lists or have the keys ``"0"``,
            ``"1"``... Parts without arrays may be missing.

    Returns:
        The state, as in `state_from_dict`.

    Raises:
        StateError: If an array is missing or unknown.
        KfacError: If an array has another shape or dtype, or is none.

    Example:
        >>> import numpy as np
        >>> import kfac_core as kc
        >>> block = kc.blocks.FullyConnectedKFACBasicFB(2, 1)
        >>> state = block.init(np.zeros(1))
        >>> bare = state._asdict() | {"uses": state.uses._asdict()}
        >>> kc.from_tree(state, bare).uses
        MovingAverage(total=array(1.), weight=array(1.))
    """
    label = "from_tree"
    expected = _leaves_of(template, label)
    found = {
        name: x for name, x in named_leaves(tree_of_arrays).items() if x is not None
    }
    check_names([*found], [*expected], label)
    return _filled(template, expected, found, label)


def check_names(
    found: list[str],
    expected: list[str],
    label: str,
    advice: str = "use a template of the spec that the state was saved with",
) -> None:
    """Check that arrays have the names that are expected, in any order.

    Args:
        found: The names of what was saved.
        expected: The names of the arrays of a template.
        label: Name of the function that was called, for the message.
        advice: What to do otherwise.

    Raises:
        StateError: If one is missing or unknown.
    """
    missing = [name for name in expected if name not in set(found)]
    unknown = [name for name in found if name not in set(expected)]
    if missing or unknown:
        parts = []
        if missing:
            parts.append(f"lacks {_listed(missing)}")
        if unknown:
            parts.append(f"has {_listed(unknown)}, which the template has not")
        msg = f"{label}: the saved state {' and '.join(parts)}; {advice}"
        raise StateError(msg)


def check_signatures(found: str, expected: str, label: str) -> None:
    """Check that the parts of a state were made by the same kinds of specs.

    Args:
        found: The text of the saved state.
        expected: The text of the template.
        label: Name of the function that was called, for the message.

    Raises:
        StateError: If one is of another kind, or serves something else.
    """
    if found == expected:
        return
    try:
        saved: dict[str, list[str]] = dict(json.loads(found))
    except ValueError:
        msg = f"{label}: {MADE_BY} is not the text that state_to_dict gave"
        raise StateError(msg) from None
    wanted: dict[str, list[str]] = json.loads(expected)
    for name in {**wanted, **saved}:
        old, new = saved.get(name), wanted.get(name)
        if old != new:
            where = f"{name}: " if name else ""
            msg = (
                f"{label}: {where}the saved state is one of {_spec(old)}, and the"
                f" template one of {_spec(new)}; restore it with the spec that it was"
                " saved with, and bring it to another by init_inverses"
            )
            raise StateError(msg)


def _spec(signature: list[str] | None) -> str:
    if signature is None:
        return "no spec"
    kind, served = signature
    return f"{kind} that serves {served or 'its defaults'}"


def _leaves_of(template: object, label: str) -> dict[str, Array]:
    """Return the arrays of a template by name, which must be arrays."""
    found = named_leaves(template)
    for name, x in found.items():
        check_array(x, f"{label}: template{name and '.'}{name}")
    return found


def _filled(
    template: S, expected: Mapping[str, Array], found: Mapping[str, Any], label: str
) -> S:
    """Return the template with the arrays that are found, each in its place."""
    arrays = iter(
        [fitted(found[name], place_of(x), name, label) for name, x in expected.items()]
    )
    state: S = tree.map(lambda _: next(arrays), template)
    return state


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(map(repr, names[:_SHOWN])) + more
