"""Compiled or mapped over a stack of matrices, each function computes the same."""

import numpy as np
import pytest

from kfac_core.registry import backend_of, load_backend
from kfac_core.testing.arrays import CALLS

STACK = 3
INDEFINITE = np.array([[1.0, 2.0], [2.0, 1.0]])


def stacks(values):
    """Three versions of each argument, no two alike: scaled, or indices rolled."""
    return [
        np.stack(
            [
                x * (1 + k) if x.dtype.kind == "f" else np.roll(x, k)
                for k in range(STACK)
            ]
        )
        for x in values
    ]


def unsigned(backend, name, result):
    """Replace eigenvectors by what does not depend on their signs."""
    if name != "eigh":
        return [backend.to_numpy(result)]
    values, vectors = map(backend.to_numpy, result)
    return [values, (vectors * values[..., None, :]) @ vectors.mT]


def compiled(torch, function):
    torch._dynamo.reset()
    return torch.compile(function, fullgraph=True, backend="aot_eager")


@pytest.fixture(params=["jax.jit", "jax.vmap", "torch.compile", "torch.func.vmap"])
def transform(request):
    """The backend, whether it maps over stacks, and the transformation."""
    library, _, kind = request.param.partition(".")
    module = request.getfixturevalue(library)
    apply = {
        "jit": lambda function: module.jit(function),
        "vmap": lambda function: module.vmap(function),
        "compile": lambda function: compiled(module, function),
        "func.vmap": lambda function: module.func.vmap(function),
    }[kind]
    return load_backend(library), "vmap" in kind, apply


@pytest.mark.parametrize("name", CALLS)
def test_traced_equals_eager(transform, name):
    backend, maps, apply = transform
    call, values = CALLS[name]
    arguments = [backend.from_numpy(x) for x in stacks(values)]

    def function(*args):
        return call(backend, *args)

    eager = [function(*(x[k] for x in arguments)) for k in range(STACK)]
    traced = apply(function)
    whole = traced(*arguments) if maps else None
    for k in range(STACK):
        if not maps:
            result = traced(*(x[k] for x in arguments))
        elif isinstance(whole, tuple):
            result = tuple(part[k] for part in whole)
        else:
            result = whole[k]
        for got, expected in zip(
            unsigned(backend, name, result),
            unsigned(backend, name, eager[k]),
            strict=True,
        ):
            assert got.dtype == np.float64
            np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12)


def test_failure_is_nan_for_that_matrix_alone(transform):
    backend, _, apply = transform
    good, nan = np.eye(2), np.full((2, 2), np.nan)
    stack = backend.from_numpy(np.stack([good, INDEFINITE, nan]))
    factors = backend.to_numpy(apply(backend.cholesky)(stack))
    values, vectors = map(backend.to_numpy, apply(backend.eigh)(stack))
    assert np.array_equal(factors[0], good)
    assert np.isnan(factors[1:]).all()
    np.testing.assert_allclose(values[:2], [[1, 1], [-1, 3]], atol=1e-12)
    assert np.isnan(values[2]).all()
    assert np.isnan(vectors[2]).all()


def test_symmetry_survives_tracing(transform, rng):
    backend, _, apply = transform
    x = backend.from_numpy(rng.standard_normal((3, 30, 12)))
    for function in (
        backend.gram,
        lambda a: backend.cholesky_inverse(backend.cholesky(backend.gram(a))),
    ):
        result = backend.to_numpy(apply(function)(x))
        assert np.array_equal(result, result.mT)


def test_values_are_known_outside_of_a_trace_alone(transform):
    backend, _, apply = transform
    x = backend.from_numpy(np.ones((2, 2)))
    seen = []

    def function(a):
        seen.append(backend.is_traced(a))
        return a * 2 if backend.is_traced(a) else a * 3

    result = apply(function)(x)
    assert set(seen) <= {True}
    assert np.array_equal(backend.to_numpy(result), 2 * np.ones((2, 2)))
    assert backend.is_traced(x) is False


def test_registry_works_under_a_trace(transform):
    backend, _, apply = transform
    x = backend.from_numpy(np.ones((3, 2)))
    # Dynamo cannot look a type up that was never seen outside of what it traces.
    assert backend_of(x) is backend

    def function(a, b):
        found = backend_of(a, b)
        zeros = found.xp.zeros((2,), dtype=a.dtype, device=found.creation_device(a))
        return a * b + zeros

    assert np.array_equal(backend.to_numpy(apply(function)(x, x)), np.ones((3, 2)))


@pytest.mark.parametrize("verb", ["uniform", "normal"])
def test_jax_draws_the_same_numbers_under_jit(jax, verb):
    backend = load_backend("jax")
    draw = getattr(backend, verb)

    def function(key):
        return draw(key, (4, 3), jax.numpy.float64, None)

    key = jax.random.key(0)
    np.testing.assert_allclose(jax.jit(function)(key), function(key), rtol=1e-12)
