"""Checks of the random numbers: that they follow the key, and the distribution."""

from typing import Any

import numpy as np

from kfac_core.testing.candidate import Candidate, require


def random_numbers_follow_the_key(candidate: Candidate) -> None:
    """Shape, dtype and range are right; a key determines the numbers."""
    backend = candidate.backend
    for name in candidate.floats():
        like = candidate.array(np.zeros(1), name)
        device = backend.creation_device(like)
        for verb in (backend.uniform, backend.normal):
            drawn = [
                verb(candidate.make_key(seed), (64, 64), like.dtype, device)
                for seed in (0, 0, 1)
            ]
            first, again, other = map(candidate.numpy, drawn)
            what = f"{verb.__name__} of {name}"
            require(
                first.shape == (64, 64) and first.dtype == name,
                f"{what} has shape {first.shape}, dtype {first.dtype}",
            )
            require(
                backend.device(drawn[0]) == backend.device(like),
                f"{what} lies on {backend.device(drawn[0])},"
                f" expected {backend.device(like)}",
            )
            require(
                np.array_equal(first, again), f"{what}: one key gave different numbers"
            )
            require(
                not np.array_equal(first, other), f"{what}: two keys gave one result"
            )
            scalar = verb(candidate.make_key(0), (), like.dtype, device)
            require(scalar.shape == (), f"{what} of shape () has shape {scalar.shape}")
        uniform = candidate.numpy(
            backend.uniform(candidate.make_key(2), (64, 64), like.dtype, device)
        )
        require(
            (uniform >= 0).all() and (uniform < 1).all(),
            f"uniform of {name} lies in [{uniform.min()}, {uniform.max()}],"
            " expected [0, 1)",
        )
        _check_moments(f"uniform of {name}", uniform, 1 / 2, 1 / 12)
        _check_moments(f"normal of {name}", first, 0, 1)


def split_keys_are_independent(candidate: Candidate) -> None:
    """What is drawn with split keys is determined, and uncorrelated."""
    backend = candidate.backend
    like = candidate.array(np.zeros(1), "float32")
    device = backend.creation_device(like)

    def draw() -> list[Any]:
        keys = backend.split(candidate.make_key(0), 3)
        require(len(keys) == 3, f"split(key, 3) has {len(keys)} keys")
        return [
            candidate.numpy(backend.normal(key, (4096,), like.dtype, device))
            for key in keys
        ]

    first, again = draw(), draw()
    require(
        all(map(np.array_equal, first, again)), "split: one key gave different numbers"
    )
    # Off the diagonal, of standard deviation 1 / 64: six of them.
    worst = np.max(np.abs(np.corrcoef(first) - np.eye(3)))
    require(worst < 6 / 64, f"numbers of split keys have a correlation of {worst:.2g}")


def _check_moments(what: str, drawn: Any, mean: float, variance: float) -> None:
    # Six standard deviations of the mean, and of a variance with kurtosis up to 3.
    got = drawn.astype(np.float64)
    n = got.size
    require(
        abs(got.mean() - mean) < 6 * (variance / n) ** 0.5
        and abs(got.var() - variance) < 6 * variance * (2 / n) ** 0.5,
        f"{what} has mean {got.mean():.4g} and variance {got.var():.4g} over {n}"
        f" numbers, expected {mean:.4g} and {variance:.4g}",
    )
