"""A batch counts by its cases: averages of batches are those of the pooled data."""

import numpy as np
import pytest
from optimizer_cases import NORMAL, SHALLOW, optimizer_of

from kfac_core.errors import ArgumentError
from kfac_core.reference import Batch

SIZES = (100, 100, 100, 1)


def folded(library, burn_in, **options):
    """Return the dense block after batches of several sizes, and that of all data."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(301, 4)), rng.normal(size=(301, 3))
    params = {
        name: library.asarray(part)
        for name, part in SHALLOW.init(rng, like=np.zeros(1)).items()
    }

    def batch(start, stop):
        return Batch(library.asarray(x[start:stop]), library.asarray(y[start:stop]))

    optimizer = optimizer_of(
        SHALLOW,
        NORMAL,
        learning_rate=0.0,
        cov_ema_decay=1.0,
        num_burnin_steps=len(SIZES) if burn_in else 0,
        **options,
    )
    state, start = optimizer.init(params), 0
    for size in SIZES:
        here = batch(start, start + size)
        state, params, _ = optimizer.step(state, params, here)
        start += size
    pooled = optimizer.estimator.update_covs(
        optimizer.estimator.init(params), SHALLOW.linearize(params, batch(0, 301)), 1.0
    )
    (block,) = optimizer.estimator.blocks.values()
    return tuple(
        library.to_numpy(block.full_fisher_block(known.blocks["dense_0"]))
        for known in (state.estimator, pooled)
    )


@pytest.mark.parametrize("burn_in", [False, True])
def test_by_default_batches_pool(burn_in, library):
    found, wanted = folded(library, burn_in)
    np.testing.assert_allclose(found, wanted, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("burn_in", [False, True])
def test_weighed_equally_a_short_batch_spoils_the_mean(burn_in, plain_library):
    found, wanted = folded(plain_library, burn_in, weigh_batches="equally")
    assert np.max(np.abs(found - wanted)) > 0.05 * np.max(np.abs(wanted))


def test_the_option_is_checked():
    with pytest.raises(ArgumentError, match=r"weigh_batches is 'rows'.*cases, equally"):
        optimizer_of(weigh_batches="rows")
