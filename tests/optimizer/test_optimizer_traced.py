"""The whole step is one trace: periods, burn-in, adaptation, changing numbers."""

import numpy as np
import pytest
from optimizer_cases import DEEP, SHALLOW, flat, optimizer_of, problem

KINDS = {
    "regular": {"norm_constraint": 0.05, "weight_decay_coeff": 0.01},
    "adam": {"norm_constraint": 0.05},
    "qmodel": {},
    "qmodel_fixedmu": {"update_damping_immediately": False},
}

PERIODS = {
    "adapt_damping": True,
    "damping_adaptation_interval": 3,
    "invert_every": 2,
    "cov_update_every": 2,
    "num_burnin_steps": 2,
}


class InNumPy:
    asarray = staticmethod(np.asarray)
    to_numpy = staticmethod(np.asarray)


def steps_of(optimizer, library, run_step, momenta, model=DEEP):
    """Return parameters and statistics after every step, and the state."""
    params, batch = problem(library, model=model)
    state, rng = optimizer.init(params), np.random.default_rng(1)
    shapes = optimizer.estimator.noise_shapes(model.linearize(params, batch))
    found = []
    for momentum in momenta:
        noise = {site: library.asarray(rng.random(s)) for site, s in shapes.items()}
        state, params, told = run_step(state, params, batch, noise, momentum)
        numbers = [library.to_numpy(x) for x in told]
        found.append(np.concatenate([flat(library, params), numbers]))
    return np.stack(found), state


@pytest.mark.parametrize("kind", KINDS)
def test_jax_traces_once(kind, jax):
    optimizer = optimizer_of(
        momentum_type=kind, estimation_mode="gradients", **PERIODS, **KINDS[kind]
    )
    traces = []

    def step(state, params, batch, noise, momentum):
        traces.append(1)
        return optimizer.step(
            state, params, batch, noise=noise, momentum=momentum, prev_batch=batch
        )

    class InJAX:
        asarray = staticmethod(jax.numpy.asarray)
        to_numpy = staticmethod(np.asarray)

    momenta = [0.5, 0.5, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4]
    if kind == "qmodel":  # finds its own
        momenta = [None] * len(momenta)
    got, state = steps_of(optimizer, InJAX, jax.jit(step), momenta)
    assert sum(traces) == 1
    assert int(state.counter) == 6
    wanted, _ = steps_of(optimizer, InNumPy, step, momenta)
    np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-12)


def test_a_key_is_enough_under_jit(jax):
    optimizer = optimizer_of(estimation_mode="gradients")

    class InJAX:
        asarray = staticmethod(jax.numpy.asarray)
        to_numpy = staticmethod(np.asarray)

    params, batch = problem(InJAX)
    step = jax.jit(lambda s, p, key: optimizer.step(s, p, batch, key=key))
    state = optimizer.init(params)
    first, again, other = (
        flat(InJAX, step(state, params, jax.random.key(seed))[1]) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert np.max(np.abs(first - other)) > 0


@pytest.mark.parametrize(("kind", "periods"), [("adam", PERIODS), ("qmodel", {})])
def test_torch_compiles_one_graph(kind, periods, torch):
    # Targets drawn from probabilities need a running sum, at which PyTorch's compiler
    # warns of the standard's layer; signs do not.
    optimizer = optimizer_of(
        SHALLOW,
        momentum_type=kind,
        estimation_mode="curvature_prop",
        **periods,
        **KINDS[kind],
    )
    graphs = []
    aot_eager = torch._dynamo.lookup_backend("aot_eager")

    def counting(module, inputs):
        graphs.append(torch._guards.CompileContext.current_compile_id())
        return aot_eager(module, inputs)

    class InTorch:
        asarray = staticmethod(torch.as_tensor)
        to_numpy = staticmethod(np.asarray)

    def step(state, params, batch, noise, momentum):
        return optimizer.step(state, params, batch, noise=noise, momentum=momentum)

    torch._dynamo.reset()
    compiled = torch.compile(step, fullgraph=True, backend=counting)
    momenta = [0.5, 0.5, 0.9, 0.8]
    tensors = [torch.tensor(m, dtype=torch.float64) for m in momenta]
    if kind == "qmodel":  # finds its own
        momenta = tensors = [None] * len(momenta)
    got, _ = steps_of(optimizer, InTorch, compiled, tensors, SHALLOW)
    torch._dynamo.reset()
    assert len(set(graphs)) == 1
    wanted, _ = steps_of(optimizer, InNumPy, step, momenta, SHALLOW)
    np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-12)
