"""Every factor as data: how to make it, what it is given, what it estimates."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

import kfac_core as kc


@dataclass(frozen=True)
class FactorCase:
    """One factor.

    Attributes:
        make: Makes the spec, given options of `Registration`.
        draw: Draws the arrays of a batch of so many cases.
        moment: The statistic of these arrays, by another way than the library's.
        extra: Further arguments of `update_cov`.
        batched: Whether the first axis of the arrays is the batch.
        sources: Place among the arrays of that which may have several sources.
        scaled: Place of the array by whose square the statistic grows.
    """

    make: Callable[..., kc.FisherFactor]
    draw: Callable[[np.random.Generator, int], tuple[Any, ...]]
    moment: Callable[..., np.ndarray]
    extra: dict[str, Any] = field(default_factory=dict)
    batched: bool = True
    sources: int | None = None
    scaled: int | None = None

    def fold(self, library, spec, state, data, ema_decay=0.5, **options):
        """Return the state after `data`, NumPy arrays or nested tuples of them."""
        arrays = asarrays(library, data)
        return spec.update_cov(
            state, *arrays, **self.extra, ema_decay=ema_decay, **options
        )

    def updated(self, library, spec, data, dtype="float64"):
        """Return the state after `data` alone."""
        state = spec.init(library.asarray(np.zeros(1, dtype)))
        return self.fold(library, spec, state, data)


def asarrays(library, data):
    if isinstance(data, tuple):
        return tuple(asarrays(library, part) for part in data)
    return library.asarray(data)


def with_one(rows):
    return np.hstack([rows, np.ones((len(rows), 1))])


def mean_square(rows):
    return rows.T @ rows / len(rows)


def windows(x, kernel, strides):
    """Return ``[batch, locations, kernel * channels]`` of channels-last images."""
    rank = len(kernel)
    axes = tuple(range(1, 1 + rank))
    view = sliding_window_view(x, kernel, axis=axes)
    view = view[(slice(None), *(slice(None, None, s) for s in strides))]
    view = np.moveaxis(view, 1 + rank, -1)  # [batch, locations, kernel, channels]
    width = np.prod(kernel) * x.shape[-1]
    return view.reshape(len(x), -1, width)


def conv_diagonal(x, g):
    patches = windows(x, (2, 2), (1, 1))
    ones = np.ones((*patches.shape[:2], 1))
    rows = np.concatenate([patches, ones], axis=-1)
    per_case = np.einsum("blp,blo->bpo", rows, g.reshape(len(g), -1, g.shape[-1]))
    return np.mean(per_case**2, axis=0)


def n_hot(ids, vocab_size=5):
    return np.eye(vocab_size)[ids]


def flat(w, b):
    return np.concatenate([w.ravel(), b])


def normal(*shapes):
    return lambda rng, n: tuple(rng.normal(size=(n, *shape)) for shape in shapes)


ROWS = FactorCase(
    lambda **options: kc.FullyConnectedKroneckerFactor(3, **options),
    normal((3,)),
    mean_square,
    sources=0,
    scaled=0,
)

FACTORS = {
    "rows": ROWS,
    "rows-bias": FactorCase(
        lambda **options: kc.FullyConnectedKroneckerFactor(3, True, **options),
        normal((3,)),
        lambda x: mean_square(with_one(x)),
    ),
    "one": FactorCase(
        lambda **options: kc.FullyConnectedKroneckerFactor(1, **options),
        normal((1,)),
        mean_square,
        sources=0,
        scaled=0,
    ),
    "patches": FactorCase(
        lambda **options: kc.ConvInputKroneckerFactor(
            (2, 2, 2, 3), "SAME", (2, 1), **options
        ),
        normal((3, 3, 2)),
        lambda x: mean_square(
            np.concatenate(
                windows(np.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0))), (2, 2), (2, 1))
            )
        ),
        scaled=0,
    ),
    "patches-bias-channels-first": FactorCase(
        lambda **options: kc.ConvInputKroneckerFactor(
            (3, 2, 4), "VALID", data_format="NCW", has_bias=True, **options
        ),
        normal((2, 5)),
        lambda x: mean_square(
            with_one(np.concatenate(windows(np.moveaxis(x, 1, -1), (3,), (1,))))
        ),
    ),
    "locations": FactorCase(
        lambda **options: kc.ConvOutputKroneckerFactor(3, "NCHW", **options),
        normal((3, 2, 2)),
        lambda g: mean_square(np.moveaxis(g, 1, -1).reshape(-1, 3)),
        sources=0,
        scaled=0,
    ),
    "dense-diagonal": FactorCase(
        lambda **options: kc.FullyConnectedDiagonalFactor(3, 2, **options),
        normal((3,), (2,)),
        lambda x, g: (x**2).T @ g**2 / len(x),
        sources=1,
        scaled=1,
    ),
    "dense-diagonal-bias": FactorCase(
        lambda **options: kc.FullyConnectedDiagonalFactor(3, 2, True, **options),
        normal((3,), (2,)),
        lambda x, g: (with_one(x) ** 2).T @ g**2 / len(x),
        sources=1,
        scaled=1,
    ),
    "conv-diagonal": FactorCase(
        lambda **options: kc.ConvDiagonalFactor(
            (2, 2, 2, 3), None, "VALID", has_bias=True, **options
        ),
        normal((3, 3, 2), (2, 2, 3)),
        conv_diagonal,
        sources=1,
        scaled=1,
    ),
    "ids": FactorCase(
        lambda **options: kc.EmbeddingInputKroneckerFactor(5, **options),
        lambda rng, n: (rng.integers(0, 5, n),),
        lambda ids: n_hot(ids).mean(0),
    ),
    "ids-repeated": FactorCase(
        lambda **options: kc.EmbeddingInputKroneckerFactor(
            5, repeated_ids="count_squared", **options
        ),
        lambda rng, n: (rng.integers(0, 5, (n, 3)),),
        lambda ids: (n_hot(ids).sum(1) ** 2).mean(0),
    ),
    "naive-full": FactorCase(
        lambda **options: kc.NaiveFullFactor(6, **options),
        lambda rng, n: ((rng.normal(size=(2, 2)), rng.normal(size=2)),),
        lambda params: np.outer(flat(*params), flat(*params)) / 4,
        extra={"batch_size": 4},
        batched=False,
    ),
    "naive-diagonal": FactorCase(
        lambda **options: kc.NaiveDiagonalFactor(6, **options),
        lambda rng, n: ((rng.normal(size=(2, 2)), rng.normal(size=2)),),
        lambda params: flat(*params)[:, None] ** 2 / 4,
        extra={"batch_size": 4},
        batched=False,
    ),
}

BATCHED = {name: case for name, case in FACTORS.items() if case.batched}
