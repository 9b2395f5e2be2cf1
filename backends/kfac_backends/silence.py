"""A context in which NumPy does not warn, and which is cheap to enter again."""

from contextvars import ContextVar

import numpy as np

_depth = ContextVar("_depth", default=0)
_saved: ContextVar[object] = ContextVar("_saved")


class _Silence:
    """As ``np.errstate(all="ignore")``, which costs as much within itself."""

    def __enter__(self) -> None:
        depth = _depth.get()
        _depth.set(depth + 1)
        if not depth:
            # Not by seterr alone: what it says is put back at the outermost exit.
            _saved.set(np.seterr(all="ignore"))

    def __exit__(self, *_: object) -> None:
        depth = _depth.get() - 1
        _depth.set(depth)
        if not depth:
            np.seterr(**_saved.get())  # type: ignore[arg-type]


silence = _Silence()
