"""`capture` finds every layer of a function, and says what is in none."""

import doctest
import functools
import importlib
import warnings

import jax_models
import numpy as np
import pytest

import kfac_core as kc

pytest.importorskip("jax")
SOFTMAX = kc.losses.CategoricalLogitsNegativeLogProbLoss()


def affine(p, x):
    return x @ p["w"] + p["b"]


def affine_params():
    return {"w": jax_models.numbers(4, 3), "b": jax_models.numbers(3)}


@pytest.mark.parametrize("model", [jax_models.transformer, jax_models.residual_network])
def test_every_parameter_of_a_model_is_in_a_layer(jax, model):
    from kfac_adapters.jax import capture

    function, params, x = model(jax)
    captured = capture(function, params, x, loss=SOFTMAX)  # verified, too
    assert captured.coverage.share == 1
    assert "in layers: 100.0%" in str(captured.coverage)


def test_a_bias_is_in_the_layer_of_what_it_is_added_to(jax):
    from kfac_adapters.jax import capture

    function, params, ids = jax_models.transformer(jax)
    captured = capture(function, params, ids, loss=SOFTMAX, verify=False)
    names = [layer.params for layer in captured.collection.layers]
    assert ("['query']", "['query_bias']") in names
    assert ("['table']", "['logit_bias']") in names
    assert ("['scale']", "['shift']") in names
    assert ("['out_bias']",) in names  # added to a residual sum


def test_a_bias_beside_another_use_of_the_product_is_on_its_own(jax):
    from kfac_adapters.jax import capture

    jnp = jax.numpy

    def function(p, x):
        y = x @ p["w"]
        return jnp.tanh(y) + (y + p["b"])

    captured = capture(
        function, affine_params(), jax_models.numbers(8, 4), loss=SOFTMAX
    )
    assert [layer.params for layer in captured.collection.layers] == [
        ("['b']",),
        ("['w']",),
    ]


def test_what_is_added_along_other_axes_is_no_bias(jax):
    from kfac_adapters.jax import capture

    def function(p, x):
        return x @ p["w"] + p["b"][:, None]

    params = {"w": jax_models.numbers(4, 3), "b": jax_models.numbers(3)}
    captured = capture(
        function, params, jax_models.numbers(5, 3, 4), loss=SOFTMAX, case_axes=1
    )
    assert [layer.params for layer in captured.collection.layers] == [
        ("['b']",),
        ("['w']",),
    ]


def test_a_number_that_is_added_to_a_product_is_a_layer_of_its_own(jax):
    from kfac_adapters.jax import capture

    params = {"w": jax_models.numbers(4, 3), "s": np.ones(()), "t": np.ones(())}

    def function(p, x):
        return (x @ p["w"] + p["t"]) * p["s"]

    captured = capture(function, params, jax_models.numbers(5, 4), loss=SOFTMAX)
    blocks = {layer.params: type(layer.block) for layer in captured.collection.layers}
    assert blocks == {
        ("['s']",): kc.blocks.ScaleAndShiftDiagonalFB,
        ("['t']",): kc.blocks.BiasDiagonalFB,
        ("['w']",): kc.blocks.FullyConnectedKFACBasicFB,
    }


def heads_of_a_normal(p, x):
    y = x @ p["w"]
    return y, y**2 + 1


def two_tasks(p, x):
    y = x @ p["w"]
    return {"label": y, "value": y[:, :1]}


NORMAL = kc.losses.NormalMeanNegativeLogProbLoss()
OUTPUTS = {
    "a tuple": (heads_of_a_normal, kc.losses.NormalMeanVarianceNegativeLogProbLoss()),
    "a dictionary": (two_tasks, {"label": SOFTMAX, "value": NORMAL}),
}


@pytest.mark.parametrize("outputs", OUTPUTS)
def test_a_loss_may_take_several_arrays_and_a_function_give_several_losses(
    jax, outputs
):
    from kfac_adapters.jax import Curvature, capture

    function, loss = OUTPUTS[outputs]
    params, x = {"w": jax_models.numbers(4, 3)}, jax_models.numbers(5, 4)
    curvature = Curvature(capture(function, params, x, loss=loss, verify=False))

    @jax.jit
    def step(params, x):
        state = curvature.init(params)
        state = curvature.update_curvature(state, params, (x,), key=jax.random.key(0))
        return curvature.precondition(state, params), state.estimator.ok

    product, ok = step(params, x)
    assert ok
    assert np.isfinite(product["w"]).all()


@pytest.mark.parametrize(
    "module", ["capturing", "curvature", "model", "optimizer", "views"]
)
def test_the_example_runs(jax, module):
    found = importlib.import_module(f"kfac_adapters.jax.{module}")
    results = doctest.testmod(found)
    assert results.attempted > 0
    assert results.failed == 0


def penalised(jax, p, x):
    return x @ p["w"][0] + (p["w"] ** 2).sum()


def by_head(jax, p, x):
    return (
        jax.numpy.einsum("ni,hio->nho", x, p["w"])[:, 0]
        + jax.numpy.einsum(
            "nhi,hio->nho", x[:, None] * jax.numpy.ones((1, 2, 1)), p["w"]
        )[:, 0]
    )


ESCAPES = {"integer_pow|square": penalised, "overlap": by_head}


@pytest.mark.parametrize("operation", ESCAPES)
def test_a_parameter_in_no_layer_is_named_with_its_path_and_the_operation(
    jax, operation
):
    from kfac_adapters.jax import capture

    function = functools.partial(ESCAPES[operation], jax)
    params = {"w": jax_models.numbers(2, 4, 4)}
    x = jax_models.numbers(3, 4)
    with pytest.raises(kc.errors.RegistrationError, match=rf"\['w'\].*({operation})"):
        capture(function, params, x, loss=SOFTMAX)


def test_a_parameter_that_is_not_used_is_named(jax):
    from kfac_adapters.jax import capture

    params = affine_params() | {"idle": jax_models.numbers(2)}
    x = jax_models.numbers(3, 4)
    with pytest.raises(
        kc.errors.RegistrationError,
        match=r"\['idle'\].*used by nothing.*'ignore': perhaps ",
    ):
        capture(affine, params, x, loss=SOFTMAX)


def doubled(jax):
    """Return a product whose derivative by the weights is twice what it is."""
    product = jax.custom_vjp(lambda w, x: x @ w)
    product.defvjp(
        lambda w, x: (x @ w, (w, x)),
        lambda kept, g: (2 * kept[1].T @ g, g @ kept[0].T),
    )
    return lambda p, x: product(p["w"], x) + p["b"]


def test_a_derivative_of_the_users_own_that_differs_is_refused(jax):
    from kfac_adapters.jax import capture

    x = jax_models.numbers(3, 4)
    with pytest.raises(
        kc.errors.RegistrationError, match=r"\['w'\].*custom derivative"
    ):
        capture(doubled(jax), affine_params(), x, loss=SOFTMAX)


def test_a_derivative_that_differs_is_treated_as_unclaimed_and_warned_of(jax):
    from kfac_adapters.jax import capture

    x = jax_models.numbers(3, 4)
    with pytest.warns(UserWarning, match=r"\['w'\].*'diagonal'"):
        captured = capture(
            doubled(jax), affine_params(), x, loss=SOFTMAX, unclaimed="diagonal"
        )
    blocks = {layer.params: type(layer.block) for layer in captured.collection.layers}
    assert blocks == {
        ("['w']",): kc.blocks.NaiveDiagonalFB,
        ("['b']",): kc.blocks.BiasDiagonalFB,
    }


def test_a_derivative_of_the_users_own_that_is_right_is_a_layer(jax):
    from kfac_adapters.jax import capture

    product = jax.custom_vjp(lambda w, x: x @ w)
    product.defvjp(
        lambda w, x: (x @ w, (w, x)), lambda kept, g: (kept[1].T @ g, g @ kept[0].T)
    )
    x = jax_models.numbers(3, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        captured = capture(
            lambda p, x: product(p["w"], x) + p["b"], affine_params(), x, loss=SOFTMAX
        )
    assert captured.coverage.share == 1


def test_leaves_that_are_no_numbers_are_constants(jax):
    from kfac_adapters.jax import capture

    params = affine_params() | {"count": jax.numpy.asarray(3)}
    captured = capture(affine, params, jax_models.numbers(3, 4), loss=SOFTMAX)
    assert list(captured.named(params)) == ["['b']", "['w']"]


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"unclaimed": "drop"}, "unclaimed"),
        ({"loss": "softmax"}, "loss"),
        ({"case_axes": 0}, "case_axes"),
        ({"case_axes": 2}, "case_axes"),
        ({"approximations": {"dense": "kron"}}, "dense"),
        ({"approximations": ["ekfac"]}, "approximations is"),
        ({"approximations": "kfac"}, "ekfac"),
        ({"loss": {"a": SOFTMAX}}, "names"),
    ],
)
def test_arguments_that_cannot_be_are_refused_by_name(jax, options, match):
    from kfac_adapters.jax import capture

    given = {"loss": SOFTMAX} | options
    with pytest.raises(kc.errors.KfacError, match=match):
        capture(affine, affine_params(), jax_models.numbers(3, 4), **given)


def test_one_approximation_for_all_layers_that_have_it(jax):
    from kfac_adapters.jax import capture

    given = affine_params(), jax_models.numbers(3, 4)
    captured = capture(affine, *given, loss=SOFTMAX, approximations="ekfac")
    (layer,) = captured.collection.layers
    assert type(layer.block).__name__ == "EigenvalueCorrectedFB"


def test_a_tracer_cannot_be_verified(jax):
    from kfac_adapters.jax import capture

    def traced(x):
        capture(affine, affine_params(), x, loss=SOFTMAX)

    with pytest.raises(kc.errors.ArgumentError, match="verify=False"):
        jax.eval_shape(traced, jax_models.numbers(3, 4))


def test_what_is_no_function_is_refused(jax):
    from kfac_adapters.jax import capture

    x = jax_models.numbers(3, 4)
    with pytest.raises(kc.errors.ArgumentError, match="function is a int"):
        capture(3, affine_params(), x, loss=SOFTMAX)


@pytest.mark.parametrize(
    ("leaf", "message"),
    [
        (np.tanh, r"leaf \['act'\] of params is a ufunc.*eqx.partition"),
        ("relu", r"leaf \['act'\] of params is a str"),
        (np.ones(4) * 1j, r"leaf \['act'\] of params is of complex numbers.*two"),
        (1j, r"leaf \['act'\] of params is of complex"),
    ],
)
def test_leaves_that_cannot_be_parameters_are_named(jax, leaf, message):
    from kfac_adapters.jax import capture

    params, x = {**affine_params(), "act": leaf}, jax_models.numbers(3, 4)
    with pytest.raises(kc.errors.ArgumentError, match=message):
        capture(affine, params, x, loss=SOFTMAX)


def test_a_parameter_of_a_weak_type_has_another_after_a_step(jax):
    """As a number of Python among the parameters, whose type an update makes strong."""
    from kfac_adapters.jax import Curvature, capture

    jnp = jax.numpy

    def function(p, x):
        return jnp.tanh(x.astype(jnp.float32) * p["s"]) @ p["w"]

    x = jax_models.numbers(3, 4)
    strong = {"s": jnp.asarray(0.5, jnp.float32), "w": jnp.ones((4, 3), jnp.float32)}
    weak = strong | {"s": jnp.asarray(0.5)}
    assert weak["s"].weak_type
    curvature = Curvature(capture(function, weak, x, loss=SOFTMAX), damping=0.1)
    state = curvature.update_curvature(
        curvature.init(strong), strong, (x,), key=jax.random.key(0)
    )
    assert state.estimator.ok
