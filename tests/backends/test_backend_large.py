"""Large matrices take other ways than small ones, to results as good."""

import importlib
from fractions import Fraction

import numpy as np
import pytest

from kfac_core.registry import backend_of, load_backend
from kfac_core.testing.matrices import GATE, inverse_ratio

# Panels of equal and of unequal width; no rows, and one.
SHAPES = [(40, 259), (1, 257), (0, 256)]


@pytest.fixture(params=[1, 2])
def threads(request, set_threads):
    """Both ways of PyTorch on the CPU: NumPy's, and its own."""
    set_threads(request.param)
    return request.param


@pytest.fixture(
    params=["numpy", "strict", "torch-1", "torch-2", "compiled", "jax", "jit"]
)
def library(request, monkeypatch):
    """A backend, and a transformation of its functions."""
    name = request.param
    if name == "numpy":
        yield load_backend("numpy"), lambda f: f
    elif name == "strict":
        strict = pytest.importorskip("array_api_strict")
        yield backend_of(strict.ones(1)), lambda f: f
    elif name in {"jax", "jit"}:
        jax = request.getfixturevalue("jax")
        monkeypatch.setattr(
            importlib.import_module("kfac_backends.jax"), "PANELS_FROM_WORK", 0
        )
        yield load_backend("jax"), jax.jit if name == "jit" else lambda f: f
    else:
        torch = request.getfixturevalue("torch")
        request.getfixturevalue("set_threads")(1 if name == "torch-1" else 2)

        def compiled(function):
            return torch.compile(function, fullgraph=True, backend="aot_eager")

        torch._dynamo.reset()
        yield load_backend("torch"), compiled if name == "compiled" else lambda f: f


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gram_is_exact_to_rounding_and_symmetric(library, rng, dtype):
    backend, transform = library
    gram = transform(backend.gram)
    unit = np.finfo(dtype).eps / 2
    for rows, n in SHAPES:
        values = rng.standard_normal((rows, n)) * np.geomspace(1e-3, 1e3, n)
        values = values.astype(dtype)
        found = backend.to_numpy(gram(backend.from_numpy(values)))
        assert found.dtype == dtype
        assert np.array_equal(found, found.T)
        wide = values.astype(np.longdouble)
        bound = (rows + 4) * unit * (abs(wide).T @ abs(wide))
        assert np.all(abs(found - wide.T @ wide) <= bound)


def test_nan_spoils_its_row_and_column_alone(library, rng):
    backend, transform = library
    values = rng.standard_normal((20, 260))
    values[3, 130] = np.nan
    found = backend.to_numpy(transform(backend.gram)(backend.from_numpy(values)))
    spoilt = np.zeros((260, 260), bool)
    spoilt[130, :] = spoilt[:, 130] = True
    assert np.array_equal(np.isnan(found), spoilt)


@pytest.mark.parametrize("n", [130, 300])
def test_inverse_is_exact_to_rounding_and_symmetric(library, rng, n):
    backend, transform = library
    basis, _ = np.linalg.qr(rng.standard_normal((n, n)))
    invert = transform(lambda a: backend.cholesky_inverse(backend.cholesky(a)))
    for dtype in ("float32", "float64"):
        hard = np.geomspace(1, (0.1 / np.finfo(dtype).eps) ** -0.5, n)
        matrix = ((basis * hard) @ basis.T).astype(dtype)
        matrix = np.tril(matrix) + np.tril(matrix, -1).T
        found = backend.to_numpy(invert(backend.from_numpy(matrix)))
        assert found.dtype == dtype
        assert np.array_equal(found, found.T)
        assert inverse_ratio(matrix, found) <= GATE


def test_inverse_does_not_depend_on_the_order_in_memory(library, rng):
    backend, transform = library
    invert = transform(backend.cholesky_inverse)
    for n in (5, 260):
        lower = np.tril(rng.standard_normal((n, n))) / n + np.eye(n)
        found, expected = (
            backend.to_numpy(invert(backend.from_numpy(x)))
            for x in (lower, np.array(lower, order="F"))
        )
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_allclose(found @ lower @ lower.T, np.eye(n), atol=1e-10)


def test_layouts_of_numpy_arrays(rng):
    gram = load_backend("numpy").gram
    whole = rng.standard_normal((60, 80))
    read_only = whole.copy()
    read_only.flags.writeable = False
    for x in (
        read_only,
        whole.T,
        whole[:, 3:70],
        whole[5:, ::2],
        whole[::-3, ::-1],
        whole[:, :0],
        np.broadcast_to(whole[0], (7, 80)),
    ):
        found = gram(x)
        assert np.array_equal(found, found.T)
        assert found.flags.c_contiguous
        np.testing.assert_allclose(found, x.T.copy() @ x, rtol=1e-12, atol=1e-12)


def test_layouts_of_tensors(torch, threads, rng):
    gram = load_backend("torch").gram
    whole = torch.from_numpy(rng.standard_normal((60, 80)))
    for x in (whole, whole.mT, whole[:, 3:70], whole[5:, ::2], whole[:, :0]):
        found = gram(x)
        assert torch.equal(found, found.mT)
        assert found.is_contiguous()
        torch.testing.assert_close(found, x.mT.contiguous() @ x)
    parameter = torch.nn.Parameter(whole)
    assert gram(parameter).requires_grad
    with torch.no_grad():
        assert not gram(parameter).requires_grad


def test_results_are_no_views_of_their_arguments(torch, threads):
    backend = load_backend("torch")
    one = torch.eye(3)
    for function in (backend.gram, backend.cholesky, backend.cholesky_inverse):
        function(one)[...] = 7
    assert torch.equal(one, torch.eye(3))


@pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")
def test_what_watches_operations_sees_them(torch, threads, rng):
    from torch.autograd import forward_ad
    from torch.utils.flop_counter import FlopCounterMode

    backend = load_backend("torch")
    x = torch.from_numpy(rng.standard_normal((20, 4)))
    with FlopCounterMode(display=False) as counter:
        backend.gram(x)
    assert counter.get_total_flops() == 2 * 20 * 4 * 4
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(x, torch.ones_like(x))
        tangent = forward_ad.unpack_dual(backend.gram(dual)).tangent
    ones = torch.ones_like(x)
    torch.testing.assert_close(tangent, ones.mT @ x + x.mT @ ones)
    expected = 2 * x @ torch.ones(4, 4, dtype=x.dtype)
    x.requires_grad_(True)
    backend.gram(x).sum().backward()
    torch.testing.assert_close(x.grad, expected)


def test_one_thread_computes_on_the_memory_of_a_tensor(torch, threads, monkeypatch):
    module = importlib.import_module("kfac_backends.torch")
    seen = []
    monkeypatch.setattr(
        module.on_host, "gram", lambda a: seen.append(a.ctypes.data) or a.T @ a
    )
    for dtype in (torch.float32, torch.float64, torch.float16):
        seen.clear()
        x = torch.ones((3, 2), dtype=dtype)
        load_backend("torch").gram(x)
        at_home = threads > 1 or dtype == torch.float16
        assert seen == ([] if at_home else [x.data_ptr()])


def test_jax_maps_and_differentiates_large_ones(jax, rng):
    backend = load_backend("jax")
    x = backend.from_numpy(rng.standard_normal((2, 3, 257)))
    mapped = jax.jit(jax.vmap(backend.gram))(x)
    np.testing.assert_allclose(mapped[1], backend.gram(x[1]), rtol=1e-12, atol=1e-12)
    gradient = jax.jit(jax.grad(lambda a: backend.gram(a).sum()))(x[0])
    expected = 2 * np.asarray(x[0]).sum(1, keepdims=True) * np.ones((1, 257))
    np.testing.assert_allclose(gradient, expected, rtol=1e-10)
    single = x.astype("float32")
    mapped = jax.jit(jax.vmap(backend.gram))(single)
    np.testing.assert_allclose(mapped, single.mT @ single, rtol=1e-4, atol=1e-4)


def test_panels_leave_out_three_eighths(torch):
    from torch.utils.flop_counter import FlopCounterMode

    x = torch.ones((16, 512))
    with FlopCounterMode(display=False) as counter:
        load_backend("torch").gram(x)
    whole = 2 * 16 * 512 * 512
    assert Fraction(counter.get_total_flops(), whole) == 1 - Fraction(3, 8)
