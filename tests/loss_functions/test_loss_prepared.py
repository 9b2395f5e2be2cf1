"""`kfac_core.prepared` of a loss: its numbers bit for bit, and its errors."""

import numpy as np
import pytest
from loss_cases import CASES, LEADING, joined, mapped, parts, targets_of

import kfac_core as kc
from kfac_core.errors import KfacError
from kfac_core.registry import backend_of


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


def alike(found, expected):
    for one, other in zip(parts(found), parts(expected), strict=True):
        to_numpy = backend_of(other).to_numpy
        assert type(one) is type(other)
        np.testing.assert_array_equal(to_numpy(one), to_numpy(other), strict=True)


def given(case, rng, library):
    inputs = case.inputs(rng)
    targets, mask = targets_of(case, inputs, rng), rng.random(LEADING)
    noise = rng.random(case.loss.noise_shape(inputs))
    of_library = mapped(library.asarray, inputs)
    return of_library, *map(library.asarray, (targets, mask, noise))


def test_numbers_are_those_of_the_loss(case, rng, eager_library):
    half, draw = case.loss.half_gradient, case.loss.sample_from
    prepared_half, prepared_draw = kc.prepared(half), kc.prepared(draw)
    for _ in range(3):
        inputs, targets, mask, noise = given(case, rng, eager_library)
        for weights in (None, mask):
            data = inputs, targets, weights
            alike(prepared_half(*data), half(*data))
            data = noise, inputs, weights
            alike(prepared_draw(*data), draw(*data))
    assert prepared_half.forms == prepared_draw.forms == 2


def test_errors_are_those_of_the_loss(case, rng, eager_library):
    half = kc.prepared(case.loss.half_gradient)
    inputs, targets, _, _ = given(case, rng, eager_library)
    half(inputs, targets, None)
    assert half.forms == 1
    to_numpy = backend_of(targets).to_numpy
    wrong = np.array(to_numpy(targets))
    wrong[1, 0] = 9 if wrong.dtype.kind == "i" else np.nan
    spoilt = mapped(lambda x: eager_library.asarray(to_numpy(x) * np.nan), inputs)
    for data in ((inputs, eager_library.asarray(wrong)), (spoilt, targets)):
        with pytest.raises(KfacError) as expected:
            case.loss.half_gradient(*data, None)
        with pytest.raises(type(expected.value)) as found:
            half(*data, None)
        assert str(found.value) == str(expected.value)
    assert joined(mapped(to_numpy, half(inputs, targets, None))).any()
