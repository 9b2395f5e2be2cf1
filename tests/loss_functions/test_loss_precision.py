"""Nothing cancels where a probability is nearly zero or one, nothing overflows."""

from decimal import Decimal, localcontext

import numpy as np
import pytest
from loss_cases import CASES, assert_close

CATEGORICAL = CASES["categorical"].loss
BERNOULLI = CASES["bernoulli"].loss

# Nearly certain, twice, and two rows that are not.
ROWS = ([0.0, -40.0, -38.5], [-1.5, 30.0, -45.0], [0.0, -3.0, 0.5], [2.0, 2.0, -60.0])
BOUNDS = {"float64": 4e-15, "float32": 2e-6}


def exactly(logits, vector):
    """Compute with sixty digits: values, gradients, F v, B u and B' v, by label."""
    with localcontext() as context:
        context.prec = 60
        x, v = [list(map(Decimal, map(float, row))) for row in (logits, vector)]
        n = range(len(x))
        weights = [term.exp() for term in x]
        total = sum(weights)
        p = [w / total for w in weights]
        q = [term.sqrt() for term in p]
        mean = sum(p[j] * v[j] for j in n)
        product = sum(q[j] * v[j] for j in n)
        return {
            "values": [float(total.ln() - x[j]) for j in n],
            "gradients": [[float(p[c] - (c == j)) for c in n] for j in n],
            "fisher": [float(p[c] * (v[c] - mean)) for c in n],
            "factor": [float(q[c] * v[c] - p[c] * product) for c in n],
            "transpose": [float(q[c] * (v[c] - mean)) for c in n],
        }


def naive_fisher(x, v):
    p = np.exp(x) / np.exp(x).sum()
    return p * v - p * (p @ v)


@pytest.mark.parametrize("dtype", BOUNDS)
def test_every_entry_keeps_its_digits(dtype, plain_library):
    library = plain_library
    x = np.asarray(ROWS, dtype=dtype)
    v = np.broadcast_to(np.asarray([0.75, -1.25, 3.5], dtype=dtype), x.shape)
    expected = [exactly(row, v[0]) for row in x]
    logits, vector = library.asarray(x), library.asarray(v)
    by_label = [
        library.to_numpy(
            CATEGORICAL.gradient(logits, library.asarray(np.full(len(x), label)))
        )
        for label in range(3)
    ]
    found = {
        "gradients": np.stack(by_label, axis=1),
        "fisher": CATEGORICAL.multiply_fisher(logits, vector),
        "factor": CATEGORICAL.multiply_fisher_factor(logits, vector),
        "transpose": CATEGORICAL.multiply_fisher_factor_transpose(logits, vector),
    }
    for name, answer in found.items():
        mine = answer if name == "gradients" else library.to_numpy(answer)
        assert mine.dtype == dtype
        wanted = [row[name] for row in expected]
        np.testing.assert_allclose(mine, wanted, rtol=BOUNDS[dtype])
    for n, label in np.ndindex(*x.shape):
        one = library.asarray(np.asarray([label]))
        value = library.to_numpy(CATEGORICAL.evaluate(logits[n : n + 1, :], one))
        np.testing.assert_allclose(
            value, expected[n]["values"][label], rtol=BOUNDS[dtype]
        )


def test_the_textbook_formula_does_not():
    x, v = np.asarray([0.0, -40.0]), np.asarray([0.75, -1.25])
    expected = exactly(x, v)["fisher"]
    assert abs(naive_fisher(x, v)[0] / expected[0] - 1) > 0.1


@pytest.mark.parametrize("dtype", BOUNDS)
def test_events_keep_their_digits(dtype, plain_library):
    library = plain_library
    logits = np.asarray([[-40.0, 40.0, 0.0, -3.0, 17.0]], dtype=dtype)
    x = [Decimal(float(term)) for term in logits[0]]
    with localcontext() as context:
        context.prec = 60
        p = [1 / (1 + (-term).exp()) for term in x]
        variances = [float(term * (1 - term)) for term in p]
        if_not, if_so = (
            [float(term) for term in p],
            [float(term - 1) for term in p],
        )
        values = [float(-term.ln()) for term in p]
    there = library.asarray(logits)
    zeros, ones = (library.asarray(f(logits)) for f in (np.zeros_like, np.ones_like))
    for answer, wanted in (
        (BERNOULLI.gradient(there, zeros), if_not),
        (BERNOULLI.gradient(there, ones), if_so),
        (BERNOULLI.multiply_fisher(there, ones), variances),
        (BERNOULLI.multiply_fisher_factor(there, ones), np.sqrt(variances)),
    ):
        mine = library.to_numpy(answer)[0]
        assert mine.dtype == dtype
        np.testing.assert_allclose(mine, wanted, rtol=BOUNDS[dtype])
    for k, wanted in enumerate(values):
        value = BERNOULLI.evaluate(there[:, k : k + 1], ones[:, k : k + 1])
        np.testing.assert_allclose(library.to_numpy(value), wanted, rtol=BOUNDS[dtype])


def test_large_logits_do_not_overflow(plain_library):
    library = plain_library
    logits = library.asarray(np.asarray([[1e4, 0.0], [-1e4, -2e4]], dtype="float32"))
    ones = library.asarray(np.ones((2, 2), dtype="float32"))
    labels = library.asarray(np.asarray([1, 0]))
    events = library.asarray(np.asarray([[0, 0], [1, 0]]))
    assert float(CATEGORICAL.evaluate(logits, labels)) == 1e4
    assert float(BERNOULLI.evaluate(logits, events)) == np.float32(2e4 + np.log(2))
    for loss, targets in ((CATEGORICAL, labels), (BERNOULLI, events)):
        for answer in (
            loss.gradient(logits, targets),
            loss.multiply_fisher(logits, ones),
            loss.multiply_fisher_factor(logits, ones),
            loss.multiply_fisher_factor_transpose(logits, ones),
        ):
            assert np.isfinite(library.to_numpy(answer)).all()


def test_a_label_without_probability_has_an_infinite_loss():
    logits = np.asarray([[0.0, -np.inf]])
    assert CATEGORICAL.evaluate(logits, np.asarray([0])) == 0
    assert CATEGORICAL.evaluate(logits, np.asarray([1])) == np.inf


def test_half_precision_is_computed_in_single(plain_library):
    library = plain_library
    x = np.asarray([[0.5, -1.25, 3.0]])
    single = library.asarray(x.astype("float32"))
    for dtype in library.half_types:
        half = library.half(x, dtype)
        labels = library.asarray(np.asarray([1]))
        value = CATEGORICAL.evaluate(half, labels)
        assert value.dtype == single.dtype
        assert float(value) == float(CATEGORICAL.evaluate(single, labels))
        gradient = CATEGORICAL.gradient(half, labels)
        assert gradient.dtype == half.dtype
        wanted = library.to_numpy(CATEGORICAL.gradient(single, labels))
        error = library.to_numpy(gradient * 256).astype("float64") - wanted * 256
        assert np.abs(error).max() <= 2**-9 * 256
        assert CATEGORICAL.multiply_fisher_factor_transpose(half, half).dtype == (
            half.dtype
        )


def test_float32_is_near_float64(rng):
    for name, case in CASES.items():
        inputs = case.inputs(rng)
        if name == "mean-variance":
            continue
        target = case.loss.sample_from(
            rng.random(case.loss.noise_shape(inputs)), inputs
        )
        g = case.loss.gradient(inputs.astype("float32"), target)
        assert g.dtype == np.float32
        assert_close(g, case.loss.gradient(inputs, target), 5e-7)
