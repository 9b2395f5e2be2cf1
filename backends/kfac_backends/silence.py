"""A context in which NumPy does not warn, and which needs to be entered only once."""

from contextvars import ContextVar

import numpy as np


class Silence:
    """Like ``np.errstate(all="ignore")``; within it, `silence` returns None.

    It holds nothing of its own, so that one object serves all threads.
    """

    __slots__ = ()

    def __enter__(self) -> None:
        errors = np.errstate(all="ignore")
        errors.__enter__()
        _errors.set(errors)
        _context.set(None)

    def __exit__(self, *_: object) -> None:
        _context.set(self)
        _errors.get().__exit__(None, None, None)


_errors: ContextVar["np.errstate"] = ContextVar("_errors")
_OUTSIDE = Silence()
_context: ContextVar[Silence | None] = ContextVar("_context", default=_OUTSIDE)

silence = _context.get
"""Return the context; None within another one. Every verb calls it: it is no function
of Python."""
