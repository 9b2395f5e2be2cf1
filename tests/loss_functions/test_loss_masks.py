"""Masks: padding has no effect, whatever it holds, and weights weigh."""

import numpy as np
import pytest
from loss_cases import (
    CASES,
    LEADING,
    SIZE,
    assert_close,
    joined,
    like_inputs,
    mapped,
    parts,
    targets_of,
)

from kfac_core.errors import ArgumentError, DTypeError, ShapeError

PADDED = (slice(1, 3), 1)  # of the positions


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


def verbs(loss, inputs, targets, vector, inner, mask):
    """All that a mask weighs, and whether by its root."""
    return {
        "evaluate": (loss.evaluate(inputs, targets, mask), False),
        "gradient": (loss.gradient(inputs, targets, mask), False),
        "fisher": (loss.multiply_fisher(inputs, vector, mask), False),
        "hessian": (loss.multiply_hessian(inputs, targets, vector, mask), False),
        "factor": (loss.multiply_fisher_factor(inputs, inner, mask), True),
        "transpose": (
            loss.multiply_fisher_factor_transpose(inputs, vector, mask),
            True,
        ),
        "one-hot": (
            loss.multiply_fisher_factor_replicated_one_hot(inputs, (1, 0), mask),
            True,
        ),
    }


def drawn(case, rng):
    inputs = case.inputs(rng)
    targets = targets_of(case, inputs, rng)
    vector = like_inputs(rng.standard_normal(joined(inputs).shape), inputs)
    inner = rng.standard_normal(case.loss.fisher_factor_inner_shape(inputs))
    return inputs, targets, vector, inner


def spoilt(x):
    x = np.array(x)
    x[PADDED] = -7 if x.dtype.kind == "i" else np.nan
    return x


def test_padding_has_no_effect(case, rng, plain_library):
    library = plain_library
    data = drawn(case, rng)
    mask = np.ones(LEADING, dtype=bool)
    mask[PADDED] = False
    good = verbs(case.loss, *data, mask)
    there = [mapped(lambda x: library.asarray(spoilt(x)), part) for part in data]
    found = verbs(case.loss, *there, library.asarray(mask))
    for name, (answer, _) in found.items():
        mine = mapped(library.to_numpy, answer)
        wanted = good[name][0]
        if name == "evaluate":
            assert_close(mine, wanted, 1e-14)
            continue
        assert (joined(mine)[PADDED] == 0).all()
        assert_close(joined(mine), joined(wanted), 1e-14)


def test_a_weight_is_a_multiple_of_the_loss(case, rng):
    data = drawn(case, rng)
    weights = rng.random(LEADING)
    plain = verbs(case.loss, *data, None)
    for name, (answer, root) in verbs(case.loss, *data, weights).items():
        w = np.sqrt(weights) if root else weights
        if name == "evaluate":
            inputs, targets = data[:2]
            wanted = sum(
                w[n, t]
                * case.loss.evaluate(
                    mapped(lambda x, n=n, t=t: x[n : n + 1, t : t + 1], inputs),
                    targets[n : n + 1, t : t + 1],
                )
                for n, t in np.ndindex(*LEADING)
            )
            assert_close(answer, wanted)
        else:
            assert_close(joined(answer), w[..., None] * joined(plain[name][0]))


def test_a_sample_is_evaluated_under_the_mask(case, rng):
    loss, inputs = case.loss, case.inputs(rng)
    mask = np.ones(LEADING)
    mask[PADDED] = 0
    mine = loss.evaluate_on_sample(
        np.random.default_rng(1), mapped(spoilt, inputs), mask
    )
    target = loss.sample(np.random.default_rng(1), inputs)
    assert_close(mine, loss.evaluate(inputs, target, mask))


def test_automatic_derivatives_of_padding_are_zero(case, rng, jax):
    inputs, targets, _, _ = drawn(case, rng)
    mask = np.ones(LEADING)
    mask[PADDED] = 0
    known = jax.numpy.asarray(spoilt(targets)), jax.numpy.asarray(mask)
    there = mapped(lambda x: jax.numpy.asarray(spoilt(x)), inputs)
    g = jax.grad(lambda x: case.loss.evaluate(x, *known))(there)
    assert_close(joined(g), joined(case.loss.gradient(inputs, targets, mask)), 1e-13)


def test_masks_are_checked(case, rng):
    inputs, targets, _, _ = drawn(case, rng)
    negative, unknown = -np.ones(LEADING), np.full(LEADING, np.nan)
    infinite = np.full(LEADING, np.inf)
    for mask, error, message in (
        (negative, ArgumentError, "mask has a negative weight or NaN"),
        (unknown, ArgumentError, "mask has a negative weight or NaN"),
        (infinite, ArgumentError, "or an infinite one"),
        (np.ones((*LEADING, SIZE)), ShapeError, r"mask has shape \(4, 2, 3\)"),
        (np.ones(LEADING, dtype=complex), DTypeError, "mask has dtype complex128"),
    ):
        with pytest.raises(error, match=message):
            case.loss.gradient(inputs, targets, mask)
    assert parts(inputs)[0].shape == (*LEADING, SIZE)
