"""What optax puts around a transformation: chains, schedules, partitions, skips."""

import jax_models
import numpy as np
import pytest
from jax_truth import relative

import kfac_core as kc

pytest.importorskip("jax")
SOFTMAX = kc.losses.CategoricalLogitsNegativeLogProbLoss()
X = jax_models.numbers(8, 5)
PARAMS = {
    "w": jax_models.numbers(5, 4),
    "b": jax_models.numbers(4),
    "v": jax_models.numbers(4, 3),
}
pytestmark = pytest.mark.filterwarnings("default")


def network(p, x):
    import jax

    return jax.numpy.tanh(x @ p["w"] + p["b"]) @ p["v"]


def transformed(jax, function, params, inputs):
    from kfac_adapters.jax import capture, kfac

    captured = capture(function, params, *inputs, loss=SOFTMAX, verify=False)
    return kfac(captured, damping=0.1, invert_every=1)


def updates(jax, transformation, params, inputs, steps=1):
    """Return the updates of the parameters themselves, as if gradients."""

    @jax.jit
    def run(params):
        state = transformation.init(params)
        for _ in range(steps):
            found, state = transformation.update(
                params, state, params, inputs=inputs, key=jax.random.key(0)
            )
        return found

    return run(params)


def around(optax, kfac):
    """Return what leaves the updates as they are, and how many steps it takes."""
    return {
        "chain": (optax.chain(optax.clip_by_global_norm(1e9), kfac), 1),
        "schedule": (optax.chain(kfac, optax.scale_by_schedule(lambda t: 1.0)), 1),
        "MultiSteps": (optax.MultiSteps(kfac, 2), 2),
        "apply_if_finite": (optax.apply_if_finite(kfac, 3), 1),
        "masked": (optax.masked(kfac, dict.fromkeys(PARAMS, True)), 1),
        "inject_hyperparams": (
            optax.inject_hyperparams(lambda rate: optax.chain(kfac, optax.scale(rate)))(
                rate=1.0
            ),
            1,
        ),
    }


@pytest.mark.parametrize(
    "name",
    [
        "chain",
        "schedule",
        "MultiSteps",
        "apply_if_finite",
        "masked",
        "inject_hyperparams",
    ],
)
def test_what_optax_puts_around_passes_all_arguments(jax, name):
    optax = pytest.importorskip("optax")
    own = transformed(jax, network, PARAMS, (X,))
    transformation, steps = around(optax, own)[name]
    found = updates(jax, transformation, PARAMS, (X,), steps)
    expected = updates(jax, own, PARAMS, (X,))
    for leaf in PARAMS:
        assert relative(found[leaf], expected[leaf]) < 1e-6


def test_a_partition_has_the_curvature_of_a_function_of_its_own_leaves(jax):
    optax = pytest.importorskip("optax")
    own = {n: PARAMS[n] for n in "wb"}
    rest = {"v": PARAMS["v"]}

    def function(own, rest, x):
        return network({**own, **rest}, x)

    alone = transformed(jax, function, own, (rest, X))
    labels = {"w": "kfac", "b": "kfac", "v": "sgd"}
    both = optax.partition({"kfac": alone, "sgd": optax.sgd(1.0)}, labels)
    found = updates(jax, both, PARAMS, (rest, X))
    expected = updates(jax, alone, own, (rest, X))
    for leaf in own:
        assert relative(found[leaf], expected[leaf]) < 1e-10
    np.testing.assert_allclose(found["v"], -PARAMS["v"])


def test_a_partition_of_a_function_of_all_leaves_is_told_what_to_do(jax):
    own = transformed(jax, network, PARAMS, (X,))
    with pytest.raises(kc.errors.ArgumentError, match=r"partition.*function of those"):
        own.init({n: PARAMS[n] for n in "wb"})


def test_whoever_passes_no_arguments_is_told_what_to_do(jax):
    own = transformed(jax, network, PARAMS, (X,))
    state = own.init(PARAMS)
    with pytest.raises(kc.errors.ArgumentError, match=r"TrainState.*update\(grad"):
        own.update(PARAMS, state, PARAMS)
