"""Blocks of unequal sizes are inverted together, padded, as each would be alone."""

from types import SimpleNamespace

import numpy as np
import pytest
from estimator_cases import leaves

import kfac_core as kc
from kfac_core import tree
from kfac_core.errors import NotComputedError
from kfac_core.estimator.batching import together, update_together
from kfac_core.estimator.padding import _padded, padded_inverses, range_of
from kfac_core.moving_average import MovingAverage

FC = kc.blocks.FullyConnectedKFACBasicFB
GEOMETRY = kc.ConvolutionGeometry((1, 2, 3, 7), padding="SAME")


def blocks_of(**options):
    """Return a layer with a bias, one without, and a convolution: of unequal sizes."""
    return [
        FC(6, 8, has_bias=True, name="a", **options),
        FC(8, 7, layout="out_in", name="b", **options),
        kc.blocks.ConvKFCBasicFB(GEOMETRY, has_bias=True, name="c", **options),
    ]


def groups_of(*blocks):
    layers = [SimpleNamespace(name=block.name, block=block) for block in blocks]
    return together(layers)


def states_of(rng, blocks):
    """Return states of NumPy, from statistics of their own, some with weights."""
    shapes = {
        "a": ((9, 6), (9, 8)),
        "b": ((9, 8), (9, 7)),
        "c": ((9, 2, 3, 3), (9, 2, 3, 7)),
    }
    states = []
    for block in blocks:
        x, g = (rng.standard_normal(shape) for shape in shapes[block.name])
        weights = np.linspace(0.5, 2, 9) if block.name == "a" else None
        state = block.update_covs(block.init(like=x), x, g, 0.9, weights=weights)
        states.append(state)
    return states


def assert_alike(to_numpy, new, alone):
    assert type(new) is type(alone)
    for x, y in zip(leaves(new), leaves(alone), strict=True):
        np.testing.assert_allclose(to_numpy(x), to_numpy(y), rtol=1e-10, atol=1e-11)


def together_and_alone(blocks, dampings):
    """Return both functions of states."""
    (group,) = groups_of(*blocks)
    assert group.splitting.sizes == (8, 8)

    def alone(states):
        triples = zip(blocks, states, dampings, strict=True)
        return [block.update_inverses(own, damping) for block, own, damping in triples]

    return (
        lambda states: padded_inverses(blocks, states, dampings, group.splitting),
        alone,
    )


def test_padded_is_as_alone(library, rng):
    blocks = blocks_of()
    assert [range_of(block).least for block in blocks] == [(7, 8), (8, 7), (7, 7)]
    states = [library.moved(state) for state in states_of(rng, blocks)]
    both = map(library.compiled, together_and_alone(blocks, [0.1, 0.2, 0.3]))
    for x, y in zip(*(update(states) for update in both), strict=True):
        assert_alike(library.to_numpy, x, y)


@pytest.mark.parametrize("damping_type", ["constant", "off"])
def test_padded_is_as_alone_however_damping_is_split(rng, damping_type):
    blocks = blocks_of(damping_type=damping_type)
    states = states_of(rng, blocks)
    both = together_and_alone(blocks, [0.1, 0.2, 0.3])
    for x, y in zip(*(update(states) for update in both), strict=True):
        assert_alike(np.asarray, x, y)


def test_no_other_number_than_the_mean_may_stand_beside(rng):
    x = rng.standard_normal((9, 3))
    small, large = FC(3, 4), FC(4, 4)
    state = small.update_covs(small.init(like=x), x, x @ np.ones((3, 4)), 0.9)
    alone = small.update_inverses(state, 0.1).input_factor.derived.matpowers[0]
    cov = state.input_factor.cov
    mean = np.trace(cov.total) / 3
    for beside, is_exact in ((mean, True), (0.0, False), (2 * mean, False)):
        total = np.pad(cov.total, (0, 1))
        total[3, 3] = beside
        padded = large.init(like=x)
        factor = padded.input_factor._replace(cov=cov._replace(total=total))
        padded = padded._replace(input_factor=factor, output_factor=state.output_factor)
        found = large.update_inverses(padded, 0.1).input_factor.derived.matpowers[0]
        assert np.allclose(found[:3, :3], alone, rtol=1e-12, atol=0) == is_exact


@pytest.mark.parametrize(
    "others",
    [
        {"size": 47},  # less than three quarters
        {"size": 65},  # large enough to be alone
        {"size": 60, "matpowers": (-1.0, -0.5)},
        {"size": 60, "cholesky": True},
        {"size": 60, "inverse_dtype": "float64"},
        {"size": 60, "damping_type": "off"},
        {"size": 60, "newton_steps": 1},
        {"size": 60, "diagonal_approx_for_input": True},
    ],
    ids=str,
)
def test_what_differs_by_more_is_in_a_group_of_its_own(others):
    size = others["size"]
    options = {key: value for key, value in others.items() if key != "size"}
    first, second = FC(64, 64, name="x"), FC(size, 64, name="y", **options)
    assert len(groups_of(first, second)) == 2
    assert len(groups_of(first, FC(60, 64, name="y"))) == 1


def test_groups_do_not_depend_on_the_order_of_layers():
    blocks = [FC(n, m, name=f"l{n}") for n, m in ((40, 40), (50, 50), (60, 60), (9, 9))]
    found = [
        {(frozenset(group.names), group.splitting) for group in groups_of(*order)}
        for order in (blocks, blocks[::-1])
    ]
    assert found[0] == found[1]
    assert {names for names, _ in found[0]} == {
        frozenset({"l60", "l50"}),
        frozenset({"l40"}),
        frozenset({"l9"}),
    }


def test_blocks_that_compute_otherwise_are_not_padded():
    assert range_of(FC(3, 4)) is not None
    for block in (
        FC(3, 4, damping_type="exact"),
        kc.blocks.FullyConnectedDiagonalFB(3, 4),
        kc.blocks.FullyConnectedSeriesFB(3, 4, num_uses=2),
    ):
        assert range_of(block) is None


def test_a_failure_is_told_of_the_layer_that_failed(rng):
    blocks = blocks_of()
    states = states_of(rng, blocks)
    states[1] = blocks[1].init(like=np.zeros(1))
    with pytest.raises(NotComputedError, match="b"):
        update_together(blocks, states, 0.1, groups_of(*blocks)[0].splitting)


def test_under_jit_what_is_refused_keeps_what_was_computed(jax, rng):
    blocks = blocks_of()[:2]
    numpys = states_of(rng, blocks)
    for i, block in enumerate(blocks):
        numpys[i] = block.update_inverses(numpys[i], 0.5)
    states = tree.map(jax.numpy.asarray, tuple(numpys))
    wrong = states[1].input_factor
    cov = wrong.cov._replace(total=wrong.cov.total.at[0, 0].set(-1e3))
    wrong = states[1]._replace(input_factor=wrong._replace(cov=cov))
    states = (states[0], wrong)
    (group,) = groups_of(*blocks)
    update = jax.jit(lambda s: update_together(blocks, s, 0.1, group.splitting))
    new = update(states)
    alone = blocks[0].update_inverses(numpys[0], 0.1)
    for x, y in zip(leaves(new[0]), leaves(alone), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-10, atol=1e-11)
    assert not new[1].ok
    for name in ("input_factor", "output_factor"):
        x, y = (getattr(s[1], name).derived for s in (new, states))
        np.testing.assert_array_equal(x.matpowers[0], y.matpowers[0])


def test_padded_inverses_are_mapped(torch, rng):
    blocks = blocks_of()[:2]
    update, alone = together_and_alone(blocks, [0.1, 0.2])
    several = [tree.map(torch.from_numpy, tuple(states_of(rng, blocks))) for _ in "ab"]
    stack = tree.stack(kc.backend_of(several[0][0].scale), several)
    mapped = torch.func.vmap(lambda states: tuple(update(states)))(stack)
    for x, y in zip(tree.members(mapped)[1], alone(several[1]), strict=True):
        assert_alike(np.asarray, x, y)


def test_a_compiler_traces_the_padding(torch, rng):
    averages = [
        MovingAverage(torch.from_numpy(rng.standard_normal((n, n))), torch.tensor(2.0))
        for n in (3, 4)
    ]
    root = torch.ones(2, dtype=torch.float64)

    def stack(averages, root):
        return _padded(kc.backend_of(root), averages, 4, root)

    found = torch.compile(stack, backend="eager", fullgraph=True)(averages, root)
    for x, y in zip(found, stack(averages, root), strict=True):
        np.testing.assert_array_equal(x, y)
