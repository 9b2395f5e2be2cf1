"""Checks of what holds for every function: names, dtypes, devices, arguments."""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from kfac_core.backend import Backend
from kfac_core.testing.candidate import Candidate, require

_ROWS = np.array([[1.0, 2.0, 0.0], [0.0, 1.0, -1.0], [3.0, 0.0, 1.0], [1.0, 1.0, 1.0]])
_FACTOR = np.array([[2.0, 0.0, 0.0], [1.0, 3.0, 0.0], [-1.0, 0.5, 1.0]])
_RIGHT = np.array([[1.0, 2.0], [-1.0, 0.0], [4.0, 1.0]])
_NUMBER = np.array(0.5)
_IDS = np.array([2, 0, 2, 1], dtype=np.int32)
_WEIGHTS = np.array([1.0, 2.0, 3.0, 4.0])


def _doubled(backend: Backend, x: Any) -> Any:
    """Return ``2 x``, written where the backend lets it be written."""
    buffer = backend.buffer(tuple(x.shape), x)
    if buffer is None:
        return x + x
    buffer[...] = x
    buffer += x
    return buffer


CALLS: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "matmul": (lambda backend, a, b: backend.matmul(a, b), (_FACTOR, _RIGHT)),
    "gram": (lambda backend, a: backend.gram(a), (_ROWS,)),
    "cross": (lambda backend, a: backend.cross(a, a), (_ROWS,)),
    "sum_of_rows": (lambda backend, a: backend.sum_of_rows(a), (_ROWS,)),
    "axpby": (
        lambda backend, x, y, a: backend.axpby(a, x, a, y),
        (_FACTOR, _FACTOR.T, _NUMBER),
    ),
    "damp": (lambda backend, a, damping: backend.damp(a, damping), (_FACTOR, _NUMBER)),
    "syrk": (
        lambda backend, a, c, alpha: backend.syrk(alpha, a, alpha, c),
        (_ROWS, _FACTOR @ _FACTOR.T, _NUMBER),
    ),
    "buffer": (_doubled, (_ROWS,)),
    "transposed": (lambda backend, a: backend.transposed(a), (_ROWS,)),
    "sum_over": (
        lambda backend, a: backend.sum_over(lambda x: [backend.gram(x)], a, 3)[0],
        (_ROWS,),
    ),
    "eigh": (lambda backend, a: backend.eigh(a), (_FACTOR @ _FACTOR.T,)),
    "cholesky": (lambda backend, a: backend.cholesky(a), (_FACTOR @ _FACTOR.T,)),
    "cholesky_inverse": (
        lambda backend, factor: backend.cholesky_inverse(factor),
        (_FACTOR,),
    ),
    "damped_inverse": (
        lambda backend, a, damping: backend.damped_inverse(a, damping),
        (_FACTOR @ _FACTOR.T, _NUMBER),
    ),
    "solve_triangular": (
        lambda backend, factor, b: backend.solve_triangular(factor, b),
        (_FACTOR, _RIGHT),
    ),
    "solve_triangular, transposed": (
        lambda backend, factor, b: backend.solve_triangular(factor, b, transpose=True),
        (_FACTOR, _RIGHT),
    ),
    "scatter_add": (
        lambda backend, weights, ids: backend.scatter_add(3, ids, weights),
        (_WEIGHTS, _IDS),
    ),
    "stop_gradient": (lambda backend, x: backend.stop_gradient(x), (_ROWS,)),
    "as_leaf": (lambda backend, x: backend.as_leaf(x, x), (_ROWS,)),
}
"""Functions of arrays: a call, and arguments of which the first gives the dtype."""


def follows_the_protocol(candidate: Candidate) -> None:
    """Every member of `Backend` is there and takes the arguments that it names."""
    backend = candidate.backend
    members = [name for name in vars(Backend) if not name.startswith("_")]
    missing = [name for name in members if not hasattr(backend, name)]
    require(
        not missing,
        f"{type(backend).__name__} has no {', '.join(missing)}, expected"
        " every member of kfac_core.backend.Backend",
    )
    for name in members:
        declared = getattr(Backend, name)
        if not inspect.isfunction(declared):
            continue
        _, *expected = inspect.signature(declared).parameters.values()
        try:
            signature = inspect.signature(getattr(backend, name))
        except ValueError:  # a function of C need not say what it takes
            continue
        found = list(signature.parameters.values())
        fits = [(p.name, p.kind) for p in found[: len(expected)]] == [
            (p.name, p.kind) for p in expected
        ] and all(p.default is not p.empty for p in found[len(expected) :])
        require(
            fits,
            f"{name}({', '.join(p.name for p in found)}) does not take"
            f" ({', '.join(p.name for p in expected)}) in this order and kind",
        )


def keeps_dtype_and_device(candidate: Candidate) -> None:
    """Results have the dtype, the device and the type of the argument."""
    backend = candidate.backend
    for dtype in candidate.floats():
        for name, (call, values) in CALLS.items():
            arguments = _arguments(candidate, values, dtype)
            first = arguments[0]
            for result in _as_tuple(call(backend, *arguments)):
                for what, got, expected in (
                    ("type", type(result), type(first)),
                    ("dtype", result.dtype, first.dtype),
                    ("device", backend.device(result), backend.device(first)),
                ):
                    require(
                        got == expected,
                        f"{name}: {what} of the result is {got}, expected {expected}",
                    )


def leaves_arguments_alone(candidate: Candidate) -> None:
    """No function changes an array that it was given."""
    for dtype in candidate.floats():
        for name, (call, values) in CALLS.items():
            arguments = _arguments(candidate, values, dtype)
            before = [candidate.numpy(x) for x in arguments]
            call(candidate.backend, *arguments)
            for i, (x, was) in enumerate(zip(arguments, before, strict=True)):
                require(
                    np.array_equal(candidate.numpy(x), was),
                    f"{name} changed its argument {i}: {was} became"
                    f" {candidate.numpy(x)}",
                )


def compiled_functions_agree(candidate: Candidate) -> None:
    """A function under `jit` computes what it computes outside."""
    backend = candidate.backend
    x = candidate.array(_ROWS, "float32")
    # Sums of small integers: the order in which they are added does not matter.
    result = backend.jit(backend.gram)(x)
    require(
        np.array_equal(candidate.numpy(result), _ROWS.T @ _ROWS),
        f"jit(gram) is {candidate.numpy(result)}, expected {_ROWS.T @ _ROWS}",
    )


def cond_chooses(candidate: Candidate) -> None:
    """`cond` returns the chosen branch, compiled or not, and calls no other."""
    backend = candidate.backend
    x = candidate.array(_RIGHT, "float32")

    def choose(condition: Any, x: Any) -> Any:
        return backend.cond(condition, lambda: {"a": (x + 1,)}, lambda: {"a": (x - 1,)})

    for run in (choose, backend.jit(choose)):
        for truth in (True, False):
            condition = candidate.array(np.asarray(truth))
            result = candidate.numpy(run(condition, x)["a"][0])
            expected = _RIGHT + 1 if truth else _RIGHT - 1
            require(
                np.array_equal(result, expected),
                f"cond of {truth} is {result}, expected {expected}",
            )
    asked: list[bool] = []

    def other() -> Any:
        asked.append(True)
        return x

    backend.cond(candidate.array(np.asarray(True)), lambda: x, other)
    require(not asked, "cond computes what a condition with a value does not choose")


def vmap_maps(candidate: Candidate) -> None:
    """`vmap` returns a stack of what the function returns of each member."""
    backend = candidate.backend
    x = candidate.array(np.stack([_ROWS, 2 * _ROWS]), "float32")
    scales = candidate.array(np.asarray([1.0, 3.0]), "float32")

    def of_each(x: Any, scales: Any) -> Any:
        return backend.vmap(
            lambda pair, s: (s * backend.gram(pair[0]), (s + 1,)), (x,), scales
        )

    for run in (of_each, backend.jit(of_each)):
        grams, (sums,) = run(x, scales)
        gram = _ROWS.T @ _ROWS
        expected = np.stack([gram, 12 * gram])
        require(
            np.array_equal(candidate.numpy(grams), expected)
            and np.array_equal(candidate.numpy(sums), [2, 4]),
            f"vmap returns {candidate.numpy(grams)} and {candidate.numpy(sums)},"
            f" expected {expected} and [2, 4]",
        )


def arrays_have_values(candidate: Candidate) -> None:
    """Arrays outside of a trace pass `check`, are not traced, and have a device."""
    backend = candidate.backend
    for dtype in (*candidate.floats(), "int32", "bool"):
        x = candidate.array(np.ones((2, 2)), dtype)
        backend.check(x)
        require(backend.is_traced(x) is False, f"is_traced of a {dtype} array is true")
        # What creation_device returns must create; and devices must compare.
        beside = backend.xp.zeros((2,), device=backend.creation_device(x))
        require(
            backend.device(beside) == backend.device(x),
            f"an array created on creation_device(x) lies on {backend.device(beside)},"
            f" expected {backend.device(x)}",
        )


def numbers_have_values(candidate: Candidate) -> None:
    """A scalar has value, dtype and device; what is known of arrays is true of them."""
    backend = candidate.backend
    for dtype in candidate.floats():
        like = candidate.array(_ROWS, dtype)
        number = backend.scalar(0.25, like)
        require(
            candidate.numpy(number) == 0.25
            and (number.shape, number.dtype) == ((), like.dtype)
            and backend.device(number) == backend.device(like),
            f"scalar(0.25) of {dtype} is {number!r}, expected 0.25 beside its argument",
        )
        known = backend.known_number(number)
        require(
            known is None or (known == 0.25 and known.dtype == np.dtype(dtype)),
            f"known_number of 0.25 in {dtype} is {known!r}, expected it or None",
        )
        require(
            backend.known_number(like) is None,
            f"known_number of an array of shape {_ROWS.shape} is not None",
        )
        require(
            not backend.are_alike((like, "not an array")),
            "are_alike is true of what is not an array",
        )


def _arguments(candidate: Candidate, values: Any, dtype: str) -> list[Any]:
    return [candidate.array(x, dtype if x.dtype.kind == "f" else None) for x in values]


def _as_tuple(result: Any) -> tuple[Any, ...]:
    return tuple(result) if isinstance(result, tuple) else (result,)
