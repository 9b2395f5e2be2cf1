"""Fisher, Hessian and gradient against enumeration and against JAX's derivatives."""

import numpy as np
import pytest
from loss_cases import (
    CASES,
    LEADING,
    assert_close,
    joined,
    like_inputs,
    mapped,
    parts,
    targets_of,
    unit_vectors,
)

from kfac_core.errors import UnsupportedError


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


def expected_fisher(case, inputs):
    """``E[g g']`` and ``E[g]`` by position, over all targets."""
    size = joined(inputs).shape[-1]
    moment = np.zeros((*LEADING, size, size))
    mean = np.zeros((*LEADING, size))
    for target, p in case.outcomes(inputs):
        g = joined(case.loss.gradient(inputs, target))
        if p.shape == g.shape:  # a probability for each entry: only the diagonal
            moment += np.eye(size) * (p * g * g)[..., None]
            mean += p * g
        else:
            moment += p[..., None, None] * g[..., :, None] * g[..., None, :]
            mean += p[..., None] * g
    assert np.abs(mean).max() < 1e-13 * np.abs(moment).max()  # the score's mean is zero
    return moment


def columns(library, verb, inputs, vectors):
    """Apply a verb to vectors ``[K, ...]``; return matrices by position."""
    answer = verb(mapped(library.asarray, inputs), mapped(library.asarray, vectors))
    rows = joined(mapped(library.to_numpy, answer))
    return np.moveaxis(rows, 0, -1)


def test_products_are_those_of_the_expectation_over_targets(case, rng, library):
    loss, inputs = case.loss, case.inputs(rng)
    fisher = expected_fisher(case, inputs)
    size = fisher.shape[-1]
    units = like_inputs(unit_vectors(size), inputs)
    assert_close(columns(library, loss.multiply_fisher, inputs, units), fisher)
    transposed = columns(
        library, loss.multiply_fisher_factor_transpose, inputs, units
    )  # B'
    inner = unit_vectors(loss.fisher_factor_inner_shape(inputs)[-1])
    factor = columns(library, loss.multiply_fisher_factor, inputs, inner)
    assert_close(transposed, np.swapaxes(factor, -1, -2))
    assert_close(factor @ transposed, fisher)
    there = mapped(library.asarray, inputs)
    for position in range(LEADING[1]):
        for k in range(inner.shape[-1]):
            column = loss.multiply_fisher_factor_replicated_one_hot(
                there, (position, k)
            )
            wanted = np.zeros((*LEADING, size))
            wanted[:, position] = factor[:, position, :, k]
            assert_close(joined(mapped(library.to_numpy, column)), wanted)


def test_derivatives_are_those_of_jax(case, rng, jax):
    loss, inputs = case.loss, case.inputs(rng)
    targets, mask = targets_of(case, inputs, rng), rng.random(LEADING)
    v = like_inputs(rng.standard_normal(joined(inputs).shape), inputs)
    there = mapped(jax.numpy.asarray, inputs)
    known = jax.numpy.asarray(targets), jax.numpy.asarray(mask)
    gradient = jax.grad(lambda x: loss.evaluate(x, *known))
    g, hv = jax.jit(lambda x, v: jax.jvp(gradient, (x,), (v,)))(
        there, mapped(jax.numpy.asarray, v)
    )
    assert_close(joined(loss.gradient(inputs, targets, mask)), joined(g), 1e-13)
    mine = loss.multiply_hessian(inputs, targets, v, mask)
    assert_close(joined(mine), joined(hv), 1e-13)


def test_hessian_is_the_fisher_in_the_mean(case, rng):
    loss, inputs = case.loss, case.inputs(rng)
    v = like_inputs(rng.standard_normal(joined(inputs).shape), inputs)
    mean, total = 0.0, 0.0
    for target, p in case.outcomes(inputs):
        weight = p if p.shape == joined(inputs).shape else p[..., None]
        mean = mean + weight * joined(loss.multiply_hessian(inputs, target, v))
        total = total + weight
    assert_close(total, np.ones_like(total))
    assert_close(mean, joined(loss.multiply_fisher(inputs, v)))


@pytest.mark.parametrize("name", [name for name in CASES if name != "mean-variance"])
def test_gauss_newton_is_the_fisher_of_natural_parameters(name, rng):
    loss, inputs = CASES[name].loss, CASES[name].inputs(rng)
    v = rng.standard_normal(inputs.shape)
    assert loss.ggn_factor_inner_shape(inputs) == loss.fisher_factor_inner_shape(inputs)
    for suffix in ("", "_factor", "_factor_transpose"):
        ggn = getattr(loss, f"multiply_ggn{suffix}")(inputs, v)
        np.testing.assert_array_equal(
            ggn, getattr(loss, f"multiply_fisher{suffix}")(inputs, v)
        )
    np.testing.assert_array_equal(
        loss.multiply_ggn_factor_replicated_one_hot(inputs, (1, 2)),
        loss.multiply_fisher_factor_replicated_one_hot(inputs, (1, 2)),
    )


def test_mean_and_variance_have_no_gauss_newton_matrix(rng):
    # For their second derivative is indefinite: here at targets far off.
    case = CASES["mean-variance"]
    loss, (mean, variance) = case.loss, case.inputs(rng)
    targets = mean + 3 * np.sqrt(variance)
    units = like_inputs(unit_vectors(6), (mean, variance))
    hessian = np.moveaxis(
        joined(loss.multiply_hessian((mean, variance), targets, units)), 0, -1
    )
    eigenvalues = np.linalg.eigvalsh(hessian)
    assert eigenvalues.min() < -1e-3 * eigenvalues.max()
    vector, inner = (mean, variance), joined((mean, variance))
    for verb, *arguments in (
        ("multiply_ggn", vector, vector),
        ("multiply_ggn_factor", vector, inner),
        ("multiply_ggn_factor_transpose", vector, vector),
        ("multiply_ggn_factor_replicated_one_hot", vector, (0, 1)),
        ("ggn_factor_inner_shape", vector),
    ):
        with pytest.raises(
            UnsupportedError,
            match="NormalMeanVarianceNegativeLogProbLoss has no Gauss-Newton",
        ):
            getattr(loss, verb)(*arguments)


def test_values_are_minus_the_logarithms_of_probabilities(case, rng, library):
    # For densities: the ratio of two is, and the normaliser is tested by itself.
    loss, inputs = case.loss, case.inputs(rng)
    there = mapped(library.asarray, inputs)
    for target, p in list(case.outcomes(inputs))[:4]:
        value = library.to_numpy(loss.evaluate(there, library.asarray(target)))
        assert value.shape == ()
        if "normal" in type(loss).__name__.lower():
            mean, variance = (*parts(inputs), getattr(loss, "var", None))[:2]
            variance = np.broadcast_to(variance, mean.shape)
            z = (target - mean) ** 2 / variance
            density = np.exp(-z / 2) / np.sqrt(2 * np.pi * variance)
            assert_close(value, -np.log(density).sum(), 1e-13)
        else:
            assert_close(value, -np.log(p).sum(), 1e-13)


def test_values_are_those_of_pytorch(rng, torch):
    nn = torch.nn.functional
    f = torch.from_numpy(CASES["categorical"].inputs(rng)[:, 0])
    labels = torch.from_numpy(rng.integers(3, size=4))
    theirs = nn.cross_entropy(f, labels, reduction="sum")
    assert_close(CASES["categorical"].loss.evaluate(f, labels), theirs)
    events = torch.from_numpy(rng.random(f.shape))
    theirs = nn.binary_cross_entropy_with_logits(f, events, reduction="sum")
    assert_close(CASES["bernoulli"].loss.evaluate(f, events), theirs)
    targets, variance = torch.randn_like(f), torch.rand_like(f) + 0.5
    theirs = nn.gaussian_nll_loss(f, targets, variance, full=True, reduction="sum")
    assert_close(CASES["mean-variance"].loss.evaluate((f, variance), targets), theirs)
