"""Products are in full precision, or in that which the library is set to."""

import contextlib
import importlib

import numpy as np
import pytest

import kfac_core as kc
from kfac_core.registry import load_backend

ROWS = np.linspace(-1, 1, 4 * 300).reshape(4, 300)


def precisions(jax, function, *args):
    """Return the precision of every product in the trace of a function."""
    from jax.extend.core import jaxprs_in_params

    found = []

    def visit(jaxpr):
        for equation in jaxpr.eqns:
            if equation.primitive.name == "dot_general":
                found.append(equation.params["precision"])
            for inner in jaxprs_in_params(equation.params):
                visit(inner)

    visit(jax.make_jaxpr(function)(*args).jaxpr)
    return {getattr(p, "name", p) for one in found for p in (one or (None,))}


def test_jax_asks_for_full_precision_unless_told_otherwise(jax):
    backend = load_backend("jax")
    x = jax.numpy.asarray(ROWS, "float32")
    one, square = x[0, 0], x.mT @ x
    for other, expected in ((backend, "HIGHEST"), ("default", None)):
        chosen = backend.in_precision(other) if other == "default" else other
        for call in (
            lambda x, b=chosen: b.gram(x),
            lambda x, b=chosen: b.matmul(x.mT, x),
            lambda x, b=chosen: b.syrk(one, x, one, square),
        ):
            assert precisions(jax, call, x) == {expected}
        inverse = precisions(jax, chosen.cholesky_inverse, square)
        assert inverse <= {"HIGHEST"}
        assert inverse


def blocks(precision):
    return (
        kc.blocks.FullyConnectedKFACBasicFB(3, 2, has_bias=True, precision=precision),
        kc.blocks.FullyConnectedDiagonalFB(3, 2, precision=precision),
    )


@pytest.mark.parametrize(
    ("precision", "expected"), [("highest", "HIGHEST"), ("default", None)]
)
def test_statistics_are_as_the_spec_says_and_inverses_exact(jax, precision, expected):
    x, g = (jax.numpy.ones((5, n), "float32") for n in (3, 2))
    for block in blocks(precision):
        state = block.init(x)

        def update(state, x, g, block=block):
            return block.update_covs(state, x, g, 0.9)

        assert precisions(jax, update, state, x, g) == {expected}
    block = kc.blocks.FullyConnectedKFACBasicFB(
        3, 2, matpowers=(-2, 0.5), precision=precision
    )
    state = update(block.init(x), x, g, block)
    refreshed = precisions(jax, lambda s: block.update_inverses(s, 0.1), state)
    assert refreshed == {"HIGHEST"}


@pytest.fixture
def tf32(torch, monkeypatch):
    """What every product of PyTorch's would be computed in, were it on a GPU."""
    module = importlib.import_module("kfac_backends.torch_products")
    allowed, seen = [True], []

    @contextlib.contextmanager
    def refused(a):
        allowed.append(False)
        yield
        allowed.pop()

    monkeypatch.setattr(module, "no_tf32", refused)
    monkeypatch.setattr(module, "is_for_numpy", lambda *_, **__: False)
    # On the CPU, products look for settings within autocast alone.
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda *_: True)
    # It would set what it takes for the settings of before.
    monkeypatch.setattr(module, "no_autocast", lambda _: contextlib.nullcontext())
    product = torch.Tensor.__matmul__

    def matmul(a, b):
        seen.append(allowed[-1])
        return product(a, b)

    monkeypatch.setattr(torch.Tensor, "__matmul__", matmul)
    return seen


def test_tf32_is_left_to_the_caller_for_statistics_alone(torch, tf32):
    x, g = torch.ones((5, 3)), torch.ones((5, 2))
    for precision, expected in (("highest", {False}), ("default", {True})):
        for block in blocks(precision):
            tf32.clear()
            state = block.update_covs(block.init(x), x, g, 0.9)
            assert set(tf32) == expected
        block = blocks(precision)[0].register_matpower(0.5)
        state = block.update_covs(block.init(x), x, g, 0.9)
        tf32.clear()
        block.update_inverses(state, 0.1)
        assert set(tf32) == {False}


def test_a_precision_of_another_name_is_refused():
    message = "fc: precision is 'tf32', expected 'highest' or 'default'"
    with pytest.raises(kc.errors.ArgumentError, match=message):
        kc.blocks.FullyConnectedKFACBasicFB(3, 2, name="fc", precision="tf32")
