"""What only PyTorch has: layouts, autocast, TF32, generators with a device."""

import numpy as np
import pytest

import kfac_core as kc
from kfac_core import registry
from kfac_core.registry import backend_of, load_backend


@pytest.fixture
def backend(torch):
    return load_backend("torch")


def test_sparse_and_quantized_tensors_are_refused(torch, backend):
    with pytest.raises(TypeError, match=r"got a torch\.sparse_coo one: convert"):
        backend.check(torch.eye(3).to_sparse())
    with pytest.raises(TypeError, match=r"expected a torch\.Tensor, got Size"):
        backend_of(torch.Size([3]))


def test_parameters_are_arrays(torch, backend):
    assert backend_of(torch.nn.Parameter(torch.ones(3)), torch.ones(2)) is backend


def test_parameters_are_known_with_the_first_tensor(torch, monkeypatch):
    # The compiler cannot trace the looking up of a type.
    monkeypatch.setattr(registry, "BACKEND_OF_TYPE", {})
    backend_of(torch.ones(1))
    assert torch.nn.Parameter in registry.BACKEND_OF_TYPE


def test_meta_tensors_have_no_value(torch, backend):
    x = torch.ones((3, 2), device="meta")
    assert backend.is_traced(x)
    assert backend.gram(x).shape == (2, 2)


def test_products_keep_float32_under_autocast(torch, backend, rng):
    a, b = (torch.from_numpy(rng.normal(size=(64, 8))).float() for _ in range(2))
    outside = backend.matmul(a.mT, b)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(backend.matmul(a.mT, b), outside)
        assert (a.mT @ b).dtype == torch.bfloat16


def test_gram_keeps_float32_under_autocast(torch, backend, rng):
    x = backend.from_numpy(rng.standard_normal((50, 4)).astype("float32"))
    outside = backend.gram(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (x.mT @ x).dtype == torch.bfloat16
        inside = backend.gram(x)
        compiled = torch.compile(backend.gram, fullgraph=True, backend="aot_eager")(x)
    assert torch.equal(inside, outside)
    torch.testing.assert_close(compiled, outside, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
def test_tf32_is_off_for_a_product_and_the_setting_is_kept(torch, precision):
    from kfac_backends.torch_precision import tf32_disabled

    settings = torch.backends.cuda.matmul
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision(precision)
        chosen = settings.fp32_precision
        with tf32_disabled():
            assert settings.fp32_precision == "ieee"
        assert settings.fp32_precision == chosen
        assert torch.get_float32_matmul_precision() == precision
    finally:
        torch.set_float32_matmul_precision(before)


def test_gradients_pass_until_they_are_stopped(torch, backend):
    x = torch.ones((3, 2), requires_grad=True)
    assert backend.gram(x).requires_grad
    assert not backend.gram(backend.stop_gradient(x)).requires_grad


def test_bfloat16_becomes_float32_in_numpy(torch, backend):
    values = backend.to_numpy(torch.tensor([1.0, 2.5], dtype=torch.bfloat16))
    assert values.dtype == np.float32
    assert values.tolist() == [1.0, 2.5]


def test_keys_of_another_kind_or_device_are_refused(torch, backend):
    with pytest.raises(TypeError, match=r"expected a torch\.Generator as key, got int"):
        backend.uniform(0, (2,), torch.float32, None)
    with pytest.raises(TypeError, match=r"Generator on cpu, but numbers on cuda:0"):
        backend.normal(torch.Generator(), (2,), torch.float32, torch.device("cuda:0"))


@pytest.mark.parametrize("threads", [1, 2])
def test_what_overflows_is_told_by_an_error_alone(torch, set_threads, threads):
    set_threads(threads)
    factor = kc.blocks.FullyConnectedKFACBasicFB(300, 1).input_factor
    x = torch.full((40, 300), 1e30)
    with pytest.raises(kc.errors.NotFiniteError, match="overflow"):
        factor.update_cov(factor.init(like=x), x, 0.9)


def test_float8_tensors_are_refused_by_name(torch):
    block = kc.blocks.FullyConnectedKFACBasicFB(3, 2, name="layer")
    x = torch.ones(4, 3)
    short = x.to(torch.float8_e4m3fn)
    with pytest.raises(TypeError, match=r"^layer: .* tensor of torch\.float8_e4m3fn"):
        block.update_covs(block.init(like=x), short, x[:, :2], 0.9)


def test_distributed_tensors_are_refused_by_name(torch, backend):
    kind = type("DTensor", (torch.Tensor,), {"__module__": "torch.distributed.tensor"})
    x = torch.ones(4, 3).as_subclass(kind)
    with pytest.raises(TypeError, match=r"got a DTensor, .* give \.full_tensor\(\)"):
        backend_of(x)
