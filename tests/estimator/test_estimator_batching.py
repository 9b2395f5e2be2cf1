"""Equal blocks are inverted together, as each would be alone."""

import numpy as np
import pytest
from estimator_cases import CATEGORICAL, leaves

from kfac_core.errors import NotComputedError, NotPositiveDefiniteError
from kfac_core.estimator import FisherEstimator
from kfac_core.estimator.batching import Group, batches, update_together
from kfac_core.fisher_blocks import FullyConnectedKFACBasicFB
from kfac_core.reference import Dense, Sequential, SequentialModel, Tanh
from kfac_core.registry import backend_of

MODEL = SequentialModel(
    Sequential((Dense(4, 4), Tanh(), Dense(4, 4), Tanh(), Dense(4, 4), Dense(4, 3)))
)
ESTIMATOR = FisherEstimator(
    MODEL.layer_collection(CATEGORICAL),
    matpowers=(-1.0, -0.5),
    compute_cholesky_inverse=True,
)
EQUAL, OTHER = ESTIMATOR.alike


def states_of(library, rng, rows=8):
    """Return the blocks and a state of each, from statistics of their own."""
    states = {}
    for name, block in ESTIMATOR.blocks.items():
        sizes = (block.input_size, block.output_size)
        x, g = (library.asarray(rng.standard_normal((rows, n))) for n in sizes)
        states[name] = block.update_covs(block.init(like=x), x, g, 0.9)
    return states


def estimator_state(library, states):
    params = {
        name: library.asarray(np.zeros(shape))
        for name, shape in ESTIMATOR.layer_collection.variables
    }
    return ESTIMATOR.init(params)._replace(blocks=states)


def test_equal_blocks_are_found_whatever_their_names():
    assert len(EQUAL) == 3
    assert len(OTHER) == 1
    assert {*EQUAL, *OTHER} == set(ESTIMATOR.blocks)


def test_together_copies_no_statistics(library, rng):
    states = states_of(library, rng)
    blocks = [ESTIMATOR.blocks[name] for name in EQUAL]
    together = update_together(blocks, [states[name] for name in EQUAL], 0.1)
    for name, new in zip(EQUAL, together, strict=True):
        assert new.input_factor.cov.total is states[name].input_factor.cov.total
        assert new.output_factor.cov.weight is states[name].output_factor.cov.weight


def test_together_is_as_alone(library, rng):
    states = states_of(library, rng)
    blocks = [ESTIMATOR.blocks[name] for name in EQUAL]
    together = update_together(blocks, [states[name] for name in EQUAL], 0.1)
    for name, new in zip(EQUAL, together, strict=True):
        alone = ESTIMATOR.blocks[name].update_inverses(states[name], 0.1)
        assert type(new) is type(alone)
        for x, y in zip(leaves(new), leaves(alone), strict=True):
            np.testing.assert_allclose(
                library.to_numpy(x), library.to_numpy(y), rtol=1e-10, atol=1e-12
            )


def test_the_estimator_inverts_all_layers_or_some(library, rng):
    state = estimator_state(library, states_of(library, rng))
    new = ESTIMATOR.update_inverses(state, 0.1, layers=EQUAL[:2] + OTHER)
    computed = {
        name: bool(of_layer.input_factor.computed)
        for name, of_layer in new.blocks.items()
    }
    assert computed == {name: name != EQUAL[2] for name in ESTIMATOR.blocks}


def test_what_differs_in_dtype_is_not_stacked(torch, rng):
    states = dict.fromkeys(EQUAL)
    for name, dtype in zip(EQUAL, ("float32", "float64", "float32"), strict=True):
        block = ESTIMATOR.blocks[name]
        like = torch.zeros(1, dtype=getattr(torch, dtype))
        states[name] = block.init(like=like)
    parts = batches(
        Group(tuple(EQUAL), None), EQUAL, ESTIMATOR.blocks, states, fewest=2
    )
    assert parts == [[EQUAL[0], EQUAL[2]], [EQUAL[1]]]


def test_large_matrices_are_not_stacked_on_the_processor(torch):
    small, large = torch.zeros((8, 8)), torch.zeros((512, 512))
    assert backend_of(small).batches(small)
    assert not backend_of(large).batches(large)


def test_a_failure_is_told_of_the_layer_that_failed(plain_library, rng):
    good, name = states_of(plain_library, rng), EQUAL[1]
    block = ESTIMATOR.blocks[name]
    fresh = {**good, name: block.init(like=plain_library.asarray(np.zeros(1)))}
    with pytest.raises(NotComputedError, match=name):
        ESTIMATOR.update_inverses(estimator_state(plain_library, fresh), 0.1)
    # Two rows have no full rank, and there is no damping.
    low = {**good, name: states_of(plain_library, rng, rows=2)[name]}
    state = estimator_state(plain_library, low)
    with pytest.raises(NotPositiveDefiniteError, match=name):
        ESTIMATOR.update_inverses(state, 0.0)


def test_a_failure_is_named_where_a_stack_is_gone_through_one_by_one(torch, rng):
    # A stack of diagonals so long is not mapped, though each is no matrix.
    blocks = [
        FullyConnectedKFACBasicFB(
            100,
            100,
            diagonal_approx_for_input=True,
            diagonal_approx_for_output=True,
            name=f"layer_{i}",
        )
        for i in range(2)
    ]
    x = torch.from_numpy(rng.standard_normal((9, 100)))
    states = [block.init(like=x) for block in blocks]
    states[0] = blocks[0].update_covs(states[0], x, x, 0.9)
    with pytest.raises(NotComputedError, match="layer_1"):
        update_together(blocks, states, 0.1)


def test_a_state_of_a_stack_has_memory_of_its_own(torch, rng):
    blocks = [ESTIMATOR.blocks[name] for name in EQUAL]
    x = torch.from_numpy(rng.standard_normal((8, 4)))
    states = [block.update_covs(block.init(like=x), x, x, 0.9) for block in blocks]
    new, *_ = update_together(blocks, states, 0.1)
    for x in leaves(new):
        assert x.untyped_storage().nbytes() == x.nbytes
