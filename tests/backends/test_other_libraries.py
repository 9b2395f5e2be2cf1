"""Arrays of libraries that have no backend here, but the standard."""

import numpy as np
import pytest
from scipy import sparse

from kfac_backends.array_api import backend_for
from kfac_core.errors import BackendError
from kfac_core.registry import backend_of


class OnAccelerator:
    """An array that is copied to the host where DLPack is asked for that."""

    def __init__(self, values, device=14):  # DLPack's number of oneAPI
        self.values, self.on = values, device

    def __dlpack_device__(self):
        return self.on, 0

    def __dlpack__(self, *, dl_device=None, **options):
        if self.on != 1 and dl_device != (1, 0):
            raise BufferError("not on the host")
        return self.values.__dlpack__(**options)


@pytest.mark.parametrize("device", [1, 2, 14])
def test_an_array_of_any_device_is_copied_to_the_host(device):
    values = np.arange(6.0).reshape(2, 3)
    copied = backend_for(np).to_numpy(OnAccelerator(values, device))
    assert np.array_equal(copied, values)
    copied[...] = 0.0
    assert values.any()


def test_a_library_that_names_no_namespace_is_refused():
    class Other:
        def __array_namespace__(self):
            raise ModuleNotFoundError("No module named 'strict'")

    message = r"Other names no namespace .* ModuleNotFoundError: No module named"
    with pytest.raises(BackendError, match=message):
        backend_of(Other())


@pytest.mark.parametrize("kind", [sparse.csr_array, sparse.coo_matrix])
def test_a_sparse_matrix_is_told_to_be_made_dense(kind):
    with pytest.raises(BackendError, match=r"got scipy\.sparse.* with \.toarray\(\)"):
        backend_of(kind(np.eye(3)))
