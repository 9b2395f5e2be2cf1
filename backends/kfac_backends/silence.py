"""A context in which NumPy does not warn, and which needs to be entered only once."""

from contextvars import ContextVar

import numpy as np

_is_silent = ContextVar("_is_silent", default=False)


class Silence:
    """Like ``np.errstate(all="ignore")``; a nested call need not enter it again."""

    __slots__ = ("_errors", "_token")

    def __enter__(self) -> None:
        self._token = _is_silent.set(True)
        self._errors = np.errstate(all="ignore")
        self._errors.__enter__()

    def __exit__(self, *_: object) -> None:
        self._errors.__exit__(None, None, None)
        _is_silent.reset(self._token)


def silence() -> Silence | None:
    """Return the context; None within another one."""
    return None if _is_silent.get() else Silence()
