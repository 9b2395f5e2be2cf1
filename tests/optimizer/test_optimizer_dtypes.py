"""Dtypes of parameters and state stay what they are, step after step."""

import numpy as np
import pytest
from optimizer_cases import DEEP, SHALLOW, flat, optimizer_of, problem, run

from kfac_core import backend_of
from kfac_core.reference import Batch

KINDS = {
    "regular": {"norm_constraint": 0.05, "weight_decay_coeff": 0.01},
    "qmodel": {"weight_decay_coeff": 0.01},
}

PERIODS = {
    "adapt_damping": True,
    "damping_adaptation_interval": 2,
    "num_burnin_steps": 1,
    "invert_every": 2,
}


class Cast:
    """A library in whose problems some parameters are of another dtype."""

    def __init__(self, library, dtype, names=None, model=DEEP):
        self.library, self.dtype, self.names = library, dtype, names
        self.model = model

    def problem(self):
        params, batch = problem(self.library, dtype="float32", model=self.model)
        xp = backend_of(batch.inputs).xp
        dtype = getattr(xp, self.dtype)
        cast = {
            name: xp.astype(tensor, dtype)
            if self.names is None or name in self.names
            else tensor
            for name, tensor in params.items()
        }
        inputs = batch.inputs if self.names else xp.astype(batch.inputs, dtype)
        return cast, Batch(inputs, batch.targets)


def dtypes_of(tree):
    """Return the dtypes of nested tuples and dictionaries of arrays."""
    if isinstance(tree, dict):
        return {name: dtypes_of(part) for name, part in tree.items()}
    if isinstance(tree, tuple):
        return tuple(dtypes_of(part) for part in tree)
    return str(tree.dtype)


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_is_kept(kind, plain_library):
    """The velocity is in float32, and the step is close to that of float32."""
    if plain_library.package == "jax":
        pytest.skip("slow where nothing is compiled; see the next test")
    optimizer = optimizer_of(momentum_type=kind, **PERIODS, **KINDS[kind])
    exact, data = problem(plain_library, dtype="float32")
    _, wanted, _ = run(optimizer, exact, data, 3)
    for dtype in plain_library.half_types:
        params, batch = Cast(plain_library, dtype).problem()
        start = optimizer.init(params)
        state, moved, told = run(optimizer, params, batch, 3)
        assert dtypes_of(moved) == dtypes_of(params)
        assert dtypes_of(state) == dtypes_of(start)
        assert len({str(dtypes_of(statistics)) for statistics in told}) == 1
        assert all("float32" in str(v.dtype) for v in state.velocity.values())
        allowed = {"float16": 0.02, "bfloat16": 0.15}[dtype]
        xp = backend_of(batch.inputs).xp
        for got, right in zip(moved.values(), wanted.values(), strict=True):
            rounded = plain_library.to_numpy(xp.astype(got, xp.float32))
            right = plain_library.to_numpy(right)
            np.testing.assert_allclose(rounded, right, atol=allowed)


@pytest.mark.parametrize(
    ("dtype", "names"), [("bfloat16", None), ("float16", ("dense_0/weights",))]
)
@pytest.mark.parametrize("kind", KINDS)
def test_other_dtypes_take_one_trace(kind, dtype, names, jax):
    """Of several dtypes, too, whose order is not the same under a trace."""

    class InJAX:
        asarray = staticmethod(jax.numpy.asarray)
        to_numpy = staticmethod(np.asarray)

    optimizer = optimizer_of(SHALLOW, momentum_type=kind, **PERIODS, **KINDS[kind])
    params, batch = Cast(InJAX, dtype, names, SHALLOW).problem()
    traces = []

    @jax.jit
    def step(state, params):
        traces.append(1)
        return optimizer.step(state, params, batch)

    state, before = optimizer.init(params), dtypes_of(params)
    for _ in range(4):
        state, params, _ = step(state, params)
    assert len(traces) == 1
    assert dtypes_of(params) == before


def test_a_wider_loss_or_gradient_changes_no_dtype(library):
    params, batch = problem(library, dtype="float32")
    optimizer = optimizer_of(adapt_damping=True, loss_fn=lambda p, _: wide)
    wide = library.asarray(np.asarray(2.0))
    state = optimizer.init(params)
    gradient = {
        name: library.asarray(library.to_numpy(part).astype("float64"))
        for name, part in params.items()
    }
    new, moved, _ = optimizer.step(state, params, batch, loss=wide, gradient=gradient)
    assert dtypes_of(new) == dtypes_of(state)
    assert dtypes_of(moved) == dtypes_of(params)
    _, same, _ = optimizer.step(state, params, batch, gradient=params)
    np.testing.assert_array_equal(flat(library, moved), flat(library, same))


def test_large_sums_of_half_precision_do_not_overflow(plain_library):
    optimizer = optimizer_of(DEEP)
    for dtype in plain_library.half_types:
        params, batch = Cast(plain_library, dtype).problem()
        big = {name: part * 0 + 256.0 for name, part in params.items()}
        state = optimizer.init(params)
        step = {"gradient": big, "learning_rate": 1e-4}
        _, _, told = optimizer.step(state, params, batch, **step)
        entries = sum(np.prod(part.shape) for part in params.values())
        norm = float(plain_library.to_numpy(told.gradient_norm))
        np.testing.assert_allclose(norm, 256 * np.sqrt(entries), rtol=1e-6)
