"""PyTorch: CPU and CUDA tensors, eager, compiled, or mapped by `torch.func`.

No function waits for the device to find out whether it succeeded: failures are NaN.
Random numbers come from a `torch.Generator`, which ``torch.compile`` cannot trace: draw
them outside of a compiled function.

With one thread (``torch.set_num_threads``, ``OMP_NUM_THREADS=1``), NumPy makes Gram
matrices of tensors on the CPU, on the tensors' own memory. Factors and inverses of
small matrices are SciPy's, those of larger ones LAPACK's; see `torch_lapack`.
"""

import math
from collections.abc import Callable
from typing import Any, Self, TypeVar

import array_api_compat.torch
import numpy as np
import torch
from torch.utils._pytree import tree_map

from kfac_backends import torch_lapack
from kfac_backends.numpy import backend as on_host
from kfac_backends.torch_lapack import is_for_lapack, is_for_scipy
from kfac_backends.torch_memory import (
    OF_NUMPY,
    PLAIN_TYPES,
    are_plain,
    by_numpy,
    check_tensor,
    empty_like,
    is_for_numpy,
    is_traced,
    known_number,
)
from kfac_backends.torch_products import TorchProducts
from kfac_backends.torch_random import drawn
from kfac_backends.torch_stacks import TorchStacks
from kfac_backends.torch_storing import listen_for_states
from kfac_core.typing import Array, Device, DType, Key, Namespace, Precision

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

ENTRIES_OF_PART = 2**16
"""Number of entries from which adding in place saves enough memory to pay off."""


class TorchBackend(TorchProducts, TorchStacks):
    """LAPACK, MAGMA and cuSOLVER, as `torch.linalg` chooses."""

    array_types = PLAIN_TYPES

    def __init__(self, xp: Namespace, name: str, precision: Precision) -> None:
        super().__init__(xp, name)
        self.precision = precision

    def in_precision(self, precision: Precision) -> Self:
        """Return the backend that leaves TF32 to the caller's settings, or does not."""
        chosen: Any = _OF_PRECISION[precision]
        return chosen  # type: ignore[no-any-return]

    def check(self, x: Any) -> None:
        """Refuse tensors without plain strides, and those too short to be added."""
        check_tensor(x)

    def are_alike(self, arrays: tuple[Any, ...]) -> bool:
        """Return whether all are strided tensors of floats on the CPU."""
        for x in arrays:
            if (
                type(x) not in PLAIN_TYPES
                or not x.is_cpu
                or x.dtype not in OF_NUMPY
                or x.layout is not torch.strided
                or x.is_nested
            ):
                return False
        return True

    is_traced = staticmethod(is_traced)
    known_number = staticmethod(known_number)

    def scalar(self, value: float, like: Any) -> Array:
        """Fill a tensor; a compiler would compile anew for each value."""
        if torch.compiler.is_compiling():
            return super().scalar(value, like)
        number: Array = torch.full((), value, dtype=like.dtype, device=like.device)
        return number

    def is_finite(self, x: Any) -> Array:
        """Test the largest entry: ``isfinite`` writes arrays of the size of `x`."""
        if 0 in x.shape or x.dtype not in OF_NUMPY:
            return super().is_finite(x)
        # NaN counts as the largest, and is not below infinity.
        finite: Array = x.abs().amax() < torch.inf
        return finite

    def known_finite(self, x: Any) -> bool:
        """Test the sum."""
        if is_traced(x) or x.dtype not in OF_NUMPY:
            return False
        return math.isfinite(x.sum().item())

    def axpby(self, a: Any, x: Any, b: Any, y: Any) -> Array:
        """Return ``a * x + b * y``, with large second terms added in place."""
        if torch.compiler.is_compiling() or x.numel() <= ENTRIES_OF_PART:
            summed: Array = torch.addcmul(x * a, y, b)
            return summed
        if not are_plain(a, x, b, y):
            return super().axpby(a, x, b, y)
        total = torch.mul(x, a, out=empty_like(x))
        added: Array = total.addcmul_(y, b)
        return added

    def damp(self, a: Any, damping: Any) -> Array:
        """Copy, and add to the diagonal of the copy."""
        if not are_plain(a, damping):
            return super().damp(a, damping)
        damped = empty_like(a).copy_(a)
        damped.diagonal(dim1=-2, dim2=-1).add_(damping)
        whole: Array = damped
        return whole

    def buffer(self, shape: tuple[int, ...], like: Any) -> Array | None:
        """Return fresh memory, if nobody watches what is written to it."""
        return empty_like(like, shape) if are_plain(like) else None

    def diagonal(self, a: Any) -> Array:
        """Return a view, in one operation."""
        view: Array = torch.diagonal(a)
        return view

    telling_entries = diagonal

    def quiet(self) -> None:
        """Return None: the library does not warn."""

    def eigh(self, a: Any) -> tuple[Array, Array]:
        """Return the eigendecomposition; NaN for what is not finite."""
        finite = torch.isfinite(a).all(-1).all(-1)[..., None]
        # LAPACK implementations treat NaN differently: they must not see any.
        safe = torch.where(finite[..., None], a, 0.0)
        try:
            values, vectors = torch.linalg.eigh(safe)
        except torch.linalg.LinAlgError:  # does not converge
            return self._nan(a[..., 0]), self._nan(a)
        return (
            torch.where(finite, values, torch.nan),
            torch.where(finite[..., None], vectors, torch.nan).contiguous(),
        )

    def qr(self, a: Any) -> tuple[Array, Array]:
        """Return both factors, by NumPy where that is faster."""
        if not is_for_numpy(a) or 0 in a.shape:
            return super().qr(a)
        q, r = on_host.qr(a.numpy(force=True))
        return torch.from_numpy(q), torch.from_numpy(r)

    def cholesky(self, a: Any) -> Array:
        """Return the lower factor, without waiting for the flag of its success."""
        if is_for_scipy(a):
            return by_numpy(on_host.cholesky, a)
        if is_for_lapack(a):
            return torch_lapack.cholesky(a)
        factor, info = torch.linalg.cholesky_ex(a, check_errors=False)
        diagonal = torch.diagonal(factor, dim1=-2, dim2=-1)
        ok = (info == 0) & torch.isfinite(diagonal).all(-1)
        # LAPACK returns Fortran order; a compiler specialises on a state's order.
        whole: Array = torch.where(ok[..., None, None], factor, torch.nan).contiguous()
        return whole

    def cholesky_inverse(self, factor: Any) -> Array:
        """Return the inverse by potri."""
        if is_for_scipy(factor):
            return by_numpy(on_host.cholesky_inverse, factor)
        if is_for_lapack(factor):
            return torch_lapack.cholesky_inverse(factor)
        # The transpose of C order is that of LAPACK: no copy to convert.
        inverse: Any = torch.cholesky_inverse(factor.mT, upper=True)
        # On the CPU it is mirrored already.
        if inverse.device.type != "cpu":
            inverse = self._symmetric(inverse)
        # Its transpose, which it equals, is in C order.
        whole: Array = inverse.mT.contiguous()
        return whole

    def damped_inverse(self, a: Any, damping: Any) -> Array:
        """Damp, factorise, invert, in one copy where that has plain memory."""
        if is_for_scipy(a, damping):
            return by_numpy(on_host.damped_inverse, a, damping)
        if is_for_lapack(a, damping):
            return torch_lapack.damped_inverse(a, damping)
        return super().damped_inverse(a, damping)

    def solve_triangular(
        self, factor: Any, b: Any, *, transpose: bool = False
    ) -> Array:
        """Solve by trsm."""
        solution: Any = torch.linalg.solve_triangular(
            factor.mT if transpose else factor, b, upper=transpose
        )
        contiguous: Array = solution.contiguous()
        return contiguous

    def scatter_add(self, size: int, indices: Any, weights: Any) -> Array:
        """Add by index, in float64; on CUDA in an order that is not fixed."""
        # PyTorch adds one number after the other, with one rounding each.
        wide = weights if weights.device.type == "mps" else weights.double()
        zeros = torch.zeros(size, dtype=wide.dtype, device=wide.device)
        added = zeros.index_add(0, indices.to(torch.int64), wide)
        total: Array = added.to(weights.dtype)
        return total

    def cond(
        self, condition: Any, then: Callable[[], T], otherwise: Callable[[], T]
    ) -> T:
        """Choose at once where the condition has a value; else compute both."""
        if not self.is_traced(condition):
            return super().cond(condition, then, otherwise)
        chosen: T = tree_map(
            lambda x, y: torch.where(condition, x, y), then(), otherwise()
        )
        return chosen

    def stop_gradient(self, x: Any) -> Array:
        """Detach."""
        detached: Array = x.detach()
        return detached

    def has_graph(self, x: Any) -> bool:
        """Return whether autograd tracks `x`; `torch.func` does not count."""
        # An array of another library is refused where it is used, by name.
        if not getattr(x, "requires_grad", False):
            return False
        if torch.compiler.is_compiling():
            return True
        return not torch._C._functorch.is_functorch_wrapped_tensor(x)

    def as_leaf(self, x: Any, like: Any) -> Array:
        """Detach, and let autograd track it as it tracks `like`."""
        if not (self.has_graph(x) or self.has_graph(like)):
            same: Array = x
            return same
        leaf: Any = x.detach()
        # Within a compiled function, nothing becomes a leaf.
        if self.has_graph(like) and not self.is_traced(leaf):
            leaf.requires_grad_()
        whole: Array = leaf
        return whole

    def uniform(
        self, key: Key, shape: tuple[int, ...], dtype: DType, device: Device
    ) -> Array:
        """Draw from a `torch.Generator` on `device`."""
        return drawn(torch.rand, key, shape, dtype, device)

    def normal(
        self, key: Key, shape: tuple[int, ...], dtype: DType, device: Device
    ) -> Array:
        """Draw from a `torch.Generator` on `device`."""
        return drawn(torch.randn, key, shape, dtype, device)

    def to_numpy(self, x: Any) -> Any:
        """Copy; dtypes that NumPy lacks (bfloat16, float8) become float32."""
        if x.is_floating_point() and x.dtype not in _NUMPY_FLOATS:
            x = x.to(torch.float32)
        return np.array(x.numpy(force=True))

    def from_numpy(self, x: Any, device: Device = None) -> Array:
        """Copy."""
        # The array is put into C order first: PyTorch has no negative strides, which
        # through DLPack abort the process.
        copied: Array = torch.from_numpy(np.array(x, order="C")).to(device)
        return copied

    def jit(self, function: F) -> F:
        """Compile by ``torch.compile``."""
        compiled: F = torch.compile(function)
        return compiled


_NUMPY_FLOATS = (torch.float16, torch.float32, torch.float64)


backend = TorchBackend(array_api_compat.torch, "torch", "highest")
listen_for_states()

_OF_PRECISION = {
    "highest": backend,
    "default": TorchBackend(array_api_compat.torch, "torch", "default"),
}
