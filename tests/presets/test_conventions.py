"""Every convention, against the table of what was measured."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from preset_layers import OUT, N, T, drawn, raw, rows_of, sums

import kfac_core as kc
from kfac_core.errors import ArgumentError, UnsupportedError
from kfac_core.presets import CONVENTIONS, convention, convert, layer_of

ROOT = 2**0.5
C = 5.0

# What each library has, as a multiple of what this one has: A, G and the whole block.
MEASURED = {
    ("curvlinops", "linear"): (1, C, C),
    ("curvlinops", "tokens"): (1, C * T, C),
    ("curvlinops", "images"): (1, C * T, C),
    ("curvlinops, sum", "linear"): (1, N * C**2, N * C**2),
    ("curvlinops, sum", "tokens"): (1, N * C**2 * T, N * C**2),
    ("curvlinops, sum", "images"): (1, N * C**2 * T, N * C**2),
    ("curvlinops, type-2", "linear"): (1, 1, 1),
    ("curvlinops, type-2", "tokens"): (1, T, 1),
    ("curvlinops, type-2", "images"): (1, T, 1),
    ("curvlinops", "reduce"): (1, C, C),
    ("curvlinops, sum", "reduce"): (1, N * C**2, N * C**2),
    ("curvlinops, type-2", "reduce"): (1, 1, 1),
    ("nngeometry, FIM", "linear"): (C**0.5, C**-0.5, 1),
    ("nngeometry, FIM", "images"): (T * C**0.5, C**-0.5, 1),
    ("nngeometry, repository", "tokens"): (T * C**0.5, T * C**-0.5, T),
    ("nngeometry", "linear"): (1, 1, 1),
    ("nngeometry", "images"): (T, 1, 1),
    ("kronfluence, mean", "linear"): (1, N**-2, N**-2),
    ("kronfluence, mean", "tokens"): (1, N**-2, N**-2 / T),
    ("kronfluence, mean", "images"): (1, N**-2, N**-2 / T),
    ("kronfluence", "linear"): (1, C**2, C**2),
    ("kronfluence", "tokens"): (1, C**2, C**2 / T),
    ("kronfluence", "images"): (1, C**2, C**2 / T),
    ("dattri", "linear"): (1, 1, 1),
    ("singd", "linear"): (1, 1, 1),
    ("singd", "tokens"): (1, T, 1),
    ("singd", "images"): (1, T, 1),
    ("singd, sequence", "linear"): (1, 1, 1),
    ("singd, none", "linear"): (1, 1 / N, 1 / N),
    ("singd, sequence", "tokens"): (1, T**2, T),
    ("singd, sequence", "images"): (1, T**2, T),
    ("singd, none", "tokens"): (1, T / N, 1 / N),
    ("singd, none", "images"): (1, T / N, 1 / N),
    ("asdl", "linear"): (1, C**2, C**2),
    ("asdl", "tokens"): (T, C**2 * T, C**2 * T),
    ("asdl", "images"): (1, C**2 * T, C**2),
    ("laplace-torch", "linear"): (1 / ROOT, N * C**2 / ROOT, N * C**2 / 2),
    ("laplace-torch", "tokens"): (1 / ROOT, N * C**2 * T / ROOT, N * C**2 / 2),
    ("laplace-torch", "images"): (1 / ROOT, N * C**2 * T / ROOT, N * C**2 / 2),
    ("laplace-torch, GGN", "linear"): (1 / ROOT, ROOT * N, N),
    ("laplace-torch, GGN", "tokens"): (1 / ROOT, ROOT * N * T, N),
    ("laplace-torch, GGN", "images"): (1 / ROOT, ROOT * N * T, N),
    ("laplace-torch, asdl", "tokens"): (
        T / ROOT,
        N * C**2 * T / ROOT,
        N * C**2 * T / 2,
    ),
    ("backpack", "linear"): (1, 1, 1),
    ("backpack", "images"): (T, T, T),
    ("kfac-jax", "linear"): (1, 1 / N, 1 / N),
    ("kfac-jax", "tokens"): (T, T / N, 1 / N),
    ("kfac-jax", "images"): (1, 1 / N, 1 / N),
    ("mlx-kfac", "linear"): (1, 1, 1),
    ("mlx-kfac", "tokens"): (1, 1, 1),
    ("mlx-kfac", "images"): (1, 1, 1),
    ("mlx-kfac, sum", "linear"): (1, N**-2, N**-2),
    ("mlx-kfac, sum", "tokens"): (1, N**-2, N**-2),
    ("mlx-kfac, sum", "images"): (1, N**-2, N**-2),
    ("approxngd", "linear"): (1, 1, 1),
    ("approxngd", "tokens"): (1, 1, 1 / T),
    ("approxngd", "images"): (1, N**-2, N**-2),
    ("kfac-pytorch", "linear"): (1, N**-2, N**-2),
    ("kfac-pytorch", "tokens"): (1, N**-2, N**-2 / T),
    ("kfac-pytorch", "images"): (T**-2, N**-2 / T**2, N**-2 / T**5),
    ("alecwangcq", "linear"): (1, 1, 1),
    ("alecwangcq", "images"): (1 / T, T**2, 1),
    ("lzhangbv", "linear"): (1, 1, 1),
    ("lzhangbv", "images"): (1 / T, T**2, 1),
    ("lzhangbv", "reduce"): (1, T**-2, T**-2),
    ("Thrandis", "linear"): (1, 1, 1),
    ("Thrandis", "images"): (1, 1, 1),
    ("KFC paper", "linear"): (1, 1, 1),
    ("tf.contrib.kfac", "linear"): (1, 1, 1),
    ("KFC paper", "images"): (T, 1, 1),
    ("tf.contrib.kfac", "tokens"): (1, 1, 1),
    ("tf.contrib.kfac", "images"): (1, 1, 1),
}
KINDS = ("linear", "tokens", "images", "reduce")
EVERY = [(name, kind) for name, own in CONVENTIONS.items() for kind in own.scalings]
FORWARD = [name for name, own in CONVENTIONS.items() if not own.sees_gradients]
"""Conventions whose ``G`` is the identity."""


def converted(kind, rng, name, has_bias=False):
    block, state, *data = drawn(kind, rng, has_bias)
    return convert(block, state, to=name, **counts_of(kind)), data


def counts_of(kind):
    """The numbers that a conversion of a layer is given."""
    positions = {"num_positions": T} if kind == "reduce" else {}
    return {"num_cases": N, "num_outputs": C, **positions}


def close(found, wanted, precision=1e-12):
    atol = precision * np.abs(wanted).max()
    np.testing.assert_allclose(found, wanted, rtol=0, atol=atol)


@pytest.mark.parametrize(("name", "kind"), MEASURED)
def test_multiples_of_ours_are_those_measured(name, kind, rng):
    block, state, *_ = drawn(kind, rng)
    ours, theirs = (
        convert(block, state, to=each, **counts_of(kind))
        for each in ("kfac_core", name)
    )
    of_a, of_g, of_block = MEASURED[name, kind]
    close(np.trace(theirs.inputs), of_a * np.trace(ours.inputs))
    close(np.trace(theirs.gradients), of_g * np.trace(ours.gradients))
    close(np.trace(theirs.dense()), of_block * np.trace(ours.dense()))


@pytest.mark.parametrize(("name", "kind"), EVERY)
def test_factors_are_the_sums_times_their_numbers(name, kind, rng):
    theirs, (rows, g) = converted(kind, rng, name)
    own, (a, b) = convention(name), sums(kind, rows, g)
    if kind == "images" and own.channels_first:
        order = np.arange(4).reshape(2, 2).T.ravel()
        a = a[np.ix_(order, order)]
    counts = (N, 1 if kind == "linear" else T, C)
    close(theirs.inputs, a * own.scalings[kind].inputs(*counts))
    number = own.scalings[kind].gradients
    close(theirs.gradients, np.eye(OUT) if name in FORWARD else b * number(*counts))


@given(
    kind=st.sampled_from(KINDS),
    first=st.sampled_from([*CONVENTIONS]),
    second=st.sampled_from([*CONVENTIONS]),
    seed=st.integers(0, 2**32 - 1),
    has_bias=st.booleans(),
)
def test_there_and_back_between_any_two(kind, first, second, seed, has_bias):
    own, other = CONVENTIONS[first], CONVENTIONS[second]
    has_bias = has_bias and own.bias == other.bias == "joint"
    if kind not in own.scalings or kind not in other.scalings:
        return
    rng = np.random.default_rng(seed)
    before, _ = converted(kind, rng, first, has_bias)
    if second in FORWARD and first not in FORWARD:
        with pytest.raises(UnsupportedError, match="keeps no gradients"):
            before.to(second).to(first)
        return
    if first in FORWARD and second not in FORWARD:
        with pytest.raises(UnsupportedError, match="keeps no gradients"):
            before.to(second)
        return
    after = before.to(second).to(first)
    for part in ("inputs", "gradients", "scale"):
        close(getattr(after, part), getattr(before, part))


@pytest.mark.parametrize("kind", ["linear", "tokens", "images"])
def test_forward_only_is_the_inputs_and_the_identity(kind, rng):
    block, state, rows, _ = drawn(kind, rng, has_bias=True, forward_only=True)
    first, second = (
        convert(block, state, to=name, num_cases=N, num_outputs=C) for name in FORWARD
    )
    a, _ = sums(kind, rows, rows)
    positions = 1 if kind == "linear" else T
    close(first.inputs, a / (N * positions))
    for own, scale in ((first, positions), (second, 1)):
        close(np.trace(own.inputs), np.trace(a) / (N * positions))
        close(own.gradients, np.eye(OUT))
        close(own.scale, scale)
    close(first.dense(), block.full_fisher_block(state))
    close(second.to("kfac_core, forward-only").inputs, first.inputs)
    with pytest.raises(UnsupportedError, match="keeps no gradients, expected by sin"):
        convert(block, state, to="singd", num_cases=N)


WEIGHTS = {"linear": (N,), "tokens": (N, T), "images": (N, T, 1), "reduce": (N,)}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("forward_only", [False, True])
def test_rows_that_do_not_count_are_as_if_they_were_not_there(kind, forward_only, rng):
    if forward_only and kind == "reduce":
        return
    weights = (rng.uniform(size=WEIGHTS[kind]) < 0.6) * 1.0
    block, *_ = drawn(kind, rng, has_bias=True, forward_only=forward_only)
    x, g = raw(kind, rng)
    given = (x,) if forward_only else (x, N * g)
    state = block.update_covs(
        block.init(like=x), *given, ema_decay=0.0, weights=weights, num_cases=float(N)
    )
    own = "kfac_core, forward-only" if forward_only else "kfac_core"
    ours = convert(block, state, to=own, **counts_of(kind))
    close(ours.dense(), block.full_fisher_block(state))
    rows = rows_of(kind, x, True)
    each = np.broadcast_to(weights.reshape(N, -1), rows.shape[:2])[..., None] ** 0.5
    a, b = sums(kind, rows * each, g.reshape(N, -1, OUT) * each)
    positions = weights.sum() / N if kind in {"tokens", "images"} else 1
    close(ours.inputs, a / (N * positions))
    if not forward_only:
        mean = each.mean() if kind == "reduce" else 1
        close(ours.gradients * mean, b * N / positions)
        theirs = ours.to("curvlinops")
        close(theirs.gradients * mean, b * N * C)


def test_the_order_of_patches_matters_and_the_bias_stays_last(rng):
    ours, (rows, g) = converted("images", rng, "tf.contrib.kfac", has_bias=True)
    theirs = ours.to("singd")
    by_channel = np.concatenate([rows[..., :4:2], rows[..., 1:4:2], rows[..., 4:]], -1)
    wanted, _ = sums("images", by_channel, g)
    close(theirs.inputs, wanted / (N * T))
    assert np.abs(theirs.inputs - ours.inputs).max() > 0.1


def test_a_bias_of_its_own_is_not_in_the_inputs(rng):
    ours, _ = converted("linear", rng, "kfac_core", has_bias=True)
    theirs = ours.to("asdl")
    close(theirs.inputs, ours.inputs[:-1, :-1])
    with pytest.raises(UnsupportedError, match="keeps no mean input"):
        theirs.to("kfac_core")


def by_hand(kind):
    """The factors of a mean squared error over ``N T`` outputs 3 wide, and its GGN."""
    x = np.asarray([[[1.0], [3.0]], [[-1.0], [5.0]]])
    sources = [np.zeros((2, 2, 3)) for _ in range(6)]
    for source, (t, k) in zip(sources, np.ndindex(2, 3), strict=True):
        source[:, t, k] = (2 / 6) ** 0.5  # the Hessian of a case's mean is 2/6
    block = kc.blocks.FullyConnectedMultiIndepFB(1, 3, batch_first=True)
    block = kc.blocks.KFACReduceFB(block) if kind == "reduce" else block
    towers = tuple((source,) for source in sources)
    state = block.update_covs(block.init(like=x), x, towers, ema_decay=0.0)
    return convert(block, state, to="curvlinops, type-2", num_cases=2, num_outputs=6)


# Of inputs 1, 3 and -1, 5 the mean square is 9; that of their means, 2 and 2, is 4.
@pytest.mark.parametrize(("kind", "mean"), [("tokens", 9), ("reduce", 4)])
def test_curvature_of_type_two_is_that_computed_by_hand(kind, mean):
    theirs = by_hand(kind)
    close(theirs.inputs, np.asarray([[mean]]))
    close(theirs.gradients, 2 / 3 * np.eye(3))  # 2/6 at each of two positions


def test_blocks_are_in_the_order_of_the_weights(rng):
    ours, _ = converted("linear", rng, "kfac_core")
    close(ours.dense(), np.kron(ours.inputs, ours.gradients))
    theirs = ours.to("curvlinops")
    close(theirs.dense(), np.kron(theirs.gradients, theirs.inputs))


def test_every_library_converts_the_same(plain_library, rng):
    block, state, *_ = drawn("images", rng, has_bias=True)
    moved = plain_library.moved(state)
    options = {"to": "kronfluence", "num_cases": N, "num_outputs": C}
    theirs, wanted = (convert(block, each, **options) for each in (moved, state))
    close(plain_library.to_numpy(theirs.inputs), wanted.inputs)
    close(plain_library.to_numpy(theirs.gradients), wanted.gradients)
    close(plain_library.to_numpy(theirs.dense()), wanted.dense())


def test_what_a_library_refuses_is_refused(rng):
    with pytest.raises(UnsupportedError, match=r"dattri has no factors.*'tokens'"):
        converted("tokens", rng, "dattri")
    diagonal = kc.blocks.FullyConnectedDiagonalFB(2, 2)
    with pytest.raises(UnsupportedError, match="DiagonalFB, expected"):
        convert(diagonal, diagonal.init(np.zeros(1)), to="asdl", num_cases=1)
    series = kc.blocks.FullyConnectedSeriesFB(3, 2)  # no multiple of kron(A, G)
    with pytest.raises(UnsupportedError, match="SeriesFB, expected"):
        layer_of(series)
    block, state, *_ = drawn("linear", rng)
    for bad in ("nobody", None, 3):
        with pytest.raises(ArgumentError, match=r"convention is .*expected one of"):
            convert(block, state, to=bad, num_cases=N)
    for options in ({"num_cases": 0}, {"num_cases": N, "num_outputs": -1}):
        with pytest.raises(ArgumentError, match="expected more than zero"):
            convert(block, state, to="singd", **options)
    with pytest.raises(kc.errors.NotComputedError):
        convert(block, block.init(np.zeros(1)), to="singd", num_cases=N)


def test_the_positions_of_a_pooled_layer_are_asked_for_where_they_count(rng):
    block, state, *_ = drawn("reduce", rng)
    other, its_state, *_ = drawn("tokens", rng)
    plain = convert(block, state, to="curvlinops", num_cases=N)  # does not divide by T
    for wrong in (plain.to, lambda to: convert(block, state, to=to, num_cases=N)):
        with pytest.raises(ArgumentError, match="positions of a case is not given"):
            wrong("lzhangbv")
    with pytest.raises(ArgumentError, match="expected none: only a pooled layer"):
        convert(other, its_state, to="singd", num_cases=N, num_positions=T)
    with pytest.raises(ArgumentError, match="num_positions is -1"):
        convert(block, state, to="lzhangbv", num_cases=N, num_positions=-1)
    with pytest.raises(ArgumentError, match=r"positions is None.*N/T\^2"):
        convention("lzhangbv").scalings["reduce"].gradients(N, None, C)


def test_every_row_is_measured():
    own = {"kfac_core", *FORWARD}  # ours, and what sees no gradients
    assert set(MEASURED) == {each for each in EVERY if each[0] not in own}


def test_no_output_is_lost():
    assert {kind for _, kind in EVERY} == set(KINDS)
    assert OUT != T != N
