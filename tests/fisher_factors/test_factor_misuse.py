"""What is read too early, of another spec, or beside another library is refused."""

import numpy as np
import pytest
from factor_case import ID, NumPy
from factor_cases import FACTORS, ROWS

import kfac_core as kc

READS = {
    "matpower": lambda spec, state: spec.get_matpower(state, -1),
    "first power": lambda spec, state: spec.get_matpower(state, 1),
    "inverse": lambda spec, state: spec.get_inverse(state),
    "cholesky": lambda spec, state: spec.get_cholesky(state),
    "cholesky inverse": lambda spec, state: spec.get_cholesky_inverse(state),
    "eigenvalues": lambda spec, state: spec.get_eigenvalues(state),
    "eigenvectors": lambda spec, state: spec.get_eigenvectors(state),
}


@pytest.fixture
def library(plain_library):
    return plain_library


@pytest.fixture(params=FACTORS)
def case(request):
    return FACTORS[request.param]


def assert_refused(call, error, builtin, *words):
    with pytest.raises(error) as caught:
        call()
    assert isinstance(caught.value, kc.KfacError)
    assert isinstance(caught.value, builtin)
    for word in words:
        assert word in str(caught.value)


def test_what_was_never_computed(library, case, rng):
    spec = case.make(name="fc9", **case.all_served(-1, 1))
    state = case.given(library, spec, case.draw(rng, 6))
    reads = list(READS.values())[: 3 if case.powers_alone else None]
    for read in reads:
        assert_refused(
            lambda read=read: read(spec, state),
            kc.errors.NotComputedError,
            RuntimeError,
            "fc9",
            "update_inverses",
        )


def test_statistics_that_were_never_updated(library, case):
    spec = case.make(name="fc9", **case.all_served(-1, 1))
    state = spec.init(library.asarray(np.zeros(1)))
    words = ("fc9", "update_cov")
    for call in (
        lambda: spec.get_cov(state),
        lambda: spec.get_cov_var(state),
        lambda: spec.trace(state),
        lambda: spec.get_eigendecomp(state),
        lambda: spec.update_inverses(state, 0.1),
    ):
        assert_refused(call, kc.errors.NotComputedError, RuntimeError, *words)


def test_what_was_never_registered(library, case, rng):
    spec = case.make(name="fc9", matpowers=((2, "other"),))
    state = case.updated(NumPy(), spec, case.draw(rng, 6))
    state = library.moved(spec.update_inverses(state, 0.1))
    words = ("fc9", "not registered", "(2.0, 'other')", "init_inverses")
    for read in READS.values():
        assert_refused(
            lambda read=read: read(spec, state),
            kc.errors.NotRegisteredError,
            KeyError,
            *words,
        )


def test_a_damping_id_that_was_never_registered(library, rng):
    spec = ROWS.make(name="fc9", matpowers=(-1,), cholesky=ID)
    state = ROWS.updated(NumPy(), spec, ROWS.draw(rng, 6))
    state = library.moved(spec.update_inverses(state, 0.1))
    for call in (
        lambda: spec.get_matpower(state, 1, "other"),
        lambda: spec.get_inverse(state, "other"),
        lambda: spec.get_cholesky(state, "other"),
    ):
        words = ("fc9", "'other'", "not registered")
        assert_refused(call, kc.errors.NotRegisteredError, KeyError, *words)


def test_a_state_of_half_precision(library, rng):
    if not library.half_types:
        return  # the library has no such dtype
    spec = ROWS.make(name="fc9")
    state = ROWS.given(library, spec, ROWS.draw(rng, 6))
    total = library.half(library.to_numpy(state.cov.total), "float16")
    state = state._replace(cov=state.cov._replace(total=total))
    words = ("fc9", "float16", "float32 or float64")
    assert_refused(lambda: spec.get_cov(state), kc.errors.DTypeError, TypeError, *words)


def test_a_state_of_another_size(library, rng):
    spec, other = ROWS.make(), kc.factors.FullyConnectedKroneckerFactor(4, name="fc9")
    data = ROWS.draw(rng, 6)
    state = ROWS.given(library, spec, data)
    for call in (
        lambda: other.get_cov(state),
        lambda: other.update_inverses(state, 0.1),
        lambda: other.update_cov(state, library.asarray(np.ones((2, 4))), 0.5),
    ):
        words = ("fc9", "(3, 3)", "(4, 4)", "another spec")
        assert_refused(call, kc.errors.ShapeError, ValueError, *words)


def test_a_state_of_a_spec_that_served_less(library, case, rng):
    spec = case.make(name="fc9", matpowers=(-0.5,))
    state = case.updated(NumPy(), spec, case.draw(rng, 6))
    state = library.moved(spec.update_inverses(state, 0.1))
    others = () if case.powers_alone else ("cholesky", "cholesky_inverse")
    for what in ("inverse", *others):
        more = getattr(spec, f"register_{what}")()
        read = getattr(more, f"get_{what}")
        assert_refused(
            lambda read=read: read(state),
            kc.KfacError,
            ValueError,
            "fc9",
            "init_inverses",
        )


def test_arrays_of_two_libraries(library, rng):
    # Beside an array of NumPy, or for NumPy of array-api-strict.
    strict = pytest.importorskip("array_api_strict")
    other = strict.asarray if library.package == "numpy" else np.asarray
    spec = ROWS.make(matpowers=(-1,))
    (rows,) = ROWS.draw(rng, 6)
    state = ROWS.given(library, spec, (rows,))
    both = [library.asarray(rows), other(rows)]
    served = spec.update_inverses(state, 0.1)
    for argument, call in {
        "tensors": lambda: spec.update_cov(state, both[1], ema_decay=0.5),
        "state, tensors": lambda: spec.update_cov(state, tuple(both), ema_decay=0.5),
        "ema_decay": lambda: spec.update_cov(state, both[0], ema_decay=other(0.5)),
        "damping": lambda: spec.update_inverses(state, other(0.5)),
        "x": lambda: spec.left_multiply_matpower(served, other(np.eye(3)), -1),
    }.items():
        words = (f"{argument}: ", library.package, "numpy", "two libraries")
        assert_refused(call, kc.errors.BackendError, TypeError, *words)


def test_arrays_on_two_devices():
    strict = pytest.importorskip("array_api_strict")
    spec = ROWS.make()
    here, there = (
        strict.ones((2, 3), device=strict.Device(name))
        for name in ("device1", "device2")
    )
    state = spec.init(here)
    for call in (
        lambda: spec.update_cov(state, there, ema_decay=0.5),
        lambda: spec.update_cov(state, (here, there), ema_decay=0.5),
    ):
        words = ("device1", "device2")
        assert_refused(call, kc.errors.BackendError, TypeError, *words)


@pytest.mark.parametrize(
    "rows", [[[1.0, 2.0, 3.0]], 1.0, "rows", None, [None, None]], ids=repr
)
def test_what_is_no_array(library, rows):
    spec = ROWS.make(name="fc9")
    state = spec.init(library.asarray(np.zeros(1)))
    assert_refused(
        lambda: spec.update_cov(state, rows, ema_decay=0.5),
        kc.KfacError,
        TypeError,
        "expected an array",
    )


@pytest.mark.parametrize("x", [np.eye(2), np.ones(4), np.ones((3, 3, 1))], ids=np.shape)
def test_products_with_another_size(library, rng, x):
    spec = ROWS.make(name="fc9", matpowers=(-1,))
    state = ROWS.updated(NumPy(), spec, ROWS.draw(rng, 6))
    state = library.moved(spec.update_inverses(state, 0.1))
    for multiply in (spec.left_multiply_matpower, spec.right_multiply_matpower):
        assert_refused(
            lambda multiply=multiply: multiply(state, library.asarray(x), -1),
            kc.errors.ShapeError,
            ValueError,
            "fc9: x",
            "expected",
        )


@pytest.mark.parametrize("dtype", ["int64", "bool", "complex128"])
def test_products_with_what_is_not_real(library, rng, dtype):
    spec = ROWS.make(name="fc9", matpowers=(-1,))
    state = ROWS.updated(NumPy(), spec, ROWS.draw(rng, 6))
    state = library.moved(spec.update_inverses(state, 0.1))
    x = library.asarray(np.eye(3).astype(dtype))
    assert_refused(
        lambda: spec.left_multiply_matpower(state, x, -1),
        kc.errors.DTypeError,
        TypeError,
        "fc9: x",
        dtype,
    )


@pytest.mark.parametrize("dtype", ["int64", "bool", "complex128"])
def test_states_like_what_is_not_real(library, dtype):
    like = library.asarray(np.zeros(1, dtype))
    assert_refused(
        lambda: ROWS.make(name="fc9").init(like),
        kc.errors.DTypeError,
        TypeError,
        "fc9: like",
        dtype,
    )


@pytest.mark.parametrize("options", [{"dtype": "float16"}, {"repeated_ids": "twice"}])
def test_unknown_options_of_embeddings(options):
    assert_refused(
        lambda: kc.factors.EmbeddingInputKroneckerFactor(5, **options, name="fc9"),
        kc.errors.ArgumentError,
        ValueError,
        "fc9",
        *options,
        *options.values(),
    )


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_a_kernel_that_does_not_fit(library, layout):
    spec = kc.factors.ConvInputKroneckerFactor(
        kc.ConvolutionGeometry((3, 3, 1, 2), padding="VALID", data_format=layout),
        name="fc9",
    )
    shape = (2, 2, 4, 1) if layout == "NHWC" else (2, 1, 2, 4)
    state = spec.init(library.asarray(np.zeros(1)))
    words = ("fc9", "inputs", "(2, 4)", "(3, 3)", "does not fit")
    assert_refused(
        lambda: spec.update_cov(state, library.asarray(np.ones(shape)), 0.5),
        kc.errors.ShapeError,
        ValueError,
        *words,
    )
