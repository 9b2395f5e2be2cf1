"""Every block as data: how to make it, what it is given, its Fisher, densely."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import kfac_core as kc

DAMPING_TYPES = ("pi", "off", "constant", "exact")


@dataclass(frozen=True)
class BlockCase:
    """One block.

    Attributes:
        make: Makes the spec, given the options of all blocks.
        draw: Draws the arrays of a batch of so many cases.
        shapes: Shapes of the layer's parameters.
        fisher: Of these arrays: ``(A, G, c)`` of a Kronecker block, or the matrix.
        extra: Further arguments of `update_covs`.
    """

    make: Callable[..., kc.FisherBlock]
    draw: Callable[[np.random.Generator, int], tuple[Any, ...]]
    shapes: tuple[tuple[int, ...], ...]
    fisher: Callable[..., Any]
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def is_kronecker(self) -> bool:
        return isinstance(self.make(), kc.KroneckerProductFB)

    def fold(self, library, block, state, data, ema_decay=0.5, **options):
        """Return the state after `data`, NumPy arrays or nested tuples of them."""
        arrays = asarrays(library, data)
        return block.update_covs(
            state, *arrays, **self.extra, ema_decay=ema_decay, **options
        )

    def updated(self, library, block, data, dtype="float64"):
        """Return the state after `data` alone."""
        state = block.init(library.asarray(np.zeros(1, dtype)))
        return self.fold(library, block, state, data)

    def vector(self, rng, dtype="float64"):
        """Draw NumPy arrays in the shapes of the parameters."""
        tensors = tuple(rng.normal(size=shape).astype(dtype) for shape in self.shapes)
        return tensors if len(tensors) > 1 else tensors[0]


def asarrays(library, data):
    if isinstance(data, tuple):
        return tuple(asarrays(library, part) for part in data)
    return library.asarray(data)


def flat(library, params):
    """Return the entries of parameters as one NumPy vector."""
    tensors = params if isinstance(params, tuple) else (params,)
    return np.concatenate([library.to_numpy(tensor).ravel() for tensor in tensors])


def dense_power(matrix, exp):
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * values**exp) @ vectors.T


def damped(fisher, damping, damping_type="pi", power=1.0):
    """Return the dense damped block, by the formulas of Martens & Grosse (2015)."""
    if not isinstance(fisher, tuple):
        return fisher + damping * np.eye(len(fisher))
    a, g, c = fisher
    if damping_type == "exact":
        return c * np.kron(a, g) + damping * np.eye(len(a) * len(g))
    normal = damping / c**power
    pi = np.sqrt(np.trace(a) * len(g) / (np.trace(g) * len(a)))
    of_a, of_g = {
        "pi": (pi * np.sqrt(normal), np.sqrt(normal) / pi),
        "off": (np.sqrt(normal), np.sqrt(normal)),
        "constant": (normal, normal),
    }[damping_type]
    return c * np.kron(a + of_a * np.eye(len(a)), g + of_g * np.eye(len(g)))


def undamped(fisher):
    return fisher[2] * np.kron(*fisher[:2]) if isinstance(fisher, tuple) else fisher


def with_one(rows):
    return np.concatenate([rows, np.ones((*rows.shape[:-1], 1))], axis=-1)


def moment(rows):
    rows = rows.reshape(-1, rows.shape[-1])
    return rows.T @ rows / len(rows)


def patches_2x2(x):
    """Return ``[batch, 4, 4 * channels]`` of 3x3 images: VALID, stride 1."""
    corners = [x[:, i : i + 2, j : j + 2, :] for i in (0, 1) for j in (0, 1)]
    return np.stack([corner.reshape(len(x), -1) for corner in corners], axis=1)


def dilated_pairs(x):
    """Return ``[batch, 2, 2 * channels]`` of 4 channels-first steps, dilation 2."""
    last = np.moveaxis(x, 1, -1)
    pairs = [np.concatenate([last[:, i], last[:, i + 2]], axis=-1) for i in (0, 1)]
    return np.stack(pairs, axis=1)


def squared(rows, g):
    """Return the diagonal Fisher of gradients summed over the second axis."""
    per_case = np.einsum("blp,blo->bpo", rows, g)
    return np.diag(np.mean(per_case**2, axis=0).ravel())


def vector_of(params):
    return np.concatenate([tensor.ravel() for tensor in params])


def normal(*shapes):
    return lambda rng, n: tuple(rng.normal(size=(n, *shape)) for shape in shapes)


def draw_ids(*shape):
    return lambda rng, n: (rng.integers(0, 4, (n, *shape)), rng.normal(size=(n, 2)))


def draw_params(rng, n):
    return ((rng.normal(size=(2, 2)), rng.normal(size=2)),)


BLOCKS = {
    "dense": BlockCase(
        lambda **options: kc.FullyConnectedKFACBasicFB(3, 2, **options),
        normal((3,), (2,)),
        ((3, 2),),
        lambda x, g: (moment(x), moment(g), 1),
    ),
    "dense-bias": BlockCase(
        lambda **options: kc.FullyConnectedKFACBasicFB(3, 2, True, **options),
        normal((3,), (2,)),
        ((3, 2), (2,)),
        lambda x, g: (moment(with_one(x)), moment(g), 1),
    ),
    "one": BlockCase(
        lambda **options: kc.FullyConnectedKFACBasicFB(1, 1, **options),
        normal((1,), (1,)),
        ((1, 1),),
        lambda x, g: (moment(x), moment(g), 1),
    ),
    "conv-bias": BlockCase(
        lambda **options: kc.ConvKFCBasicFB(
            (2, 2, 1, 2), "VALID", has_bias=True, **options
        ),
        normal((3, 3, 1), (2, 2, 2)),
        ((2, 2, 1, 2), (2,)),
        lambda x, g: (moment(with_one(patches_2x2(x))), moment(g), 4),
    ),
    "conv-channels-first": BlockCase(
        lambda **options: kc.ConvKFCBasicFB(
            (2, 2, 2), "VALID", dilation_rate=2, data_format="NCW", **options
        ),
        normal((2, 4), (2, 2)),
        ((2, 2, 2),),
        lambda x, g: (moment(dilated_pairs(x)), moment(np.moveaxis(g, 1, -1)), 2),
    ),
    "embedding": BlockCase(
        lambda **options: kc.EmbeddingKFACFB(4, 2, **options),
        draw_ids(),
        ((4, 2),),
        lambda ids, g: (np.diag(np.eye(4)[ids].mean(0)), moment(g), 1),
    ),
    "embedding-sums": BlockCase(
        lambda **options: kc.EmbeddingKFACFB(
            4, 2, repeated_ids="count_squared", **options
        ),
        draw_ids(3),
        ((4, 2),),
        lambda ids, g: (
            np.diag((np.eye(4)[ids].sum(1) ** 2).mean(0)),
            moment(g),
            1,
        ),
    ),
    "dense-diagonal": BlockCase(
        lambda **options: kc.FullyConnectedDiagonalFB(3, 2, True, **options),
        normal((3,), (2,)),
        ((3, 2), (2,)),
        lambda x, g: squared(with_one(x)[:, None], g[:, None]),
    ),
    "conv-diagonal": BlockCase(
        lambda **options: kc.ConvDiagonalFB(
            (2, 2, 1, 2), None, "VALID", has_bias=True, **options
        ),
        normal((3, 3, 1), (2, 2, 2)),
        ((2, 2, 1, 2), (2,)),
        lambda x, g: squared(with_one(patches_2x2(x)), g.reshape(len(g), 4, 2)),
    ),
    "naive-full": BlockCase(
        lambda **options: kc.NaiveFullFB(6, **options),
        draw_params,
        ((2, 2), (2,)),
        lambda params: np.outer(vector_of(params), vector_of(params)) / 4,
        extra={"batch_size": 4},
    ),
    "naive-diagonal": BlockCase(
        lambda **options: kc.NaiveDiagonalFB(6, **options),
        draw_params,
        ((2, 2), (2,)),
        lambda params: np.diag(vector_of(params) ** 2) / 4,
        extra={"batch_size": 4},
    ),
}

KRONECKER = {name: case for name, case in BLOCKS.items() if case.is_kronecker}
# Each block with each way to damp it.
DAMPED = [
    (name, kind)
    for name, case in BLOCKS.items()
    for kind in (DAMPING_TYPES if case.is_kronecker else (None,))
]
