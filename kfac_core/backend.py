"""The backend protocol: what K-FAC needs and the array API standard lacks.

`kfac_core` computes with the standard's functions, `Backend.xp`, and with the functions
of this protocol. A third-party backend implements the protocol, most easily by a
subclass of ``kfac_backends.array_api.ArrayAPIBackend``, which computes everything with
the standard alone. It registers an instance in the entry-point group
``kfac_core.backends``, under the name of the top-level package of its arrays' type.
`kfac_core.testing` checks it. ``docs/writing_a_backend.md`` is the guide.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, Self, TypeVar, runtime_checkable

from kfac_core.typing import Array, Device, DType, Key, Namespace, Precision

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


@runtime_checkable
class Backend(Protocol):
    """Functions of one array library, written for the last two axes of matrices.

    No function changes its arguments, moves data off its device, or depends on
    array values in Python; each works under the library's tracing, where it has one.
    """

    @property
    def name(self) -> str:
        """Name of the backend, for messages."""

    @property
    def xp(self) -> Namespace:
        """Namespace of the array API standard for this library."""

    @property
    def array_types(self) -> tuple[type, ...]:
        """Types of arrays that become known together, when the first of them is seen.

        A compiler that cannot trace the look-up of a type then has seen one outside.
        """

    @property
    def chooses_once(self) -> bool:
        """Whether a trace chooses once between all new and old parts of a state.

        Otherwise it chooses for each part, and then for each whole.
        """

    def check(self, x: Any) -> None:
        """Raise a `TypeError` if `x` is of this library but not a plain array.

        Masked and object arrays and matrices do not compute what entries suggest.
        """

    def device(self, x: Array) -> Device:
        """Return a comparable description of where `x` lies; None under a trace."""

    def creation_device(self, x: Array) -> Device:
        """Return the ``device=`` with which to create an array beside `x`."""

    def isdtype(self, dtype: DType, kind: str | tuple[str, ...]) -> bool:
        """Return what the standard's ``isdtype`` does, of every dtype of arrays.

        Some libraries have arrays of dtypes that their own function does not know.
        """

    def finfo(self, dtype: DType) -> Any:
        """Return what the standard's ``finfo`` does, of every floating-point dtype."""

    def are_alike(self, arrays: tuple[Any, ...]) -> bool:
        """Return whether arrays are plain ones of this library, on one device.

        It answers at once where that is plain to see. False is no verdict: `check` and
        `device` then look at each array.

        Args:
            arrays: Anything, at least one.
        """

    def is_traced(self, x: Array) -> bool:
        """Return whether `x` has no value yet, since it is traced or mapped over."""

    def known_number(self, x: Array) -> Any:
        """Return the value of a 0-d array as a NumPy scalar of its dtype, or None.

        None where reading it would wait for a device, or lose a trace or a graph. What
        is computed from a few numbers is computed from such values where they are
        known: an operation on a 0-d array takes a library a hundred times longer.
        """

    def scalar(self, value: float, like: Array) -> Array:
        """Return a 0-d array with the dtype and device of `like`.

        Args:
            value: A number that the dtype holds. Another number does not compile a
                function anew.
            like: A floating-point array.
        """

    def in_precision(self, precision: Precision) -> Self:
        """Return the backend whose `matmul`, `gram` and `syrk` have this precision.

        Factorisations, and solutions by them, always have full precision.

        Args:
            precision: ``"highest"``: full; ``"default"``: what the library is set to,
                such as TF32 on a GPU. The registered backend has ``"highest"``.
        """

    def is_finite(self, x: Array) -> Array:
        """Return 0-d: whether no entry of `x` is NaN or infinite."""

    def known_finite(self, x: Array) -> bool:
        """Return True if `x` is seen to be finite; False is no verdict.

        A sum is finite only if its terms are, and costs less than a test of each. Where
        it is not, or there is no value, `is_finite` tells. It is called in `quiet`.
        """

    def axpby(self, a: Array, x: Array, b: Array, y: Array) -> Array:
        """Return ``a * x + b * y``, for 0-d `a` and `b`, in as few passes as possible.

        Args:
            a: 0-d.
            x: Any shape.
            b: 0-d.
            y: The shape of `x`. All four have one dtype.
        """

    def damp(self, a: Array, damping: Array) -> Array:
        """Return ``a + damping * I``, ``[n, n]``, for 0-d `damping`."""

    def matmul(self, a: Array, b: Array) -> Array:
        """Return ``a @ b`` in full precision, whatever the library's default is.

        Args:
            a: ``[..., n, k]``, at least float32.
            b: ``[..., k, m]``, of the same dtype.
        """

    def diagonal(self, a: Array) -> Array:
        """Return the diagonal ``[n]`` of ``[n, n]``, which is only read."""

    def telling_entries(self, a: Array) -> Array:
        """Return entries of a sum of squares, which are finite only if all are.

        Args:
            a: ``[n, n]``, symmetric positive semi-definite where it is finite: then NaN
                and infinity in any row show on the diagonal.
        """

    def gram(self, a: Array) -> Array:
        """Return ``a.T @ a`` in full precision, symmetric bit for bit; see `cross`."""

    def cross(self, a: Array, b: Array) -> Array:
        """Return ``a.T @ b`` in full precision, with as few roundings as `gram`.

        Args:
            a: ``[rows, n]``, at least float32.
            b: ``[rows, m]``, of the same dtype.
        """

    def sum_of_rows(self, x: Array) -> Array:
        """Return the sum over the first axis, with few roundings for any length."""

    def transposed(self, a: Array) -> Array:
        """Return ``a.mT``, in the memory order that suits several products with it."""

    def syrk(self, alpha: Array, a: Array, beta: Array, c: Array) -> Array:
        """Return ``alpha * a.T @ a + beta * c``, symmetric bit for bit like `gram`.

        Args:
            alpha: 0-d.
            a: ``[rows, n]``, at least float32.
            beta: 0-d.
            c: ``[n, n]``, symmetric bit for bit. All four have one dtype.
        """

    @property
    def call(self) -> Callable[..., Any] | None:
        """What calls a verb, ``call(verb, *args, **kwargs)``, and returns its result.

        It may give arrays to the verb in a form of which more can be computed. None:
        verbs are called as they are.
        """

    def quiet(self) -> AbstractContextManager[object] | None:
        """Return a context in which the library does not warn of overflow.

        None if the library does not warn anyway, for instance within such a context:
        every method asks for one, and most are called by another method.
        """

    def eigh(self, a: Array) -> tuple[Array, Array]:
        """Return eigenvalues ``[n]``, ascending, and eigenvectors ``[n, n]``.

        NaN where the library finds none; never an exception.
        """

    def qr(self, a: Array) -> tuple[Array, Array]:
        """Return orthogonal ``Q`` ``[n, n]`` and upper ``R`` with ``Q @ R == a``.

        Rows of ``R``, and columns of ``Q`` with them, may have either sign. The
        standard's function will do, if it computes in the precision of `a`.
        """

    def cholesky(self, a: Array) -> Array:
        """Return lower ``L`` with ``L @ L.T == a``; all NaN where there is none.

        There is one where all pivots, the entries on the diagonal of ``L``, are finite
        and positive, whatever the library returns of another matrix.
        Only the lower triangle of `a` is read. Never an exception.
        """

    def cholesky_inverse(self, factor: Array) -> Array:
        """Return ``inv(L @ L.T)`` for lower `factor`, symmetric bit for bit."""

    def damped_inverse(self, a: Array, damping: Array) -> Array:
        """Return ``inv(a + damping * I)``: `damp`, `cholesky` and `cholesky_inverse`.

        Args:
            a: ``[n, n]``, symmetric.
            damping: 0-d.
        """

    def damped_inverses(
        self, stack: Array, dampings: Array
    ) -> tuple[list[Array], Array]:
        """Return the `damped_inverse` of each, and ``[count]``: which are finite."""

    def solve_triangular(
        self, factor: Array, b: Array, *, transpose: bool = False
    ) -> Array:
        """Solve ``L @ x = b``, or ``L.T @ x = b``, for lower `factor` ``L``."""

    def buffer(self, shape: tuple[int, ...], like: Array) -> Any:
        """Return an array to write to, with the dtype and device of `like`.

        None where entries cannot be written, or a trace or a graph would not see it.
        """

    def chunk_bytes(self, x: Array) -> int | None:
        """Return how many bytes of `x`, about what caches hold, to work on at once.

        None, where a trace would write out every part: all of `x`.
        """

    def sum_over(
        self, function: Callable[[Array], Sequence[Array]], x: Array, size: int
    ) -> list[Array]:
        """Return the sums of what `function` returns for chunks of the first axis.

        Under a trace it is a loop, if the library has one, so that only one chunk is
        held at a time.

        Args:
            function: Returns arrays, whose number and shapes are the same for every
                chunk, though one chunk may be shorter than the others. It is called at
                least once.
            x: ``[cases, ...]``, at least one case.
            size: Number of cases in a chunk. Any case may be in any chunk.
        """

    def scatter_add(self, size: int, indices: Array, weights: Array) -> Array:
        """Return ``[size]``: at each index the sum of the weights with this index.

        Args:
            size: Length of the result.
            indices: Integers ``[k]`` in ``[0, size)``, which may repeat.
            weights: ``[k]``; the result has their dtype.
        """

    def cond(
        self, condition: Array, then: Callable[[], T], otherwise: Callable[[], T]
    ) -> T:
        """Return ``then()`` where the 0-d `condition` holds, else ``otherwise()``.

        Under a trace, only the chosen one should be computed, where that can be.

        Args:
            condition: 0-d boolean array.
            then: Returns nested tuples and dictionaries of arrays.
            otherwise: Returns the same structure, shapes and dtypes.
        """

    def vmap(self, function: Callable[..., T], *stacks: Any) -> T:
        """Apply `function` to each member of stacks, and return the stacked results.

        Args:
            function: Takes nested tuples of arrays, and returns one.
            stacks: Nested tuples of arrays, all with a leading axis of the same length,
                at least one.
        """

    def batches(self, x: Array) -> bool:
        """Return whether a stack of matrices like `x` is factorised faster than each.

        On an accelerator, a library that computes one small matrix at a time waits more
        than it computes.
        """

    def inverts_together(self, x: Array) -> bool:
        """Return whether `damped_inverses` of matrices like `x` is faster than each."""

    def members(self, x: Array) -> list[Array]:
        """Return the members of a stack, each in memory of its own."""

    def stop_gradient(self, x: Array) -> Array:
        """Return `x` detached from automatic differentiation."""

    def has_graph(self, x: Array) -> bool:
        """Return whether `x` keeps alive what it was computed from.

        A tensor of PyTorch that takes part in automatic differentiation does so. Arrays
        that a transformation such as `jax.grad` differentiates do not: they live no
        longer than the transformation.
        """

    def as_leaf(self, x: Array, like: Array) -> Array:
        """Return `x` without a graph, as a variable to differentiate for if `like` is.

        Args:
            x: Any shape.
            like: The shape of `x`. Where it has a graph, operations on the result are
                recorded as well; under a trace they are not.
        """

    def split(self, key: Key, count: int) -> tuple[Key, ...]:
        """Return keys of independent numbers; a generator is returned `count` times."""

    def uniform(
        self, key: Key, shape: tuple[int, ...], dtype: DType, device: Device
    ) -> Array:
        """Draw from the uniform distribution on ``[0, 1)``."""

    def normal(
        self, key: Key, shape: tuple[int, ...], dtype: DType, device: Device
    ) -> Array:
        """Draw from the standard normal distribution."""

    def to_numpy(self, x: Array) -> Any:
        """Copy `x` to a NumPy array on the host."""

    def from_numpy(self, x: Any, device: Device = None) -> Array:
        """Copy a NumPy array to this library, with its dtype."""

    def jit(self, function: F) -> F:
        """Compile a function of arrays, or return it as it is."""
