"""What a library lacks of the array API standard, as far as the fallback needs it."""

import warnings
from collections.abc import Callable
from typing import Any

from kfac_core.typing import Array, Namespace

# fmt: off
FUNCTIONS = (
    "abs", "all", "any", "arange", "argmax", "argsort", "asarray", "astype",
    "broadcast_to", "clip", "concat", "cos", "cumulative_sum", "equal", "exp", "expm1",
    "eye", "finfo", "flip", "floor_divide", "full", "full_like", "iinfo", "isdtype",
    "isfinite", "isnan", "log", "log1p", "logaddexp", "matmul", "max", "maximum",
    "mean", "min", "minimum", "not_equal", "ones", "ones_like", "permute_dims",
    "remainder", "reshape", "result_type", "sin", "sort", "sqrt", "stack", "sum",
    "take", "tanh", "tril", "triu", "where", "zeros", "zeros_like",
    "__array_namespace_info__",
)
LINALG = ("cholesky", "diagonal", "eigh", "qr", "solve", "trace")
ATTRIBUTES = ("device", "dtype", "mT", "ndim", "shape")
OPERATORS = (
    "__add__", "__and__", "__bool__", "__eq__", "__float__", "__ge__", "__getitem__",
    "__gt__", "__int__", "__invert__", "__lt__", "__matmul__", "__mul__", "__neg__",
    "__or__", "__pow__", "__rmul__", "__rsub__", "__rtruediv__", "__sub__",
    "__truediv__",
)
# fmt: on
"""What all blocks, losses, the estimator and the optimiser take: functions of the
standard and of its extension ``linalg``, attributes and operators of arrays."""

MOST_LETTERS = 100
"""Letters that are repeated of a library's own message."""


def lacking(xp: Namespace, like: Array) -> list[str]:
    """Return what a library lacks, each with how that was seen; none lacks nothing.

    Args:
        xp: Namespace of the library.
        like: An array of it.

    Returns:
        One line for each.
    """
    with warnings.catch_warnings():
        # What a library warns of where it is only asked is of no use to anyone.
        warnings.simplefilter("ignore")
        return _lacking(xp, like)


def _lacking(xp: Namespace, like: Array) -> list[str]:
    missing = [name for name in FUNCTIONS if not hasattr(xp, name)]
    found = [f"the functions {', '.join(missing)}"] if missing else []
    has_linalg = hasattr(xp, "linalg")
    if not has_linalg:
        found.append("the extension linalg")
    if not hasattr(like, "device"):
        return [*found, "the attribute device of arrays"]
    operators = [name for name in OPERATORS if not hasattr(type(like), name)]
    if operators:
        found.append(f"the operators {', '.join(operators)}")
    if fault := _fault(_CREATES, _creates, xp, like):
        # Other claims are made of matrices that cannot be had.
        return [*found, f"{fault}, without which nothing else was tried"]
    own = {k: v for k, v in _CLAIMS.items() if has_linalg or "linalg" not in k}
    faults = (_fault(claim, check, xp, like) for claim, check in own.items())
    return [*found, *filter(None, faults)]


def _fault(claim: str, check: Callable[[Any, Any], bool], xp: Any, like: Any) -> str:
    """Return a claim and why it does not hold; an empty string if it does."""
    try:
        return "" if check(xp, like) else f"{claim} (the result is another)"
    # Whatever a library raises is told.
    except Exception as error:
        return f"{claim} ({type(error).__name__}: {_short(error)})"


def _matrix(xp: Any, like: Any) -> Any:
    rows = [[4.0, 2.0], [2.0, 5.0]]
    return xp.asarray(rows, dtype=xp.float32, device=like.device)


def _zeros(xp: Any, like: Any) -> Any:
    return xp.zeros((2, 2), dtype=xp.float32, device=like.device)


def _is(xp: Any, x: Any, y: Any) -> bool:
    return bool(xp.all(xp.abs(x - y) < 1e-5))


def _creates(xp: Any, like: Any) -> bool:
    of_like: dict[str, Any] = {"dtype": xp.float32, "device": like.device}
    made = [xp.zeros((), **of_like), xp.ones((), **of_like), xp.eye(2, **of_like)]
    made += [xp.full((), 1.0, **of_like), xp.arange(2, **of_like)]
    made += [_matrix(xp, like), _zeros(xp, like)]
    return all(x.dtype == xp.float32 for x in made)


def _transposes(xp: Any, like: Any) -> bool:
    x = _matrix(xp, like)[:, :1]
    return bool(x.mT.shape == (1, 2))


def _chooses(xp: Any, like: Any) -> bool:
    a, zeros = _matrix(xp, like), _zeros(xp, like)
    chosen = xp.where(a > 2, a, xp.full_like(a, float("nan")))
    chosen = xp.where(a > 2, chosen, zeros)
    return _is(xp, chosen, xp.where(a > 2, a, zeros))


def _negates(xp: Any, like: Any) -> bool:
    return not bool(~xp.all(_matrix(xp, like) > 1))


def _reflects(xp: Any, like: Any) -> bool:
    a = _matrix(xp, like)
    pairs = {7.0: 2.0 * a - 1.0, 0.0: 4.0 - a, 5.0: 20.0 / a, 16.0: a**2.0}
    return all(abs(float(x[0, 0]) - known) < 1e-5 for known, x in pairs.items())


def _cholesky(xp: Any, like: Any) -> bool:
    factor = xp.linalg.cholesky(_matrix(xp, like))
    lower = xp.asarray([[2.0, 0.0], [1.0, 2.0]], dtype=xp.float32, device=like.device)
    return _is(xp, factor, lower)


def _eigh(xp: Any, like: Any) -> bool:
    a = _matrix(xp, like)
    values, vectors = xp.linalg.eigh(a)
    ascends = bool(values[0] <= values[1])
    return ascends and _is(xp, (vectors * values[None, :]) @ vectors.mT, a)


def _solve(xp: Any, like: Any) -> bool:
    a = _matrix(xp, like)
    return _is(xp, xp.linalg.solve(a, a), xp.eye(2, dtype=a.dtype, device=like.device))


def _qr(xp: Any, like: Any) -> bool:
    a = _matrix(xp, like)
    q, r = xp.linalg.qr(a)
    upper = bool(xp.abs(r[1, 0]) < 1e-5)
    return upper and _is(xp, q @ r, a)


def _diagonal(xp: Any, like: Any) -> bool:
    found = xp.linalg.diagonal(_matrix(xp, like))
    return bool(found[0] == 4) and bool(found[1] == 5)


def _trace(xp: Any, like: Any) -> bool:
    return bool(xp.linalg.trace(_matrix(xp, like)) == 9)


_CREATES = "asarray, zeros, ones, eye, full and arange with dtype= and device="

_CLAIMS: dict[str, Callable[[Any, Any], bool]] = {
    "mT of a matrix": _transposes,
    "where, which takes no NaN from what it does not choose": _chooses,
    "~ of a 0-d boolean": _negates,
    "operators with a number on either side": _reflects,
    "linalg.cholesky, lower": _cholesky,
    "linalg.eigh, ascending": _eigh,
    "linalg.qr, upper": _qr,
    "linalg.solve": _solve,
    "linalg.diagonal": _diagonal,
    "linalg.trace": _trace,
}


def _short(error: Exception) -> str:
    line = (str(error).strip() or "no message").split("\n")[0]
    return line if len(line) <= MOST_LETTERS else f"{line[:MOST_LETTERS]} ..."
