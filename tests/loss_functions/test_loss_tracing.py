"""Under `jax.jit` a loss is traced once, and under `torch.compile` it is one graph."""

import numpy as np
import pytest
from loss_cases import CASES, LEADING, assert_close, joined, like_inputs, mapped, parts


def everything(loss, inputs, noise, vector, inner, mask):
    """Apply all verbs of a loss to a target drawn from the model."""
    targets = loss.sample_from(noise, inputs)
    return (
        loss.evaluate(inputs, targets, mask),
        loss.gradient(inputs, targets, mask),
        loss.multiply_fisher(inputs, vector, mask),
        loss.multiply_fisher_factor(inputs, inner, mask),
        loss.multiply_fisher_factor_transpose(inputs, vector, mask),
        loss.multiply_fisher_factor_replicated_one_hot(inputs, (1, 1), mask),
        loss.multiply_hessian(inputs, targets, vector, mask),
    )


def data_of(case, rng):
    inputs = case.inputs(rng)
    return (
        inputs,
        rng.random(case.loss.noise_shape(inputs)),
        like_inputs(rng.standard_normal(joined(inputs).shape), inputs),
        rng.standard_normal(case.loss.fisher_factor_inner_shape(inputs)),
        rng.integers(2, size=LEADING) * rng.random(LEADING),
    )


@pytest.mark.parametrize("name", CASES)
def test_one_trace_serves_all_values(name, rng, jax):
    case, traces = CASES[name], []

    @jax.jit
    def compiled(*data):
        traces.append(name)
        return everything(case.loss, *data)

    for _ in range(2):
        data = data_of(case, rng)
        there = compiled(*(mapped(jax.numpy.asarray, part) for part in data))
        for mine, wanted in zip(there, everything(case.loss, *data), strict=True):
            for one, other in zip(parts(mine), parts(wanted), strict=True):
                assert_close(one, other, 1e-13)
    assert len(traces) == 1


def test_a_key_may_be_traced(jax, rng):
    loss, logits = CASES["categorical"].loss, jax.numpy.zeros((4, 3))
    drawn = jax.jit(lambda key: loss.evaluate_on_sample(key, logits))(jax.random.key(0))
    assert_close(drawn, 4 * np.log(3), 1e-15)


# The cumulative sum of array_api_compat looks up its namespace in a cache.
@pytest.mark.filterwarnings("ignore:Dynamo detected a call to a `functools.lru_cache")
@pytest.mark.parametrize("name", ["categorical", "mean-variance"])
def test_torch_compiles_one_graph(name, rng, torch):
    case = CASES[name]
    data = data_of(case, rng)
    there = [mapped(torch.from_numpy, part) for part in data]
    case.loss.gradient(there[0], case.loss.sample_from(there[1], there[0]))  # looks up
    compiled = torch.compile(
        lambda *given: everything(case.loss, *given), fullgraph=True, backend="eager"
    )
    wanted = everything(case.loss, *data)
    for mine, numpys in zip(compiled(*there), wanted, strict=True):
        for one, other in zip(parts(mine), parts(numpys), strict=True):
            assert_close(one, other, 1e-13)
