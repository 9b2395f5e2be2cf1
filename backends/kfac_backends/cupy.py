"""CuPy: cuBLAS and cuSOLVER.

As always in CuPy, results are on the current device: with several GPUs, work in ``with
x.device:``. Importing this module needs no GPU.
"""

from typing import Any

import array_api_compat.cupy
import cupy
import numpy as np

from kfac_backends.array_api import ArrayAPIBackend
from kfac_core.typing import Array, Device, DType, Key


class CuPyBackend(ArrayAPIBackend):
    """Factorisations that report failure, which CuPy ignores by default.

    Reading the report waits for the device, once for each Cholesky factor.
    A stack of matrices fails as a whole.
    """

    def check(self, x: Any) -> None:
        """Refuse arrays that do not hold numbers."""
        if not isinstance(x, cupy.ndarray) or x.dtype.kind not in "biufc":
            kind = type(x).__name__
            if isinstance(x, cupy.ndarray):
                kind = f"{kind} of dtype {x.dtype}"
            msg = f"expected a numeric cupy.ndarray, got {kind}"
            raise TypeError(msg)

    def gram_of_run(self, a: Any) -> Array:
        """Return ``a.T @ a``; SYRK computes one triangle of a large one."""
        if not self._is_large(a):
            return super().gram_of_run(a)
        # This import loads cuBLAS, which a machine without a GPU lacks.
        from cupy import cublas

        n = a.shape[-1]
        # The result is in C order: for Fortran order, CuPy would copy the rows.
        lower: Any = cupy.empty((n, n), dtype=a.dtype)
        cublas.syrk("T", a, out=lower, lower=True)
        whole: Array = cupy.tril(lower) + cupy.tril(lower, -1).T
        return whole

    def buffer(self, shape: tuple[int, ...], like: Any) -> Array:
        """Return memory to write to."""
        empty: Array = cupy.empty(shape, dtype=like.dtype)
        return empty

    def quiet(self) -> None:
        """Return None: the library does not warn."""

    def eigh(self, a: Any) -> tuple[Array, Array]:
        """Return the eigendecomposition; NaN for what is not finite."""
        import cupyx

        finite = cupy.isfinite(a).all(axis=(-2, -1))[..., None]
        # cuSOLVER promises nothing for NaN: it must not see any.
        safe = cupy.where(finite[..., None], a, cupy.zeros_like(a))
        try:
            with cupyx.errstate(linalg="raise"):
                values, vectors = cupy.linalg.eigh(safe)
        except np.linalg.LinAlgError:
            return self._nan(a[..., 0]), self._nan(a)
        return (
            cupy.where(finite, values, self._nan(values)),
            cupy.where(finite[..., None], vectors, self._nan(vectors)),
        )

    def cholesky(self, a: Any) -> Array:
        """Return the lower factor by potrf."""
        import cupyx

        try:
            with cupyx.errstate(linalg="raise"):
                factor = cupy.linalg.cholesky(a)
        except np.linalg.LinAlgError:
            return self._nan(a)
        pivots = cupy.diagonal(factor, axis1=-2, axis2=-1)
        ok = (cupy.isfinite(pivots) & (pivots > 0)).all(axis=-1)[..., None, None]
        whole: Array = cupy.where(ok, factor, self._nan(factor))
        return whole

    def solve_triangular(
        self, factor: Any, b: Any, *, transpose: bool = False
    ) -> Array:
        """Solve by trsm."""
        # This import loads cuBLAS, which a machine without a GPU lacks.
        from cupyx.scipy.linalg import solve_triangular

        solution: Array = solve_triangular(
            factor, b, lower=True, trans="T" if transpose else "N"
        )
        return solution

    def scatter_add(self, size: int, indices: Any, weights: Any) -> Array:
        """Add atomically: the order of the additions is not fixed."""
        import cupyx

        total: Any = cupy.zeros(size, dtype=weights.dtype)
        cupyx.scatter_add(total, indices, weights)
        return total  # type: ignore[no-any-return]

    def uniform(
        self, key: Key, shape: tuple[int, ...], dtype: DType, device: Device
    ) -> Array:
        """Draw from a `cupy.random.Generator` on `device`."""
        with cupy.cuda.Device(device):
            drawn: Array = key.random(shape, dtype=dtype)
        return drawn

    def normal(
        self, key: Key, shape: tuple[int, ...], dtype: DType, device: Device
    ) -> Array:
        """Draw from a `cupy.random.Generator` on `device`."""
        with cupy.cuda.Device(device):
            drawn: Array = key.standard_normal(shape, dtype=dtype)
        return drawn

    def to_numpy(self, x: Any) -> Any:
        """Copy to the host, after the work that `x` waits for."""
        return cupy.asnumpy(x)

    def from_numpy(self, x: Any, device: Device = None) -> Array:
        """Copy to a device, the current one by default."""
        with cupy.cuda.Device(device):
            copied: Array = cupy.array(np.array(x, order="C"), blocking=True)
        return copied


backend = CuPyBackend(array_api_compat.cupy, "cupy")
