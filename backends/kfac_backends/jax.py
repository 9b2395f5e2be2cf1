"""JAX: arrays and tracers on any of its devices, one or many.

Everything works under `jax.jit`, `jax.vmap` and sharding. The backend reads the user's
``jax_enable_x64`` and never sets it: where float64 is needed and not enabled, it raises
an error, and does not return float32.
"""

from collections.abc import Callable, Sequence
from typing import Any, Self, TypeVar

import jax
import jax.numpy as jnp
import jax.scipy.linalg
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from kfac_backends import jax_lapack, jax_programs
from kfac_backends.array_api import ArrayAPIBackend
from kfac_backends.jax_chunks import cross_in_loop, gram_in_loop, sum_in_loop
from kfac_backends.jax_meshes import explicit_mesh, on_auto_axes, product
from kfac_backends.jax_placing import check_enabled, placed, scatter_add
from kfac_backends.jax_storing import listen_for_states
from kfac_backends.jax_tiles import syrk_in_tiles
from kfac_backends.runs import FEW_OF_XLA, run_length
from kfac_core.typing import Array, Device, DType, Key, Namespace, Precision

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

PANELS_FROM_WORK = 2**30
"""Number of multiplications from which panels of a Gram matrix pay without a trace."""
PANELS_FROM_TRACED_COLUMNS = 640
"""Number of columns from which they pay within a trace, where each is compiled."""
READ_TO_COLUMNS, TRANSPOSED_FROM_ROWS = 1024, 1024
"""Columns up to which all is read for a diagonal; rows from which a transpose pays."""
PANELS_FROM_COLUMNS, COMPENSATED_TO_COLUMNS = 32, 128
"""Largest number of columns to transpose before a product: twice as fast up to it."""
TILES_FROM_COLUMNS, TILES_FROM_COLUMNS_PER_ROW = 2048, 8
"""Columns, and columns per row, from which a Gram matrix is added in tiles."""
SOME_BYTES, MANY_BYTES = 2**24, 2**28
"""Size in bytes of all copies of a chunk, on the CPU and on accelerators."""


class JAXBackend(ArrayAPIBackend):
    """XLA, with products in full precision; its default on GPU and TPU is lower."""

    panels = 3  # XLA's products of narrow ones are slow on the CPU
    call = staticmethod(on_auto_axes)

    def __init__(self, xp: Namespace, name: str, precision: Precision) -> None:
        super().__init__(xp, name)
        self.precision = precision
        # Arrays with values need this, too: each operation is a program of its own.
        self._compiled_gram: Callable[[Any], Array] = jax.jit(self.gram)
        self._compiled_cross: Callable[[Any, Any], Array] = jax.jit(self.cross)

    @property
    def chooses_once(self) -> bool:
        """Whether no axis is manual, along which branches would have to vary alike."""
        return not getattr(jax.sharding.get_abstract_mesh(), "manual_axes", ())

    def in_precision(self, precision: Precision) -> Self:
        """Return the backend whose products ask for `precision`."""
        chosen: Any = _OF_PRECISION[precision]
        return chosen  # type: ignore[no-any-return]

    def check(self, x: Any) -> None:
        """Refuse random keys, and other arrays of JAX that do not hold numbers."""
        if not isinstance(x, jax.Array):
            msg = f"expected a jax.Array, got {type(x).__name__}"
            raise TypeError(msg)
        if jnp.issubdtype(x.dtype, jax.dtypes.extended):
            msg = (
                f"expected a numeric jax.Array, got one of dtype {x.dtype}: random keys"
                " are for an argument `key` alone"
            )
            raise TypeError(msg)
        if not isinstance(x, jax.core.Tracer) and x.is_deleted():
            msg = (
                "expected a jax.Array with its values, got one that was deleted: keep a"
                " copy of what is donated to a compiled function"
            )
            raise TypeError(msg)

    def device(self, x: Any) -> Device:
        """Return the set of devices that hold `x`; None where JAX may move it."""
        if isinstance(x, jax.core.Tracer) or not x.committed:
            return None
        return frozenset(x.devices())

    def creation_device(self, x: Any) -> Device:
        """Return where `x` is, for arrays of any rank; None under a trace."""
        # Under a trace the compiler places new arrays.
        if isinstance(x, jax.core.Tracer):
            return None
        # An array that is placed nowhere on purpose leaves new ones free as well. Where
        # only some inputs are committed, all outputs are, and a second call of the same
        # program with these compiles it once more.
        if not x.committed:
            return None
        # The sharding of `x` does not fit arrays of other ranks; a copy on each device
        # does.
        if isinstance(x.sharding, NamedSharding):
            return NamedSharding(x.sharding.mesh, PartitionSpec())
        return x.device if len(x.devices()) == 1 else None

    def is_traced(self, x: Array) -> bool:
        """Return whether `x` is a tracer."""
        return isinstance(x, jax.core.Tracer)

    def is_finite(self, x: Any) -> Array:
        """Test the sum of all entries times zero: XLA is slow at ``all``."""
        # The maximum will not do: on the CPU, XLA's may leave out a NaN.
        finite: Array = jax_programs.is_finite(x)
        return finite

    def damp(self, a: Any, damping: Any) -> Array:
        """Return ``a + damping * I``, by one program."""
        damped: Array = jax_programs.damp(a, damping)
        return damped

    def matmul(self, a: Any, b: Any) -> Array:
        """Return ``a @ b`` without TF32 or bfloat16 inside."""
        precision = None if self.precision == "default" else "highest"
        return product(a, b, precision)

    def transposed(self, a: Any) -> Array:
        """Return ``a.mT``; under a trace for the CPU, as an array of its own."""
        if not self._is_traced_for_cpu(a) or a.shape[-1] < PANELS_FROM_COLUMNS:
            view: Array = a.mT
            return view
        # XLA would transpose within each product, at half the speed.
        whole: Array = jax.lax.optimization_barrier(a.mT)
        return whole

    def diagonal(self, a: Any) -> Array:
        """Return the sums of rows of which the rest is left out, under a trace."""
        read = jax_programs.diagonal if self._reads_all(a) else super().diagonal
        diagonal: Array = read(a)
        return diagonal

    def telling_entries(self, a: Any) -> Array:
        """Return all of a small matrix, under a trace: XLA has a sum of these ready."""
        entries: Array = a if self._reads_all(a) else super().telling_entries(a)
        return entries

    def gram(self, a: Any) -> Array:
        """Return ``a.T @ a`` without TF32 or bfloat16 inside, compiled on the CPU."""
        if explicit_mesh(a) is not None:
            whole: Array = on_auto_axes(self.gram, a)
            return whole
        if jax.default_backend() == "cpu":
            if self._compiles(a):
                return self._compiled_gram(a)
            if a.shape[-2] > run_length(a.shape[-1], FEW_OF_XLA):
                return gram_in_loop(self.gram_of_run, a)
        return super().gram(a)

    def cross(self, a: Any, b: Any) -> Array:
        """Return ``a.T @ b`` as `gram` does, compiled on the CPU."""
        if explicit_mesh(a) is not None or explicit_mesh(b) is not None:
            whole: Array = on_auto_axes(self.cross, a, b)
            return whole
        n, m = a.shape[-1], b.shape[-1]
        if (
            a.shape[-2] <= run_length(min(n, m), FEW_OF_XLA)
            or jax.default_backend() != "cpu"
        ):
            return super().cross(a, b)
        if self._compiles(a, b):
            return self._compiled_cross(a, b)
        return cross_in_loop(self._cross_of_run, a, b)

    def _compiles(self, *arrays: Any) -> bool:
        """Return whether a program of its own is compiled for arrays with values."""
        return not (jax.config.jax_disable_jit or any(map(self.is_traced, arrays)))

    def _cross_of_run(self, a: Any, b: Any) -> Array:
        return self.matmul(self.transposed(a), b)

    def sum_of_rows(self, x: Any) -> Array:
        """Return the sum over the first axis: XLA adds in a tree."""
        total: Array = jnp.sum(x, axis=0)
        return total

    def gram_of_run(self, a: Any) -> Array:
        """Return ``a.T @ a``, multiplied in the fastest layout."""
        if (
            self._is_traced_for_cpu(a)
            and a.shape[-2] >= TRANSPOSED_FROM_ROWS
            and (a.dtype == "float64" or a.shape[-1] <= COMPENSATED_TO_COLUMNS)
        ):
            return self._symmetric(self.matmul(self.transposed(a), a))
        return super().gram_of_run(a)

    def syrk(self, alpha: Any, a: Any, beta: Any, c: Any) -> Array:
        """Return the sum of the Gram matrix and `c`, in tiles if there are few rows."""
        rows, n = a.shape
        if (
            self.precision == "highest"
            and self._is_traced_for_cpu(a)
            and n >= max(TILES_FROM_COLUMNS, TILES_FROM_COLUMNS_PER_ROW * rows)
        ):
            return syrk_in_tiles(alpha, a, beta, c)
        return super().syrk(alpha, a, beta, c)

    def quiet(self) -> None:
        """Return None: the library does not warn."""

    def eigh(self, a: Any) -> tuple[Array, Array]:
        """Return the eigendecomposition; NaN for what is not finite."""
        decomposition: tuple[Array, Array] = jax_programs.eigh(a)
        return decomposition

    def cholesky(self, a: Any) -> Array:
        """Return the lower factor; all NaN where there is none."""
        on_cpu = jax.default_backend() == "cpu"
        factor: Array = jax_programs.cholesky(a, on_cpu=on_cpu)
        return factor

    def damped_inverse(self, a: Any, damping: Any) -> Array:
        """Return the inverse; on the CPU, of a small matrix, by calls of LAPACK."""
        by_lapack = jax.default_backend() == "cpu" and jax_lapack.inverts(a)
        invert = jax_programs.damped_inverse if by_lapack else super().damped_inverse
        inverse: Array = invert(a, damping)
        return inverse

    def cholesky_inverse(self, factor: Any) -> Array:
        """Return ``inv(L).T @ inv(L)``, in blocks, leaving out zeros."""
        on_cpu = jax.default_backend() == "cpu"
        inverse: Array = jax_programs.cholesky_inverse(factor, on_cpu=on_cpu)
        return inverse

    def solve_triangular(
        self, factor: Any, b: Any, *, transpose: bool = False
    ) -> Array:
        """Solve by XLA's triangular solver."""
        solution: Array = jax.scipy.linalg.solve_triangular(
            factor, b, lower=True, trans="T" if transpose else "N"
        )
        return solution

    def chunk_bytes(self, x: Any) -> int | None:
        """Return what caches and memory hold; on an accelerator, what keeps it busy."""
        if jax.default_backend() != "cpu":
            return MANY_BYTES
        if not self.is_traced(x):
            return super().chunk_bytes(x)
        # The size is small against the inputs, since a compiled function holds all its
        # copies.
        return min(SOME_BYTES, int(x.size * x.dtype.itemsize * 2.75))

    def sum_over(
        self, function: Callable[[Any], Sequence[Array]], x: Any, size: int
    ) -> list[Array]:
        """Under a trace, take the chunks in a loop that is compiled once."""
        if self.is_traced(x):
            return sum_in_loop(function, x, size)
        return super().sum_over(function, x, size)

    def scatter_add(self, size: int, indices: Any, weights: Any) -> Array:
        """Add by index, in float64 or in lanes; indices beyond `size` are dropped."""
        return scatter_add(size, indices, weights, self.creation_device(weights))

    def cond(
        self, condition: Array, then: Callable[[], T], otherwise: Callable[[], T]
    ) -> T:
        """Choose by `jax.lax.cond`, or at once where the condition has a value."""
        if not self.is_traced(condition):
            return super().cond(condition, then, otherwise)
        chosen: T = jax.lax.cond(condition, then, otherwise)
        return chosen

    def vmap(self, function: Callable[..., T], *stacks: Any) -> T:
        """Map by `jax.vmap`; on the CPU by a loop, which a trace holds once."""
        if jax.default_backend() != "cpu":
            mapped: T = jax.vmap(function)(*stacks)
            return mapped
        if not any(map(self.is_traced, jax.tree.leaves(stacks))):
            return super().vmap(function, *stacks)
        looped: T = jax.lax.map(lambda members: function(*members), stacks)
        return looped

    def batches(self, x: Any) -> bool:
        """Return True on accelerators alone."""
        return bool(jax.default_backend() != "cpu")

    def stop_gradient(self, x: Any) -> Array:
        """Return `x` as a constant of differentiation."""
        constant: Array = jax.lax.stop_gradient(x)
        return constant

    def split(self, key: Key, count: int) -> tuple[Key, ...]:
        """Split the key."""
        return tuple(jax.random.split(key, count))

    def uniform(
        self, key: Key, shape: tuple[int, ...], dtype: DType, device: Device
    ) -> Array:
        """Draw from a key of `jax.random.key`."""
        check_enabled(dtype)
        return placed(jax.random.uniform(key, shape, dtype), device)

    def normal(
        self, key: Key, shape: tuple[int, ...], dtype: DType, device: Device
    ) -> Array:
        """Draw from a key of `jax.random.key`."""
        check_enabled(dtype)
        return placed(jax.random.normal(key, shape, dtype), device)

    def to_numpy(self, x: Any) -> Any:
        """Copy from all the devices that hold a part."""
        return np.array(x)

    def from_numpy(self, x: Any, device: Device = None) -> Array:
        """Copy; without x64, integers become JAX's own of 32 bits if they fit."""
        values = np.array(x, order="C")
        if values.dtype.kind in "iu":
            narrow = values.astype(jax.dtypes.canonicalize_dtype(values.dtype))
            if np.array_equal(narrow, values):
                values = narrow
        check_enabled(values.dtype)
        return placed(jnp.asarray(values), device)

    def jit(self, function: F) -> F:
        """Compile by `jax.jit`."""
        compiled: F = jax.jit(function)
        return compiled

    def _is_traced_for_cpu(self, x: Any) -> bool:
        return self.is_traced(x) and jax.default_backend() == "cpu"

    def _reads_all(self, a: Any) -> bool:
        return self._is_traced_for_cpu(a) and a.shape[-1] <= READ_TO_COLUMNS

    def _is_large(self, a: Any) -> bool:
        if self.is_traced(a):
            return bool(a.shape[-1] >= PANELS_FROM_TRACED_COLUMNS)
        # Outside of a trace, each slice is an operation, whose cost must pay off.
        work = a.shape[-2] * a.shape[-1] ** 2
        return super()._is_large(a) and work >= PANELS_FROM_WORK


backend = JAXBackend(jnp, "jax", "highest")
listen_for_states()

_OF_PRECISION = {
    "highest": backend,
    "default": JAXBackend(jnp, "jax", "default"),
}
