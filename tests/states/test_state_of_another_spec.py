"""A state is read by the specs that it belongs to, and refused by all others."""

import copy
import pickle
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from state_specs import BLOCKS, FACTORS, PRODUCTS, READS, WHATEVER, G, X, block, factor

import kfac_core as kc

ALL = {**{f"factor {k}": v for k, v in FACTORS.items()}, **BLOCKS}


def reads(spec):
    return READS if isinstance(spec, kc.factors.FisherFactor) else PRODUCTS


def assert_refused(spec, state):
    for name, read in reads(spec).items():
        # What a spec does not have at all is refused as such.
        with pytest.raises(kc.KfacError, match="fc9") as caught:
            read(spec, state)
        has = not isinstance(caught.value, kc.errors.UnsupportedError)
        registered = not isinstance(caught.value, kc.errors.NotRegisteredError)
        if has and registered:
            assert isinstance(
                caught.value, (kc.errors.StateError, kc.errors.ShapeError)
            ), name


@pytest.mark.parametrize("kind", [FACTORS, BLOCKS], ids=["factors", "blocks"])
def test_no_spec_reads_the_state_of_another(kind):
    for one, other in permutations(kind.values(), 2):
        assert_refused(other, one.init(X))


@pytest.mark.parametrize("state", WHATEVER.values(), ids=WHATEVER)
@pytest.mark.parametrize("spec", ALL.values(), ids=ALL)
def test_what_is_no_state(spec, state):
    assert_refused(spec, state)


def test_the_power_that_another_spec_stored_is_not_taken_for_ones_own():
    root, inverse = FACTORS["root"], FACTORS["inverse"]
    state = root.update_inverses(root.update_cov(root.init(X), X, 0.95), 0.1)
    with pytest.raises(kc.errors.StateError, match=r"fc9.*-0\.5.*init_inverses"):
        inverse.get_inverse(state)
    moved = inverse.update_inverses(inverse.init_inverses(state), 0.1)
    expected = np.linalg.inv(X.T @ X / len(X) + 0.1 * np.eye(3))
    np.testing.assert_allclose(inverse.get_inverse(moved).to_dense(), expected)


SAME = {
    "name": {"name": "other"},
    "precision": {"precision": "default"},
    "inverse_dtype": {"inverse_dtype": "float64"},
}


@pytest.mark.parametrize("changed", SAME.values(), ids=SAME)
@pytest.mark.parametrize("spec", [factor(matpowers=(-1,)), block()], ids=["f", "b"])
def test_what_changes_no_state_shares_it(spec, changed):
    state = spec.init(X)
    other = replace(spec, **changed)
    data = (X,) if isinstance(spec, kc.factors.FisherFactor) else (X, G)
    update = getattr(other, "update_cov", None) or other.update_covs
    assert update(state, *data, ema_decay=0.5).made_by == state.made_by
    assert type(other.init(X).made_by) is type(state.made_by)


@pytest.mark.parametrize("spec", ALL.values(), ids=ALL)
def test_copies_and_pickles_are_states_of_the_same_spec(spec):
    state = spec.init(X)
    for copied in (
        copy.copy(state),
        copy.deepcopy(state),
        pickle.loads(pickle.dumps(state)),
    ):
        assert type(copied.made_by) is type(state.made_by)
        spec.init_inverses(copied)


def test_equal_specs_made_of_other_numbers_and_sequences_share_a_state():
    one = kc.factors.ConvInputKroneckerFactor(
        kc.ConvolutionGeometry((1, 3, 1, 1), padding="SAME", strides=[1, 1]),
        matpowers=(-1.0,),
    )
    other = kc.factors.ConvInputKroneckerFactor(
        kc.ConvolutionGeometry((np.int64(1), 3, 1, 1), padding="SAME", strides=(1, 1)),
        matpowers=[np.float32(-1)],
    )
    other.update_inverses(one.update_cov(one.init(X), X[None, ..., None], 0.5), 0.1)
