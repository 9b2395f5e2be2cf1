"""A network's linearization: products with the Jacobian, and second derivatives."""

import numpy as np
import pytest
from estimator_cases import (
    CASES,
    HEADS,
    assert_close,
    assert_differs,
    assert_named_close,
    draw,
    draw_like_params,
    heads,
    inner,
    moved,
)

import kfac_core as kc
from kfac_core.reference import Batch, Dense, Embedding, Sequential, SequentialModel


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


def linearized(case, rng):
    drawn = draw(case, rng)
    return drawn, case.model.linearize(drawn.params, drawn.batch)


def test_push_forward_and_param_gradients_are_adjoint(case, rng):
    _, linearization = linearized(case, rng)
    tangents = draw_like_params(case.model, rng)
    shape = linearization.loss_inputs["outputs"].shape
    vectors = {"outputs": rng.standard_normal(shape)}
    there = inner(vectors, linearization.push_forward(tangents))
    back = inner(tangents, linearization.param_gradients(vectors))
    assert there == pytest.approx(back, rel=1e-12)
    names = [*tangents]
    first = {name: tangents[name] * (name == names[0]) for name in names}
    assert inner(vectors, linearization.push_forward(first)) != pytest.approx(there)


def test_the_heads_of_these_tests_are_adjoint(rng):
    _, linearization = heads(rng)
    tangents = draw_like_params(HEADS, rng)
    vectors = {
        "labels": rng.standard_normal((4, 3)),
        "events": rng.standard_normal((4, 2)),
        "values": (rng.standard_normal((4, 2)), rng.standard_normal((4, 2))),
    }
    there = inner(vectors, linearization.push_forward(tangents))
    back = inner(tangents, linearization.param_gradients(vectors))
    assert there == pytest.approx(back, rel=1e-12)


def in_jax(jax, case, rng):
    """Return parameters, inputs, and the outputs as a function of the parameters."""
    drawn = draw(case, rng)
    params = {name: jax.numpy.asarray(x) for name, x in drawn.params.items()}
    inputs, model = jax.numpy.asarray(drawn.batch.inputs), case.model

    def outputs(params):
        return model.network.forward(model.unnamed(params), inputs).outputs

    return params, inputs, outputs


def like_params(jax, case, rng):
    tangents = draw_like_params(case.model, rng)
    return {name: jax.numpy.asarray(x) for name, x in tangents.items()}


def test_products_with_the_jacobian_are_those_of_jax(jax, case, rng):
    params, inputs, outputs = in_jax(jax, case, rng)
    tangents = like_params(jax, case, rng)
    vector = jax.numpy.asarray(rng.standard_normal((5, 3)))

    @jax.jit
    def expected(params, tangents):
        values, pushed = jax.jvp(outputs, (params,), (tangents,))
        return values, pushed, jax.vjp(outputs, params)[1](vector)[0]

    @jax.jit
    def found(params, tangents):
        made = case.model.linearize(params, Batch(inputs))
        pushed = made.push_forward(tangents)["outputs"]
        pulled = made.param_gradients({"outputs": vector})
        return made.loss_inputs["outputs"], pushed, pulled

    (values, pushed, pulled), truth = (f(params, tangents) for f in (found, expected))
    assert_close(values, truth[0])
    assert_close(pushed, truth[1])
    assert_named_close(pulled, truth[2])


def test_output_gradients_are_those_of_an_added_perturbation(jax, case, rng):
    params, inputs, _ = in_jax(jax, case, rng)
    model = case.model
    vector = jax.numpy.asarray(rng.standard_normal((5, 3)))

    @jax.jit
    def output_gradients(params):
        made = model.linearize(params, Batch(inputs))
        found = made.output_gradients({"outputs": vector})
        assert list(found) == list(model.sites) == list(made.layer_inputs)
        return list(found.values())

    def moved_along(perturbations):
        x, added = inputs, iter(perturbations)
        for layer, own in model.network.paired(model.unnamed(params)):
            x, _ = layer.forward(own, x)
            x = x + next(added) if own else x
        return jax.numpy.sum(x * vector)

    found = output_gradients(params)
    gradients = jax.jit(jax.grad(moved_along))([0 * g for g in found])
    for g, expected in zip(found, gradients, strict=True):
        assert_close(g, expected)


def test_their_change_is_the_derivative_of_param_gradients(jax, case, rng):
    params, inputs, outputs = in_jax(jax, case, rng)
    tangents = like_params(jax, case, rng)
    vector = jax.numpy.asarray(rng.standard_normal((5, 3)))

    def gradients(params):
        return jax.vjp(outputs, params)[1](vector)[0]

    @jax.jit
    def change(params, tangents):
        made = case.model.linearize(params, Batch(inputs))
        return made.param_gradients_change({"outputs": vector}, tangents)

    expected = jax.jit(lambda p, t: jax.jvp(gradients, (p,), (t,))[1])
    assert_named_close(change(params, tangents), expected(params, tangents), 1e-10)


def test_second_derivatives_are_symmetric(case, rng):
    _, linearization = linearized(case, rng)
    first, second = (draw_like_params(case.model, rng) for _ in range(2))
    shape = linearization.loss_inputs["outputs"].shape
    vectors = {"outputs": rng.standard_normal(shape)}
    one = inner(second, linearization.param_gradients_change(vectors, first))
    other = inner(first, linearization.param_gradients_change(vectors, second))
    assert one == pytest.approx(other, rel=1e-10)
    assert abs(one) > 1e-3


def test_a_linear_model_has_no_second_derivative_and_a_deep_one_has(rng):
    x, vectors = rng.standard_normal((5, 3)), {"outputs": rng.standard_normal((5, 2))}
    for layers, is_linear in [((Dense(3, 2),), True), ((Dense(3, 3), Dense(3, 2)), 0)]:
        model = SequentialModel(Sequential(layers))
        params, tangents = (draw_like_params(model, rng) for _ in range(2))
        linearization = model.linearize(params, Batch(x))
        change = linearization.param_gradients_change(vectors, tangents)
        norm = np.sqrt(inner(change, change))
        assert (norm == 0) == is_linear


def test_names_targets_and_masks(rng):
    drawn = draw(CASES["dense"], rng)
    model = CASES["dense"].model
    bare = model.linearize(drawn.params, drawn.batch)
    assert (bare.batch_size, bare.targets, bare.masks) == (5, {}, {})
    full = drawn.batch._replace(targets=np.zeros(5, int), mask=np.ones(5))
    given = model.linearize(drawn.params, full)
    assert given.targets["outputs"] is full.targets
    assert given.masks["outputs"] is full.mask
    assert_differs(given.layer_inputs["dense_1"], np.ones((5, 5)))


def test_every_library_gives_its_own_arrays(library, rng):
    case = CASES["convolutional"]
    drawn = draw(case, rng)
    vectors = {"outputs": rng.standard_normal((5, 3))}
    tangents = draw_like_params(case.model, rng)

    def products(params, batch, vectors, tangents):
        made = case.model.linearize(params, batch)
        return (
            made.output_gradients(vectors),
            made.param_gradients(vectors),
            made.push_forward(tangents),
            made.param_gradients_change(vectors, tangents),
        )

    expected = products(drawn.params, drawn.batch, vectors, tangents)
    data = moved(library, (drawn.params, tuple(drawn.batch), vectors, tangents))
    if library.package == "jax":  # operation by operation it is slow
        products = kc.backend_of(data[0]["dense_2/bias"]).jit(products)
    found = products(data[0], Batch(*data[1]), *data[2:])
    for own, truth in zip(found, expected, strict=True):
        for name, part in truth.items():
            assert type(own[name]) is type(data[2]["outputs"])
            assert_close(library.to_numpy(own[name]), part)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            lambda p: {**p, "extra": 1},
            kc.errors.ArgumentError,
            "got the parameters.*extra",
        ),
        (
            lambda p: {name: p[name] for name in [*p][1:]},
            kc.errors.ArgumentError,
            "expected.*dense_0/weights",
        ),
        (
            lambda p: {**p, "dense_1/bias": np.zeros(4)},
            kc.errors.ShapeError,
            r"Dense: bias has shape \(4,\), expected \[3\]",
        ),
    ],
    ids=["extra", "missing", "shape"],
)
def test_wrong_parameters_and_tangents_are_refused(rng, change, error, message):
    case = CASES["dense"]
    drawn, linearization = linearized(case, rng)
    with pytest.raises(error, match=message):
        case.model.linearize(change(drawn.params), drawn.batch)
    with pytest.raises(error, match=message):
        linearization.push_forward(change(drawn.params))


def test_wrong_vectors_are_refused(rng):
    _, linearization = linearized(CASES["dense"], rng)
    with pytest.raises(
        kc.errors.ShapeError, match="a tuple of 2 arrays, expected one array"
    ):
        linearization.param_gradients({"outputs": (np.ones((5, 3)), np.ones((5, 3)))})
    with pytest.raises(kc.errors.ShapeError, match=r"g_outputs has shape \(5, 2\)"):
        linearization.output_gradients({"outputs": np.ones((5, 2))})


def test_ids_are_refused_behind_the_first_layer(rng):
    model = SequentialModel(Sequential((Dense(2, 2), Embedding(2, 2))))
    with pytest.raises(
        kc.errors.DTypeError, match="Embedding: inputs has dtype float64"
    ):
        model.linearize(draw_like_params(model, rng), Batch(np.ones((3, 2))))


class Asked:
    """A linearization that notes which parameters' gradients it is asked for."""

    def __init__(self, own, answer=lambda found: found):
        self._own, self._answer, self.names = own, answer, []

    def __getattr__(self, name):
        return getattr(self._own, name)

    def param_gradients(self, vectors, names=None):
        self.names.append(names)
        return self._answer(self._own.param_gradients(vectors, names))


def with_a_summed_layer(rng):
    model = SequentialModel(Sequential((Dense(3, 2), Dense(2, 2))))
    batch = Batch(rng.standard_normal((4, 3)))
    params = model.init(rng, like=batch.inputs)
    loss = kc.losses.CategoricalLogitsNegativeLogProbLoss()
    of_all = model.layer_collection(loss)
    layers = kc.LayerCollection(of_all.variables, of_all.layers[:1])
    layers = layers.register_generic(list(params)[2:], approx="diagonal")
    layers = layers.register_loss_function(loss, "outputs")
    return kc.FisherEstimator(layers), params, model.linearize(params, batch)


def test_gradients_are_asked_for_where_a_block_takes_them(rng):
    estimator, params, own = with_a_summed_layer(rng)
    asked = Asked(own)
    key = np.random.default_rng(0)
    estimator.update_covs(estimator.init(params), asked, 0.5, key=key)
    assert [list(names) for names in asked.names] == [list(params)[2:]]
    first = estimator.layers[0].name
    estimator.update_covs(estimator.init(params), asked, 0.5, key=key, layers=[first])
    assert len(asked.names) == 1


def test_a_gradient_that_is_asked_for_must_be_there(rng):
    estimator, params, own = with_a_summed_layer(rng)
    key, (missing, *_) = np.random.default_rng(0), list(params)[2:]
    lacking = Asked(own, lambda found: {n: g for n, g in found.items() if n != missing})
    with pytest.raises(kc.errors.ArgumentError, match="param_gradients has the names"):
        estimator.update_covs(estimator.init(params), lacking, 0.5, key=key)
    whole = Asked(own, lambda found: {**found, "of another": np.ones(3)})
    estimator.update_covs(estimator.init(params), whole, 0.5, key=key)
