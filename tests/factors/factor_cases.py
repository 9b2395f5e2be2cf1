"""Every factor as data: see `FactorCase`."""

import numpy as np
from factor_case import FactorCase
from numpy.lib.stride_tricks import sliding_window_view

import kfac_core as kc

MASK = ((0.5, -1.0), (2.0, 0.1)), ((3.0, 0.7), (0.0, 1.0))
USES = 3


def with_one(rows):
    return np.concatenate([rows, np.ones((*rows.shape[:-1], 1))], axis=-1)


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


def patches_2x2(x):
    return windows(x, (2, 2), (1, 1))


def conv_diagonal(x, g):
    per_case = np.einsum(
        "blp,blo->bpo", with_one(patches_2x2(x)), g.reshape(len(g), -1, g.shape[-1])
    )
    return np.mean(per_case**2, axis=0)


def depthwise_diagonal(x, g):
    """Return that of two channels and three outputs each, the bias last."""
    p = patches_2x2(x).reshape(len(x), -1, 4, 2)  # [batch, locations, kernel, channel]
    p = np.concatenate([p, np.ones((*p.shape[:2], 1, 2))], axis=2)
    per_case = np.einsum("blkc,blcm->bkcm", p, g.reshape(len(g), -1, 2, 3))
    return np.mean(per_case**2, axis=0).reshape(-1, 3)


def of_groups(rows):
    """Return the second moment of each group of ``[batch, locations, groups, n]``."""
    groups = np.moveaxis(rows, 2, 0).reshape(rows.shape[2], -1, rows.shape[3])
    return np.stack([mean_square(with_one(group)) for group in groups])


def uncorrelated(moments):
    """Return the matrix of two pixels that are uncorrelated, and a bias."""
    second, mean = moments[:2, :2], moments[:2, 2]
    row = np.concatenate([mean, mean, [1.0]])
    dense = np.outer(row, row)
    dense[:4, :4] += np.kron(np.eye(2), second - np.outer(mean, mean))
    return dense


def scale_and_shift(x, g):
    """Return each case's gradient of a scale and a shift of ``[4, 3]``."""
    return np.concatenate([(x * g).sum(1), g.sum(1)], axis=1)


def folded(x):
    """Return the uses of all cases as cases of their own."""
    return x.reshape(-1, *x.shape[2:])


def on_blocks(rows):
    """Return the second moment of two entries, and that of the third and a one."""
    whole = mean_square(with_one(rows))
    return np.stack([whole[:2, :2], whole[2:, 2:]])


def n_hot(ids, vocab_size=5):
    return np.eye(vocab_size)[ids]


def flat(w, b):
    return np.concatenate([w.ravel(), b])


def normal(*shapes):
    return lambda rng, n: tuple(rng.normal(size=(n, *shape)) for shape in shapes)


def in_uses(*shapes):
    """Draw the arrays of a shared layer, ``[T, N, ...]``."""
    return lambda rng, n: tuple(rng.normal(size=(USES, n, *shape)) for shape in shapes)


def draw_params(rng, n):
    return ((rng.normal(size=(2, 2)), rng.normal(size=2)),)


ROWS = FactorCase(
    lambda **options: kc.FullyConnectedKroneckerFactor(3, **options),
    normal((3,)),
    mean_square,
    argument="tensors",
    sources=0,
    scaled=0,
    singular=(np.asarray([[1.0, 2.0, 0.0]]),),
)

DENSE = {
    "rows": ROWS,
    "rows-bias": FactorCase(
        lambda **options: kc.FullyConnectedKroneckerFactor(3, True, **options),
        normal((3,)),
        lambda x: mean_square(with_one(x)),
        argument="tensors",
        bordered=True,
        singular=(np.zeros((2, 3)),),
    ),
    "one": FactorCase(
        lambda **options: kc.FullyConnectedKroneckerFactor(1, **options),
        normal((1,)),
        mean_square,
        argument="tensors",
        sources=0,
    ),
    "rows-lagged": FactorCase(
        lambda **options: kc.FullyConnectedMultiKF(2, True, cov_dt1=True, **options),
        in_uses((2,)),
        lambda x: mean_square(with_one(folded(x))),
        axis=1,
        argument="tensors",
        bordered=True,
        singular=(np.zeros((USES, 2, 2)),),
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
        channels=1,
        bordered=True,
    ),
    "patches-masked": FactorCase(
        lambda **options: kc.ConvInputKroneckerFactor(
            (2, 2, 2, 3), "VALID", has_bias=True, patch_mask=MASK, **options
        ),
        normal((3, 3, 2)),
        lambda x: mean_square(
            np.concatenate(with_one(patches_2x2(x) * np.ravel(MASK)))
        ),
        bordered=True,
    ),
    "patches-uses": FactorCase(
        lambda **options: kc.ConvInputMultiKF((2, 1, 2), "VALID", **options),
        in_uses((4, 1)),
        lambda x: mean_square(np.concatenate(windows(folded(x), (2,), (1,)))),
        axis=1,
    ),
    "locations": FactorCase(
        lambda **options: kc.ConvOutputKroneckerFactor(3, "NCHW", **options),
        normal((3, 2, 2)),
        lambda g: mean_square(np.moveaxis(g, 1, -1).reshape(-1, 3)),
        argument="outputs_grads",
        channels=1,
        any_rank=True,
        sources=0,
        scaled=0,
    ),
    "locations-uses": FactorCase(
        lambda **options: kc.ConvOutputMultiKF(2, **options),
        in_uses((3, 2)),
        lambda g: mean_square(g.reshape(-1, 2)),
        axis=1,
        argument="outputs_grads",
        any_rank=True,
        sources=0,
    ),
    "bias": FactorCase(
        lambda **options: kc.BiasFullFactor((2, 1), **options),
        normal((3, 2, 4)),
        lambda g: mean_square(g.sum((1, 3))),
        argument="outputs_grads",
        channels=2,
        any_rank=True,
        sources=0,
        scaled=0,
        singular=(np.zeros((2, 2, 1)),),
    ),
    "scale-and-shift": FactorCase(
        lambda **options: kc.ScaleAndShiftFullFactor((4, 3), (1,), (1,), **options),
        normal((4, 3), (4, 3)),
        lambda x, g: mean_square(scale_and_shift(x, g)),
        sources=1,
        scaled=1,
    ),
    "naive-full": FactorCase(
        lambda **options: kc.NaiveFullFactor(6, **options),
        draw_params,
        lambda params: np.outer(flat(*params), flat(*params)) / 4,
        extra={"batch_size": 4},
        axis=None,
        argument="params_grads",
        singular=((np.zeros((2, 2)), np.zeros(2)),),
    ),
}

DIAGONAL = {
    "dense-diagonal": FactorCase(
        lambda **options: kc.FullyConnectedDiagonalFactor(3, 2, **options),
        normal((3,), (2,)),
        lambda x, g: (x**2).T @ g**2 / len(x),
        sources=1,
        scaled=1,
        singular=(np.zeros((2, 3)), np.ones((2, 2))),
    ),
    "dense-diagonal-bias": FactorCase(
        lambda **options: kc.FullyConnectedDiagonalFactor(3, 2, True, **options),
        normal((3,), (2,)),
        lambda x, g: (with_one(x) ** 2).T @ g**2 / len(x),
        sources=1,
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
    "depthwise-diagonal": FactorCase(
        lambda **options: kc.DepthwiseConvDiagonalFactor(
            (2, 2, 2, 3), None, "VALID", has_bias=True, **options
        ),
        normal((3, 3, 2), (2, 2, 6)),
        depthwise_diagonal,
        sources=1,
        scaled=1,
    ),
    "bias-diagonal": FactorCase(
        lambda **options: kc.BiasDiagonalFactor((3,), **options),
        normal((4, 3)),
        lambda g: np.mean(g.sum(1) ** 2, axis=0),
        argument="outputs_grads",
        any_rank=True,
        sources=0,
        scaled=0,
        singular=(np.zeros((2, 3)),),
    ),
    "scale-and-shift-diagonal": FactorCase(
        lambda **options: kc.ScaleAndShiftDiagonalFactor((4, 3), (1,), (1,), **options),
        normal((4, 3), (4, 3)),
        lambda x, g: np.mean(scale_and_shift(x, g) ** 2, axis=0),
        sources=1,
    ),
    "rows-diagonal": FactorCase(
        lambda **options: kc.DiagonalKroneckerFactor(3, **options),
        normal((3,)),
        lambda x: np.mean(x**2, axis=0),
        argument="tensors",
        sources=0,
        scaled=0,
    ),
    "rows-diagonal-uses": FactorCase(
        lambda **options: kc.DiagonalMultiKF(3, True, **options),
        in_uses((3,)),
        lambda x: np.mean(with_one(folded(x)) ** 2, axis=0),
        axis=1,
        argument="tensors",
        sources=0,
        singular=(np.zeros((USES, 1, 3)),),
    ),
    "ids": FactorCase(
        lambda **options: kc.EmbeddingInputKroneckerFactor(5, **options),
        lambda rng, n: (rng.integers(0, 5, n),),
        lambda ids: n_hot(ids).mean(0),
        argument="input_ids",
        ids=True,
        singular=(np.asarray([1, 2]),),
    ),
    "ids-repeated": FactorCase(
        lambda **options: kc.EmbeddingInputKroneckerFactor(
            5, repeated_ids="count_squared", **options
        ),
        lambda rng, n: (rng.integers(0, 5, (n, 3)),),
        lambda ids: (n_hot(ids).sum(1) ** 2).mean(0),
        argument="input_ids",
        ids=True,
    ),
    "naive-diagonal": FactorCase(
        lambda **options: kc.NaiveDiagonalFactor(6, **options),
        draw_params,
        lambda params: flat(*params)[:, None] ** 2 / 4,
        extra={"batch_size": 4},
        axis=None,
        argument="params_grads",
    ),
}

STRUCTURED = {
    "pixels": FactorCase(
        lambda **options: kc.ConvInputSUAKroneckerFactor(
            (2, 2, 3),
            has_bias=True,
            pixel_weights="usage",
            padding="VALID",
            **options,
        ),
        normal((4, 2)),
        # The first and the last of four pixels are in one pair each.
        lambda x: mean_square(with_one(x[:, [0, 1, 1, 2, 2, 3]].reshape(-1, 2))),
        uncorrelated,
        bordered=True,
        powers_alone=True,
        singular=(np.ones((2, 4, 2)),),
    ),
    "rows-blocks": FactorCase(
        lambda **options: kc.FullyConnectedBlockDiagonalFactor(
            3, True, num_blocks=2, **options
        ),
        normal((3,)),
        on_blocks,
        lambda blocks: (
            np.kron([[1, 0], [0, 0]], blocks[0]) + np.kron([[0, 0], [0, 1]], blocks[1])
        ),
        argument="tensors",
        sources=0,
        singular=(np.zeros((2, 3)),),
    ),
    "groups": FactorCase(
        lambda **options: kc.GroupedKroneckerFactor(2, 2, True, **options),
        normal((3, 2, 2)),
        of_groups,
        argument="tensors",
        sources=0,
        stacked=True,
        singular=(np.zeros((2, 1, 2, 2)),),
    ),
}

FACTORS = {**DENSE, **DIAGONAL, **STRUCTURED}
BATCHED = {name: case for name, case in FACTORS.items() if case.batched}
MATRICES = {name: case for name, case in FACTORS.items() if not case.stacked}
