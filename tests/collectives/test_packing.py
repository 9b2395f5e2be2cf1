"""Buffers hold half of each symmetric matrix, and give all of it back, bit for bit."""

import numpy as np
import pytest

from benchmarks.layer_lists import resnet50
from kfac_core import backend_of
from kfac_core.collectives import packed, packed_size, unpacked

MiB = 2**20


def symmetric(rng, *shape):
    x = rng.normal(size=shape)
    return x + np.swapaxes(x, -1, -2)


def arrays(rng):
    own = [symmetric(rng, n, n) for n in (1, 2, 3, 4, 5, 8, 9)]
    own += [symmetric(rng, 2, 3, 3), symmetric(rng, 2, 3, 4, 4)]
    own += [np.asarray([[np.inf, np.nan], [np.nan, -np.inf]])]
    whole = [rng.normal(size=shape) for shape in ((), (3,), (3, 4), (4, 4))]
    return [*own, *whole], [True] * len(own) + [False] * len(whole)


def test_arrays_come_back_bit_for_bit(library, rng):
    given, are_symmetric = arrays(rng)

    def there_and_back(*own):
        backend = backend_of(own[0])
        (buffer,) = packed(backend, own, are_symmetric)
        return unpacked(backend, [buffer], own, are_symmetric)

    own = [library.asarray(x) for x in given]
    for x, y in zip(library.compiled(there_and_back)(*own), given, strict=True):
        np.testing.assert_array_equal(library.to_numpy(x), y, strict=True)


def test_each_dtype_has_a_buffer_and_flags_are_bytes(library):
    given = [np.eye(2), np.asarray(True), np.ones(3, np.float32), np.asarray(False)]
    own = [library.asarray(x) for x in given]
    backend = backend_of(own[0])
    buffers = packed(backend, own, [True, False, False, False])
    xp = backend.xp
    assert [x.dtype for x in buffers] == [xp.float64, xp.int8, xp.float32]
    assert [x.shape[0] for x in buffers] == [3, 2, 3]
    found = unpacked(backend, buffers, own, [True, False, False, False])
    for x, y in zip(found, given, strict=True):
        np.testing.assert_array_equal(library.to_numpy(x), y, strict=True)


@pytest.mark.parametrize("n", [1, 2, 3, 6, 7])
def test_a_triangle_has_no_number_twice(n, rng):
    a = symmetric(rng, n, n)
    (buffer,) = packed(backend_of(a), [a], [True])
    assert buffer.size == packed_size(n)
    np.testing.assert_array_equal(np.sort(buffer), np.sort(a[np.tril_indices(n)]))


def test_a_matrix_that_is_not_symmetric_does_not_come_back(rng):
    a = rng.normal(size=(4, 4))
    backend = backend_of(a)
    (found,) = unpacked(backend, packed(backend, [a], [True]), [a], [True])
    assert np.any(found != a)


def test_the_factors_of_resnet_50_are_half_as_many_bytes():
    sizes = [n for layer in resnet50() for n in layer]
    assert round(4 * sum(n * n for n in sizes) / MiB) == 587
    assert round(4 * sum(map(packed_size, sizes)) / MiB) == 294
