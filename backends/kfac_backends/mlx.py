"""mlx: arrays of Apple's library, on its GPU, or on the CPU of Linux too.

Its functions are nearly those of the standard. Factorisations run on the CPU, for which
an array of an Apple GPU need not be moved: both share their memory.
"""

from types import SimpleNamespace
from typing import Any, NamedTuple

import mlx.core as mx
import numpy as np

from kfac_backends.array_api import ArrayAPIBackend
from kfac_core.typing import Array, Device, DType

KINDS = {
    "bool": (mx.bool_,),
    "signed integer": (mx.int8, mx.int16, mx.int32, mx.int64),
    "unsigned integer": (mx.uint8, mx.uint16, mx.uint32, mx.uint64),
    "real floating": (mx.float16, mx.bfloat16, mx.float32, mx.float64),
    "complex floating": (mx.complex64,),
}
KINDS["integral"] = KINDS["signed integer"] + KINDS["unsigned integer"]
KINDS["numeric"] = sum((own for k, own in KINDS.items() if k != "bool"), ())
"""Kinds of dtypes, as the standard names them."""


class FInfo(NamedTuple):
    """What the standard's ``finfo`` tells."""

    bits: int
    eps: float
    max: float
    min: float
    smallest_normal: float
    dtype: Any


class IInfo(NamedTuple):
    """What the standard's ``iinfo`` tells."""

    bits: int
    max: int
    min: int
    dtype: Any


class MLXBackend(ArrayAPIBackend):
    """Factorisations on the CPU, whose failures are told by the pivots.

    mlx computes when a value is asked for. Its float64 is of the CPU alone.
    """

    array_types = (mx.array,)

    def check(self, x: Any) -> None:
        """Refuse what is no array of mlx."""
        if not isinstance(x, mx.array):
            msg = f"expected an mlx.core.array, got {type(x).__name__}"
            raise TypeError(msg)

    def device(self, x: Any) -> Device:
        """Return None: an array lies in memory that all devices share."""

    def creation_device(self, x: Any) -> Device:
        """Return None, as `device`."""

    def solve_triangular(
        self, factor: Any, b: Any, *, transpose: bool = False
    ) -> Array:
        """Solve by substitution, on the CPU."""
        lower = factor.mT if transpose else factor
        solution: Array = mx.linalg.solve_triangular(
            lower, b, upper=transpose, stream=mx.cpu
        )
        return solution

    def to_numpy(self, x: Any) -> Any:
        """Copy; bfloat16, which NumPy lacks, as float32."""
        return np.array(x.astype(mx.float32) if x.dtype == mx.bfloat16 else x)

    def from_numpy(self, x: Any, device: Device = None) -> Array:
        """Copy, with the dtype."""
        own = np.array(x, order="C")
        copied: Array = mx.array(own, dtype=_DTYPES.get(own.dtype.name))
        return copied


def isdtype(dtype: DType, kind: Any) -> bool:
    """Return whether a dtype is of a kind, or of one of several."""
    kinds = kind if isinstance(kind, tuple) else (kind,)
    return any(dtype in KINDS[k] if isinstance(k, str) else dtype == k for k in kinds)


def asarray(x: Any, /, *, dtype: DType = None, device: Device = None) -> Any:
    """Return an array."""
    return mx.array(x, dtype=dtype)


def astype(x: Any, dtype: DType, /, *, copy: bool = True) -> Any:
    """Return an array of another dtype; arrays are never written to here."""
    return x.astype(dtype)


def clip(x: Any, /, min: Any = None, max: Any = None) -> Any:
    """Return an array whose entries are between two numbers."""
    return x if min is None and max is None else mx.clip(x, min, max)


def exp(x: Any, /) -> Any:
    """Return the exponential; mlx's own has seven digits in float64, its expm1 all."""
    if x.dtype != mx.float64:
        return mx.exp(x)
    grown = mx.expm1(mx.abs(x)) + 1
    return mx.where(x < 0, 1 / grown, grown)


def finfo(dtype: DType, /) -> FInfo:
    """Return the limits of a dtype; bfloat16 has the exponents of float32."""
    own = mx.finfo(dtype)
    alike = np.finfo("float32" if dtype == mx.bfloat16 else _NAMES[dtype])
    least = float(alike.smallest_normal)
    ends = (float(own.max), float(own.min), least)
    return FInfo(8 * dtype.size, float(own.eps), *ends, dtype)


def iinfo(dtype: DType, /) -> IInfo:
    """Return the limits of a dtype of integers."""
    own = mx.iinfo(dtype)
    return IInfo(8 * dtype.size, own.max, own.min, dtype)


def cholesky(x: Any, /) -> Any:
    """Return lower Cholesky factors."""
    return mx.linalg.cholesky(x, stream=mx.cpu)


def eigh(x: Any, /) -> Any:
    """Return eigenvalues and eigenvectors."""
    return mx.linalg.eigh(x, stream=mx.cpu)


def qr(x: Any, /) -> Any:
    """Return an orthogonal and an upper triangular factor."""
    return mx.linalg.qr(x, stream=mx.cpu)


def solve(x1: Any, x2: Any, /) -> Any:
    """Return the solution of a general system."""
    return mx.linalg.solve(x1, x2, stream=mx.cpu)


def diagonal(x: Any, /) -> Any:
    """Return the diagonals of matrices."""
    return mx.diagonal(x, axis1=-2, axis2=-1)


def trace(x: Any, /) -> Any:
    """Return the sums of the diagonals of matrices."""
    return mx.trace(x, axis1=-2, axis2=-1)


def _created(name: str) -> Any:
    function = getattr(mx, name)

    def create(*args: Any, device: Device = None, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return create


_DTYPES = {
    name: getattr(mx, name)
    for name in ("float16", "float32", "float64", "int8", "int16", "int32", "int64")
} | {"bool": mx.bool_}

_NAMES = {dtype: name for name, dtype in _DTYPES.items()}

NAMESPACE: Any = SimpleNamespace(**vars(mx))
for _name in ("arange", "eye", "full", "ones", "zeros"):
    setattr(NAMESPACE, _name, _created(_name))
for _function in (asarray, astype, clip, exp, finfo, iinfo, isdtype):
    setattr(NAMESPACE, _function.__name__, _function)
NAMESPACE.bool = mx.bool_
NAMESPACE.linalg = SimpleNamespace(
    cholesky=cholesky, diagonal=diagonal, eigh=eigh, qr=qr, solve=solve, trace=trace
)

backend = MLXBackend(NAMESPACE, "mlx")
