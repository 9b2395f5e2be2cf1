"""Exact products with curvature matrices, against dense matrices by enumeration."""

import numpy as np
import pytest
from estimator_cases import (
    BERNOULLI,
    CASES,
    CATEGORICAL,
    HEADS,
    MEAN_VARIANCE,
    NORMAL,
    assert_close,
    assert_differs,
    assert_named_close,
    draw,
    draw_like_params,
    flat,
    heads,
    heads_collection,
    heads_fisher,
    inner,
    moved,
)

import kfac_core as kc
from kfac_core.products import CurvatureMatrixVectorProductComputer
from kfac_core.reference import (
    Dense,
    Sequential,
    SequentialModel,
    exact_fisher,
)
from kfac_core.registered_losses import mean_gradient, mean_loss

ALL = ("labels", "events", "values")
NATURAL = ("labels", "events")


def units(shapes):
    """Yield each unit vector of vectors by name."""
    zeros = {name: np.zeros(shape) for name, shape in shapes.items()}
    for name, zero in zeros.items():
        for place in np.ndindex(zero.shape):
            one = zero.copy()
            one[place] = 1.0
            yield zeros | {name: one}


def matrix(product, shapes):
    """Return a product with vectors of some shapes as a matrix, column by column."""
    columns = [product(unit) for unit in units(shapes)]
    return np.stack([flat(column, [*columns[0]]) for column in columns], axis=1)


def matrices(collection, linearization, kind):
    """Return the matrix, its factor, and the factor's transpose."""
    computer = CurvatureMatrixVectorProductComputer(collection)
    shapes = dict(collection.variables)
    factor_shapes = getattr(computer, f"{kind}_factor_inner_shapes")(linearization)

    def of(name, own_shapes):
        product = getattr(computer, f"multiply_{name}")
        return matrix(lambda v: product(linearization, v), own_shapes)

    return (
        of(kind, shapes),
        of(f"{kind}_factor", factor_shapes),
        of(f"{kind}_factor_transpose", shapes),
    )


def dense_heads(linearization, sites):
    """Return ``sum_n J_n' F_n J_n`` over cases, from each case's Jacobian."""
    base = linearization.base
    jacobian = base.model.network.jacobian(base.params, base.batch.inputs)
    fisher = heads_fisher(linearization, sites)
    return sum(j.T @ f @ j for j, f in zip(jacobian, fisher, strict=True))


@pytest.mark.parametrize("loss", [CATEGORICAL, BERNOULLI, NORMAL])
@pytest.mark.parametrize("kind", ["fisher", "ggn"])
@pytest.mark.parametrize("name", ["dense", "embedding"])
def test_products_are_those_of_the_dense_fisher(rng, name, kind, loss):
    case = CASES[name]
    drawn = draw(case, rng, batch=3)
    linearization = case.model.linearize(drawn.params, drawn.batch)
    params = case.model.unnamed(drawn.params)
    dense = 3 * exact_fisher(case.model.network, params, drawn.batch.inputs, loss)
    collection = case.model.layer_collection(loss, coeff=1.7)
    whole, factor, transpose = matrices(collection, linearization, kind)
    assert_close(whole, 1.7 * dense)
    assert_close(factor @ factor.T, 1.7 * dense)
    assert_close(transpose, factor.T)


@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
@pytest.mark.parametrize(
    ("kind", "sites"),
    [("fisher", ALL), ("fisher", ("values",)), ("ggn", NATURAL), ("ggn", ("events",))],
)
def test_several_losses_add_up_with_coefficients_and_masks(rng, kind, sites, masked):
    _, linearization = heads(rng, masked=masked)
    found = matrices(heads_collection(*sites), linearization, kind)
    whole, factor, transpose = found
    dense = dense_heads(linearization, sites)
    assert_close(whole, dense)
    assert_close(factor @ factor.T, dense)
    assert_close(transpose, factor.T)
    if masked and sites != ("events",):
        _, unmasked = heads(np.random.default_rng(0), masked=False)
        assert_differs(dense, dense_heads(unmasked, sites))


def test_the_factor_is_applied_and_not_its_transpose(rng):
    case = CASES["dense"]
    drawn = draw(case, rng)
    linearization = case.model.linearize(drawn.params, drawn.batch)
    u = rng.standard_normal((5, 3))
    for loss, is_symmetric in [(CATEGORICAL, False), (NORMAL, True)]:
        computer = CurvatureMatrixVectorProductComputer(
            case.model.layer_collection(loss)
        )
        found = computer.multiply_fisher_factor(linearization, {"outputs": u})
        logits = linearization.loss_inputs["outputs"]
        transposed = loss.multiply_fisher_factor_transpose(logits, u)
        wrong = linearization.param_gradients({"outputs": transposed})
        names = [*drawn.params]
        compare = assert_close if is_symmetric else assert_differs
        compare(flat(found, names), flat(wrong, names))


def loss_in_jax(jax, linearization):
    """Return the total loss of the three heads, written out."""
    base, jnp = linearization.base, jax.numpy
    targets, masks = linearization.targets, linearization.masks

    def total(params):
        outputs = base.model.network.forward(
            base.model.unnamed(params), jnp.asarray(base.batch.inputs)
        ).outputs
        rows = jnp.arange(len(outputs))
        log_p = jax.nn.log_softmax(outputs[:, :3])[rows, targets["labels"]]
        logits, signs = outputs[:, 3:5], 2 * targets["events"] - 1
        events = jax.nn.softplus(-signs * logits).sum(-1)
        residual, logs = targets["values"] - outputs[:, 5:7], outputs[:, 7:]
        values = (residual**2 * jnp.exp(-logs) + logs).sum(-1) / 2
        return (
            -(log_p * masks["labels"]).sum()
            + 2.5 * events.sum()
            + 0.3 * (values * masks["values"]).sum()
        )

    return total


def test_the_hessian_is_that_of_jax(jax, rng):
    params, linearization = heads(rng)
    total = loss_in_jax(jax, linearization)
    own = {name: jax.numpy.asarray(x) for name, x in params.items()}
    blocks = jax.jit(jax.hessian(total))(own)
    names = [*params]
    dense = np.block(
        [
            [
                np.reshape(blocks[row][column], (params[row].size, -1))
                for column in names
            ]
            for row in names
        ]
    )
    computer = CurvatureMatrixVectorProductComputer(heads_collection(*ALL))
    found = matrix(
        lambda v: computer.multiply_hessian(linearization, v),
        {name: x.shape for name, x in params.items()},
    )
    assert_close(found, dense, 1e-9)
    assert_close(found, found.T, 1e-11)
    assert np.linalg.eigvalsh(found)[0] < -1e-3  # as no Fisher is
    assert_differs(found, dense_heads(linearization, ALL), by=0.1)


def test_the_gradient_of_the_mean_loss_is_that_of_jax(jax, rng):
    params, linearization = heads(rng)
    total, collection = loss_in_jax(jax, linearization), heads_collection(*ALL)
    own = {name: jax.numpy.asarray(x) for name, x in params.items()}
    value, gradient = jax.jit(jax.value_and_grad(total))(own)
    normaliser = 0.3 * np.sum(linearization.masks["values"]) * np.log(2 * np.pi)
    assert_close(mean_loss(collection, linearization), (value + normaliser) / 4)
    expected = {name: gradient[name] / 4 for name in params}
    assert_named_close(mean_gradient(collection, linearization), expected)


@pytest.mark.parametrize("loss", [CATEGORICAL, BERNOULLI, NORMAL])
def test_of_a_linear_model_hessian_and_ggn_are_one(rng, loss):
    linear = SequentialModel(Sequential((Dense(4, 3),)))
    for model, equal in [(linear, True), (CASES["dense"].model, False)]:
        params, v = (draw_like_params(model, rng) for _ in range(2))
        targets = rng.integers(3, size=5)
        if loss is not CATEGORICAL:
            targets = rng.integers(2, size=(5, 3))
        batch = draw(CASES["dense"], rng).batch._replace(targets=targets)
        linearization = model.linearize(params, batch)
        computer = CurvatureMatrixVectorProductComputer(model.layer_collection(loss))
        hessian = computer.multiply_hessian(linearization, v)
        ggn = computer.multiply_ggn(linearization, v)
        compare = assert_close if equal else assert_differs
        compare(flat(hessian, [*v]), flat(ggn, [*v]))


class FirstOrder:
    """A linearization without second derivatives."""

    def __init__(self, base):
        self.base = base

    def __getattr__(self, name):
        if name == "param_gradients_change":
            raise AttributeError(name)
        return getattr(self.base, name)


def test_what_is_missing_is_named(rng):
    params, linearization = heads(rng)
    computer = CurvatureMatrixVectorProductComputer(heads_collection(*ALL))
    with pytest.raises(
        kc.errors.ArgumentError, match="FirstOrder has no param_gradients_change"
    ):
        computer.multiply_hessian(FirstOrder(linearization), params)
    with pytest.raises(kc.errors.UnsupportedError, match="has no Gauss-Newton matrix"):
        computer.multiply_ggn(linearization, params)
    base = linearization.base
    with pytest.raises(
        kc.errors.ArgumentError, match="no inputs for the loss site 'labels'"
    ):
        computer.multiply_fisher(base, params)
    one = CurvatureMatrixVectorProductComputer(HEADS.layer_collection(BERNOULLI))
    with pytest.raises(
        kc.errors.ArgumentError, match="no targets for the loss site 'out"
    ):
        one.multiply_hessian(base, params)


def test_of_two_inputs_of_a_loss_both_are_multiplied(rng):
    _, linearization = heads(rng)
    assert MEAN_VARIANCE.fisher_factor_inner_shape(
        linearization.loss_inputs["values"]
    ) == (4, 4)
    computer = CurvatureMatrixVectorProductComputer(heads_collection("values"))
    v = draw_like_params(HEADS, rng)
    pushed = computer.multiply_fisher_factor_transpose(linearization, v)
    squared = inner(pushed, pushed)
    assert squared == pytest.approx(
        inner(v, computer.multiply_fisher(linearization, v)), rel=1e-12
    )


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(np.float64, 1e-12), (np.float32, 2e-6)]
)
def test_every_library_multiplies_alike(library, rng, dtype, tolerance):
    case = CASES["dense"]
    drawn = draw(case, rng)
    v = draw_like_params(case.model, rng)
    u = {"outputs": rng.standard_normal((5, 3))}
    batch = drawn.batch._replace(targets=rng.integers(3, size=5))
    computer = CurvatureMatrixVectorProductComputer(
        case.model.layer_collection(CATEGORICAL, coeff=0.5)
    )

    def products(params, batch, v, u):
        made = case.model.linearize(params, batch)
        return (
            computer.multiply_fisher(made, v),
            computer.multiply_ggn(made, v),
            computer.multiply_fisher_factor(made, u),
            computer.multiply_fisher_factor_transpose(made, v),
            computer.multiply_hessian(made, v),
        )

    expected = products(drawn.params, batch, v, u)
    cast = {name: x.astype(dtype) for name, x in drawn.params.items()}
    data = (
        cast,
        batch._replace(inputs=batch.inputs.astype(dtype)),
        {name: x.astype(dtype) for name, x in v.items()},
        {"outputs": u["outputs"].astype(dtype)},
    )
    given = moved(library, data)
    jit = kc.backend_of(given[3]["outputs"]).jit
    # Compiled in JAX, where operation by operation it is slow.
    found = (jit(products) if library.package == "jax" else products)(*given)
    for own, truth in zip(found, expected, strict=True):
        for name in truth:
            assert own[name].dtype == given[3]["outputs"].dtype
        plain = {name: library.to_numpy(own[name]) for name in truth}
        assert_named_close(plain, truth, tolerance)
