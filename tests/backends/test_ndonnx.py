"""A step that ndonnx records is, in onnxruntime, that of NumPy."""

import numpy as np
import pytest

from kfac_core import backend_of, blocks, tree
from kfac_core.errors import ShapeError
from kfac_core.testing.families import FAMILIES, step_of

ndonnx = pytest.importorskip("ndonnx")
onnxruntime = pytest.importorskip("onnxruntime")

FREE = ("fully_connected_pi", "fully_connected_diagonal")
FIXED = ("convolution", "shared_layer", "embedding")


class Recorded:
    """What a function makes of arguments, as a graph.

    Args:
        function: Takes trees of arrays.
        free: Whether the first axis of what the first tree holds is of any length.
        given: Trees of NumPy's arrays, for their shapes.
    """

    def __init__(self, function, free, *given):
        self.inputs = {}

        def argument(x, size):
            name = f"x{len(self.inputs)}"
            dtype = ndonnx.int64 if x.dtype.kind == "i" else ndonnx.float64
            shape = (*size, *x.shape[len(size) :])
            self.inputs[name] = ndonnx.argument(shape=shape, dtype=dtype)
            return self.inputs[name]

        sizes = [("N",) if free else (), *[()] * (len(given) - 1)]
        trees = [
            tree.map(lambda x, size=size: argument(x, size), part)
            for part, size in zip(given, sizes, strict=True)
        ]
        outputs = tree.leaves(function(*trees))
        named = {f"y{i}": y for i, y in enumerate(outputs)}
        self.graph = ndonnx.build(self.inputs, named)
        self.session = onnxruntime.InferenceSession(
            self.graph.SerializeToString(), providers=["CPUExecutionProvider"]
        )

    def __call__(self, *given):
        values = tree.leaves(given)
        return self.session.run(None, dict(zip(self.inputs, values, strict=True)))


def assert_same(found, expected):
    for x, y in zip(found, tree.leaves(expected), strict=True):
        np.testing.assert_allclose(x, y, rtol=0, atol=1e-12 * np.abs(y).max())


@pytest.mark.parametrize("name", FREE)
def test_one_graph_takes_batches_of_any_size(name):
    family = FAMILIES[name]
    recorded = Recorded(lambda *x: step_of(family, *x), True, *family[1:])
    half = tree.map(lambda x: x[:3], family.data)
    for data in (family.data, half):
        found = recorded(data, family.vector)
        assert_same(found, step_of(family, data, family.vector))


@pytest.mark.parametrize("name", FIXED)
def test_a_graph_takes_a_batch_of_its_size(name):
    family = FAMILIES[name]
    recorded = Recorded(lambda *x: step_of(family, *x), False, *family[1:])
    assert_same(recorded(*family[1:]), step_of(family, *family[1:]))


@pytest.mark.parametrize(
    "name", ["convolution", "shared_layer", "low_rank", "embedding"]
)
def test_what_needs_the_number_of_cases_says_so(name):
    family = FAMILIES[name]
    with pytest.raises(ShapeError, match=r"has shape \(None,.*any length"):
        Recorded(lambda *x: step_of(family, *x), True, *family[1:])


@pytest.mark.parametrize("option", ["weights", "num_cases"])
def test_weights_beside_any_number_of_rows_are_refused(option):
    x = ndonnx.argument(shape=("N", 3), dtype=ndonnx.float64)
    given = {option: x[:, 0] if option == "weights" else 4}
    for spec, data in (
        (blocks.FullyConnectedKFACBasicFB(3, 3), (x, x)),
        (blocks.FullyConnectedDiagonalFB(3, 3), (x, x)),
    ):
        with pytest.raises(ShapeError, match=r"any length \(None\)"):
            spec.update_covs(spec.init(like=x), *data, ema_decay=0.9, **given)


def test_an_eigendecomposition_is_refused_by_name():
    family = FAMILIES["fully_connected_exact"]
    with pytest.raises(NotImplementedError, match="ONNX has no eigendecomposition"):
        Recorded(lambda *x: step_of(family, *x), True, *family[1:])


def test_qr_is_that_of_the_matrix_or_refused_by_name(rng):
    a = rng.normal(size=(3, 3))
    backend = backend_of(ndonnx.asarray(a))
    q, r = map(backend.to_numpy, backend.qr(ndonnx.asarray(a)))
    np.testing.assert_allclose(q @ r, a, atol=1e-14)
    with pytest.raises(NotImplementedError, match="ONNX has no QR factorisation"):
        backend.qr(ndonnx.argument(shape=(3, 3), dtype=ndonnx.float64))


@pytest.mark.parametrize("transpose", [False, True])
def test_factorisations_are_those_of_the_matrix(rng, transpose):
    rows, b = rng.normal(size=(6, 4)), rng.normal(size=(4, 2))
    backend = backend_of(ndonnx.asarray(rows))
    a = rows.T @ rows
    factor = backend.cholesky(ndonnx.asarray(a))
    lower = backend.to_numpy(factor)
    np.testing.assert_allclose(lower, np.linalg.cholesky(a), rtol=1e-12, atol=1e-13)
    found = backend.solve_triangular(factor, ndonnx.asarray(b), transpose=transpose)
    system = lower.T if transpose else lower
    np.testing.assert_allclose(system @ backend.to_numpy(found), b, rtol=1e-12)


@pytest.mark.parametrize("last", [-1.0, 0.0, np.nan])
def test_a_wrong_pivot_in_a_graph_gives_no_factor(last):
    a = np.diag([1.0, 2.0, last])
    recorded = Recorded(lambda x: backend_of(x).cholesky(x), False, a)
    assert np.isnan(recorded(a)[0]).all()
