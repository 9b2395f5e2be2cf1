"""Parameters become one matrix or one vector, and come back as they were."""

import numpy as np
import pytest

from kfac_core import backend_of
from kfac_core.linalg.parameters import (
    matrix_to_params,
    params_to_matrix,
    params_to_vector,
    vector_to_params,
)

SHAPES = {
    "dense": ((3, 2),),
    "with bias": ((3, 2), (2,)),
    "convolution": ((2, 3, 4, 5), (5,)),
    "sequence": ((3, 2, 4),),
    "one": ((1, 1), (1,)),
}


FORMS = [("tuple", name) for name in SHAPES] + [
    ("tensor", name) for name, shapes in SHAPES.items() if len(shapes) == 1
]


@pytest.fixture(params=FORMS, ids="-".join)
def form(request):
    return request.param


@pytest.fixture
def tensors(form, rng):
    return tuple(rng.normal(size=shape) for shape in SHAPES[form[1]])


@pytest.fixture
def params(form, library, tensors):
    arrays = tuple(map(library.asarray, tensors))
    return arrays if form[0] == "tuple" else arrays[0]


def test_round_trips_keep_structure_shapes_and_entries(library, params, tensors):
    backend = backend_of(*params) if isinstance(params, tuple) else backend_of(params)
    for there, back in [
        (params_to_matrix, matrix_to_params),
        (params_to_vector, vector_to_params),
    ]:
        found = back(backend, there(backend, params), params)
        assert type(found) is type(params)
        entries = found if isinstance(found, tuple) else (found,)
        assert len(entries) == len(tensors)
        for entry, tensor in zip(entries, tensors, strict=True):
            np.testing.assert_array_equal(library.to_numpy(entry), tensor)


def test_the_matrix_and_the_vector_are_of_the_same_order(library, params, tensors):
    backend = backend_of(*params) if isinstance(params, tuple) else backend_of(params)
    matrix = library.to_numpy(params_to_matrix(backend, params))
    vector = library.to_numpy(params_to_vector(backend, params))
    np.testing.assert_array_equal(matrix.ravel(), vector)
    np.testing.assert_array_equal(vector, np.concatenate([t.ravel() for t in tensors]))


def test_original_example(library):
    # t40 of the original's suite.
    weights = library.asarray(np.asarray([[1.0, 2.0], [4.0, 3.0]]))
    bias = library.asarray(np.asarray([1.0, 2.0]))
    backend = backend_of(weights)
    matrix = library.to_numpy(params_to_matrix(backend, (weights, bias)))
    assert matrix.tolist() == [[1, 2], [4, 3], [1, 2]]
    vector = library.to_numpy(params_to_vector(backend, (weights, bias)))
    assert vector.tolist() == [1, 2, 4, 3, 1, 2]
