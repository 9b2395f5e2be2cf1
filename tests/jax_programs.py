"""Programs that JAX compiles in tests: how many there are, and how they are kept."""

import functools
import importlib
import os
import threading
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

_CONSTRAINTS = (Path(__file__).parents[1] / "constraints.txt").read_text().split()
_IS_OURS = bool(find_spec("jax")) and f"jax=={version('jax')}" in _CONSTRAINTS

PROGRAMS = 700 if _IS_OURS else 250
"""How many programs JAX may keep from one test to the next, of 0.5 MB or 1.7 MB."""


@functools.cache
def compiled() -> list[str]:
    """Return what gets an entry for each program that JAX compiles from now on."""
    programs: list[str] = []

    def listen(event: str, seconds: float, **_: Any) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            programs.append(event)

    monitoring = importlib.import_module("jax.monitoring")
    monitoring.register_event_duration_secs_listener(listen)
    return programs


@functools.cache
def contexts() -> Any:
    """Return what gives a thread the context of MLIR in which JAX writes programs.

    JAX makes one for each program: a third of the time that a small program takes, and
    most of its memory. The function is none of its public ones: only the release that
    the constraints name is told to keep a context.
    """
    mlir = importlib.import_module("jax._src.interpreters.mlir")
    make = mlir.make_ir_context
    by_thread = functools.cache(lambda thread: make())
    if _IS_OURS:
        mlir.make_ir_context = lambda: by_thread(threading.get_ident())
    return by_thread


@functools.cache
def writes_at_once() -> None:
    """Let JAX write what it compiled under another name, and rename it when whole.

    Workers read each other's programs, of which half a file is none. The class is none
    of its public ones: with another release, workers share nothing.
    """
    if not _IS_OURS:
        return
    files = importlib.import_module("jax._src.lru_cache")
    put = files.LRUCache.put

    def at_once(self: Any, key: str, value: bytes) -> None:
        own = f"{key}.{os.getpid()}"
        put(self, own, value)
        written, kept = (self.path / f"{name}-cache" for name in (own, key))
        written.replace(kept)

    files.LRUCache.put = at_once
