"""What only JAX has: float64 that must be enabled, keys that are arrays, shards."""

import os
import subprocess
import sys

import numpy as np
import pytest

from kfac_core.errors import BackendError
from kfac_core.registry import backend_of, load_backend


@pytest.fixture
def jax_without_x64():
    library = pytest.importorskip("jax")
    with library.enable_x64(False):
        yield library


def test_float64_is_refused_while_it_is_not_enabled(jax_without_x64):
    jax, backend = jax_without_x64, load_backend("jax")
    calls = [
        lambda: backend.from_numpy(np.ones(2)),
        lambda: backend.uniform(jax.random.key(0), (2,), np.float64, None),
        lambda: backend.normal(jax.random.key(0), (2,), np.float64, None),
    ]
    for call in calls:
        with pytest.raises(TypeError, match=r"float64 into float32: .*jax_enable_x64"):
            call()


def test_integers_are_narrowed_only_if_they_fit(jax_without_x64):
    backend = load_backend("jax")
    ids = backend.from_numpy(np.array([7, 2**31 - 1]))
    assert backend.to_numpy(ids).tolist() == [7, 2**31 - 1]
    with pytest.raises(TypeError, match="int64 into int32"):
        backend.from_numpy(np.array([2**31]))


def test_random_keys_are_no_arrays_of_numbers(jax):
    with pytest.raises(BackendError, match=r"expected a numeric jax\.Array"):
        backend_of(jax.random.key(0))


SHARDED = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
from kfac_core.errors import BackendError
from kfac_core.registry import backend_of

mesh = Mesh(np.array(jax.devices()), ("data",))
rows = np.random.default_rng(0).standard_normal((16, 4)).astype("float32")
sharded = jax.device_put(jnp.asarray(rows), NamedSharding(mesh, P("data", None)))
copied = jax.device_put(jnp.eye(4), NamedSharding(mesh, P()))
backend = backend_of(sharded, copied)
beside = backend.creation_device(sharded)
zeros = backend.xp.zeros((3,), device=beside)
assert backend_of(sharded, zeros) is backend
drawn = backend.normal(jax.random.key(0), (3, 2), jnp.float32, beside)
assert backend.device(drawn) == backend.device(sharded)
gram = backend.gram(sharded)
assert np.array_equal(gram, gram.T)
np.testing.assert_allclose(gram, rows.T @ rows, rtol=1e-4, atol=1e-5)
inverse = backend.cholesky_inverse(backend.cholesky(gram))
assert backend.device(inverse) == backend.device(sharded)
ids = jax.device_put(jnp.arange(16) % 3, NamedSharding(mesh, P("data")))
total = backend.scatter_add(3, ids, sharded[:, 0])
np.testing.assert_allclose(total, np.bincount(ids, rows[:, 0]), rtol=1e-5, atol=1e-6)
second = jax.device_put(jnp.ones(3), jax.devices()[1])
assert backend.xp.zeros(2, device=backend.creation_device(second)).devices() == {
    jax.devices()[1]
}
try:
    backend_of(sharded, second)
except BackendError as error:
    assert "two devices" in str(error)
else:
    raise AssertionError
print("done")
"""


def test_arrays_sharded_over_devices_compute_as_one():
    pytest.importorskip("jax")
    flags = os.environ.get("XLA_FLAGS", "") + (
        " --xla_force_host_platform_device_count=4"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SHARDED],
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "done\n", done.stderr


@pytest.mark.parametrize("rows", [4, 5000])
def test_products_without_compilation_are_those_with_it(jax, rng, rows):
    x = rng.normal(size=(rows, 3))
    own = jax.numpy.asarray(x)
    backend = backend_of(own)
    with jax.disable_jit():
        found = backend.gram(own), backend.cross(own, own)
    # Each of the sums has one rounding for a row at most, and a product two.
    bound = (rows + 2) * float(jax.numpy.finfo(own.dtype).eps) * (x * x).sum(0).max()
    for product in found:
        np.testing.assert_allclose(np.asarray(product), x.T @ x, rtol=0, atol=bound)
