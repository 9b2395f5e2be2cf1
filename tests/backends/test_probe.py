"""A library that lacks something of the standard is told all of it, in one error."""

import re
import warnings
from types import SimpleNamespace

import numpy as np
import pytest

from kfac_backends.probe import lacking
from kfac_core.errors import BackendError
from kfac_core.registry import backend_of


def numpy_but(**changes):
    """Return NumPy's namespace with other functions; None takes one away."""
    members = {**vars(np), "linalg": np.linalg, "__name__": "other", **changes}
    return SimpleNamespace(**{k: v for k, v in members.items() if v is not None})


def linalg_but(**changes):
    return SimpleNamespace(**{**vars(np.linalg), **changes})


def unavailable(*args, **kwargs):
    raise NotImplementedError


def upper(a):
    return np.linalg.cholesky(a, upper=True)


def by_arithmetic(condition, x, y):
    return condition * x + ~condition * y


def test_numpy_lacks_nothing():
    assert lacking(np, np.ones(1)) == []


@pytest.mark.parametrize(
    ("library", "lacks"),
    [
        (numpy_but(tril=None, eye=None), r"the functions eye, tril"),
        (numpy_but(linalg=None), "the extension linalg"),
        (numpy_but(where=by_arithmetic), r"^where, .* \(the result is another\)"),
        (numpy_but(linalg=linalg_but(cholesky=upper)), "linalg.cholesky, lower"),
        (
            numpy_but(linalg=linalg_but(eigh=unavailable)),
            r"linalg.eigh, ascending \(NotImplementedError: no message\)",
        ),
        (numpy_but(take=None, sort=None), "the functions sort, take"),
        (numpy_but(linalg=linalg_but(qr=np.linalg.eigh)), "linalg.qr, upper"),
        (numpy_but(full=lambda shape, value: value), "full and arange with dtype="),
    ],
)
def test_what_a_library_lacks_is_named(library, lacks):
    found = lacking(library, np.ones(1))
    assert any(re.search(lacks, line) for line in found)


def test_warnings_of_the_library_are_kept_from_the_user():
    class Deprecated(SimpleNamespace):
        def __getattribute__(self, name):
            if name == "tril":
                warnings.warn("tril moves", stacklevel=2)
            return super().__getattribute__(name)

    assert lacking(Deprecated(**vars(numpy_but())), np.ones(1)) == []


def test_what_cannot_be_made_is_told_once():
    def full(shape, value):
        return np.full(shape, value)

    found = lacking(numpy_but(full=full, where=by_arithmetic), np.ones(1))
    (line,) = found
    assert re.search(r"unexpected keyword .*, without which nothing else was", line)


def test_operators_that_raise_are_named():
    class Other(np.ndarray):
        def __rtruediv__(self, other):
            raise TypeError("b" * 200)

    like = np.ones(1).view(Other)
    others = numpy_but(asarray=lambda x, **kwargs: np.asarray(x, **kwargs).view(Other))
    (line,) = lacking(others, like)
    assert re.search(r"with a number on either side \(TypeError: b{100} \.\.\.\)", line)


def test_one_error_names_all_and_says_what_to_do():
    class Other:
        dtype, shape, device = np.dtype("float32"), (), "cpu"

        def __array_namespace__(self):
            return numpy_but(tril=None, where=by_arithmetic)

    message = (
        r"Other lacks .*: the functions tril; the operators __add__, .*; where, .*"
        r"\. Convert such arrays"
    )
    with pytest.raises(BackendError, match=message):
        backend_of(Other())


def test_operators_of_numpy_make_no_array_of_numpy():
    class Other(np.lib.mixins.NDArrayOperatorsMixin):
        dtype, shape = np.dtype("float32"), ()

    with pytest.raises(BackendError, match=r"^expected an array .*, got .*Other"):
        backend_of(Other())
