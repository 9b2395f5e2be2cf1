"""`prepared`: a verb whose checks are done once for each form of its arguments."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import update_wrapper
from typing import Any

from kfac_core import tree
from kfac_core.backend import Backend
from kfac_core.errors import ArgumentError
from kfac_core.recording.program import OTHERWISE, Program, program_of, stand_ins
from kfac_core.recording.tape import CannotRecordError, Tape, running
from kfac_core.registry import BACKEND_OF_TYPE
from kfac_core.spec.quiet import Quiet

MOST_PROGRAMS = 8
"""Number of forms and ways of a verb's arguments that are remembered."""


class PreparedVerb:
    """A verb whose checks of forms are done once; see `prepared`.

    Attributes:
        verb: The verb.

    Example:
        >>> import numpy as np
        >>> import kfac_core as kc
        >>> factor = kc.factors.FullyConnectedKroneckerFactor(2)
        >>> update_cov = kc.prepared(factor.update_cov)
        >>> rows = np.asarray([[1.0, 2.0], [3.0, 4.0]])
        >>> state = update_cov(factor.init(rows), rows, ema_decay=0.5)
        >>> update_cov.forms
        1
    """

    def __init__(self, verb: Callable[..., Any]) -> None:
        self.verb = verb
        self._known: tuple[tuple[Program, Callable[[], Any]], ...] = ()
        self._tries = 0
        update_wrapper(self, verb)

    def __repr__(self) -> str:
        return f"prepared({self.verb!r})"

    @property
    def forms(self) -> int:
        """Number of forms, and ways of going through the verb, that are recorded."""
        return len(self._known)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the verb returns, and raise what it raises."""
        for program, quiet in self._known:
            try:
                context = quiet()
                if context is None:
                    found = program(*args, **kwargs)
                else:
                    with context:
                        found = program(*args, **kwargs)
            except Exception:
                continue
            if found is not OTHERWISE:
                return found
        found = self.verb(*args, **kwargs)
        if self._tries < MOST_PROGRAMS:
            self._tries += 1
            made = _recorded(self.verb, args, kwargs, found)
            if made is not None:
                self._known = (made, *self._known)
        return found


def prepared(verb: Callable[..., Any]) -> PreparedVerb:
    """Return a verb that checks the form of its arguments once.

    It is for loops that call a verb of a small layer often, in which checks take longer
    than arithmetic. The first call records what the verb does with the arrays, and
    which way it goes where it looks at a value. A later call whose arguments have the
    same form (types, shapes, dtypes, devices) does the same operations, in the same
    order, without the checks of the form. Whatever depends on values is tested at every
    call: dampings and decays in their ranges, statistics that are finite. Where
    something differs, the verb itself is called; since it is pure, nothing is lost. So
    results are those of the verb, bit for bit, and errors are its errors.

    Args:
        verb: A method of a block, a factor or a loss, such as ``block.update_covs``.

    Returns:
        A callable of the same arguments. It remembers up to eight forms. Where a verb
        cannot be recorded (it draws random numbers, its arrays are traced, have a graph
        of autograd, or are JAX's), each call is one of the verb.

    Raises:
        ArgumentError: If it is not a verb of one of these.

    Example:
        >>> import numpy as np
        >>> import kfac_core as kc
        >>> block = kc.blocks.FullyConnectedKFACBasicFB(2, 2)
        >>> update_covs = kc.prepared(block.update_covs)
        >>> x, state = np.eye(2), block.init(np.eye(2))
        >>> for _ in range(3):
        ...     state = update_covs(state, x, x, ema_decay=0.5)
        >>> block.input_factor.get_cov(state.input_factor)
        array([[0.5, 0. ],
               [0. , 0.5]])
    """
    spec: object = getattr(verb, "__self__", None)
    if not isinstance(spec, Quiet) or spec.calls_a_model:
        msg = (
            f"prepared: got {verb!r}, expected a verb of a block, a factor or a loss,"
            " such as block.update_covs"
        )
        raise ArgumentError(msg)
    return PreparedVerb(verb)


def _recorded(
    verb: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    result: Any,
) -> tuple[Program, Callable[[], Any]] | None:
    """Return the program of a call, and None if it cannot be recorded."""
    for with_numbers in (True, False):
        try:
            return _try(verb, args, kwargs, result, with_numbers=with_numbers)
        except Exception:
            continue
    return None


def _try(
    verb: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    result: Any,
    *,
    with_numbers: bool,
) -> tuple[Program, Callable[[], Any]]:
    """Record a call, and check that its program returns the same.

    Returns:
        The program, and what gives the context that it runs in.

    Raises:
        CannotRecordError: If it does not, or a run cannot be recorded.
    """
    backend = BACKEND_OF_TYPE.get(type(tree.first(args)))
    if backend is None or backend.call is not None:
        msg = "no array first, or one of a library that compiles its operations"
        raise CannotRecordError(msg)
    tape = Tape(backend)
    given = stand_ins(tape, (args, kwargs), with_numbers=with_numbers)
    token = running.set(tape)
    try:
        found = verb(*given[0], **given[1])
    finally:
        running.reset(token)
    program = program_of(tape, given, found, result)
    with backend.quiet() or nullcontext():
        again = program(*args, **kwargs)
    if again is OTHERWISE or not _are_same(backend, again, result):
        msg = "the program returns something else"
        raise CannotRecordError(msg)
    return program, backend.quiet


def _are_same(backend: Backend, x: Any, y: Any) -> bool:
    """Return whether two trees are the same, bit for bit."""
    if type(x) is not type(y):
        return False
    if isinstance(x, tuple | list):
        return len(x) == len(y) and all(
            _are_same(backend, a, b) for a, b in zip(x, y, strict=True)
        )
    if isinstance(x, dict):
        return x.keys() == y.keys() and all(_are_same(backend, x[k], y[k]) for k in x)
    if not hasattr(x, "shape"):
        return bool(x == y)
    if x.shape != y.shape or x.dtype != y.dtype:
        return False
    one, other = backend.to_numpy(x), backend.to_numpy(y)
    return bool(one.tobytes() == other.tobytes())
