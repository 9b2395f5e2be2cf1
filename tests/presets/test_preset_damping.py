"""Our damping that is another library's: products with the inverse are theirs."""

from dataclasses import replace

import numpy as np
import pytest
from preset_layers import N, T, drawn

from kfac_core.errors import UnsupportedError
from kfac_core.presets import CONVENTIONS, convention, convert, damping_like, layer_of

DAMPING, C = 0.3, 5.0
EVERY = [
    (name, kind)
    for name, own in CONVENTIONS.items()
    for kind in own.scalings
    if own.damping != "none" and kind != "reduce" and own.sees_gradients
]
# Libraries that add one number to factors that differ from ours by unlike ratios.
UNLIKE = [
    *(
        each
        for each in EVERY
        if each[0] in {"curvlinops", "curvlinops, sum", "mlx-kfac, sum"}
    ),
    ("curvlinops, type-2", "tokens"),  # alike for a layer that acts once
    ("curvlinops, type-2", "images"),
]
SAME = [each for each in EVERY if each not in UNLIKE]


def damped(theirs, rule, per_scale):
    """The matrix that a library inverts, by its own rule, of its own factors."""
    a, g, scale = theirs.inputs, theirs.gradients, theirs.scale
    eye_a, eye_g = np.eye(len(a)), np.eye(len(g))
    of_factors = DAMPING / scale if per_scale else DAMPING
    if rule == "exact":
        return scale * np.kron(a, g) + DAMPING * np.kron(eye_a, eye_g)
    pi, root = 1.0, of_factors
    if rule == "pi":
        ratio = (np.trace(a) / len(a)) / (np.trace(g) / len(g))
        pi, root = ratio**0.5, of_factors**0.5
    return scale * np.kron(a + pi * root * eye_a, g + root / pi * eye_g)


FORWARD = [
    (name, kind)
    for name, own in CONVENTIONS.items()
    for kind in own.scalings
    if not own.sees_gradients and kind != "reduce"
]


@pytest.mark.parametrize(("name", "kind"), [*SAME, *FORWARD])
def test_the_product_with_the_inverse_is_theirs(name, kind, rng):
    block, state, *_ = drawn(kind, rng, forward_only=(name, kind) in FORWARD)
    own = convention(name)
    theirs = convert(block, state, to=name, num_cases=N, num_outputs=C)
    if own.channels_first and kind == "images":
        # In our order of patches: a permutation commutes with every rule.
        theirs = replace(
            theirs, inputs=theirs._reordered(theirs.inputs, to_channels=False)
        )
    positions = 1 if kind == "linear" else T
    counts = {"num_cases": N, "positions": positions, "num_outputs": C}
    ours = damping_like(name, DAMPING, layer_of(block), **counts)
    if (name, kind) in FORWARD:
        assert ours.damping_type == "exact"
        layer = block.block
    else:
        layer = block = replace(block, damping_type=ours.damping_type)
    state = block.update_inverses(block.init_inverses(state), ours.damping)
    shape = getattr(layer, "geometry", None)
    shape = (4, 3) if shape is None else shape.filter_shape
    vector = rng.normal(size=shape)
    found = block.multiply_inverse(state, vector) * ours.factor
    wanted = np.linalg.solve(damped(theirs, own.damping, own.per_scale), vector.ravel())
    np.testing.assert_allclose(found.ravel(), wanted, rtol=1e-9)


@pytest.mark.parametrize(("name", "kind"), UNLIKE)
def test_one_number_for_factors_of_another_ratio_is_not_ours(name, kind, rng):
    block, *_ = drawn(kind, rng)
    counts = {"num_cases": N, "positions": 1 if kind == "linear" else T}
    with pytest.raises(UnsupportedError, match="adds one number to both"):
        damping_like(name, DAMPING, layer_of(block), num_outputs=C, **counts)


def test_gradients_that_one_side_has_not_seen_are_refused(rng):
    counts = {"num_cases": N, "positions": T}
    for forward_only, name in ((True, "kronfluence"), (False, FORWARD[-1][0])):
        block, *_ = drawn("tokens", rng, forward_only=forward_only)
        with pytest.raises(UnsupportedError, match="sees gradients and"):
            damping_like(name, DAMPING, layer_of(block), **counts)
    block, *_ = drawn("tokens", rng, forward_only=True)
    with pytest.raises(UnsupportedError, match="pi of curvlinops, forward-only"):
        damping_like(FORWARD[-1][0], 0.1, layer_of(block), rule="pi", **counts)


def test_a_library_without_a_rule_is_refused(rng):
    block, *_ = drawn("linear", rng)
    with pytest.raises(UnsupportedError, match="not damped by a rule"):
        damping_like("singd", 0.1, layer_of(block), num_cases=N)
