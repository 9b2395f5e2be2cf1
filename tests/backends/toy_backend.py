"""A small array library and its backend, as a third party would write them.

The arrays follow the standard as far as `kfac_backends.array_api` needs it: a NumPy
array inside, and a namespace whose functions unwrap and wrap.
"""

import types

import numpy as np

from kfac_backends.array_api import ArrayAPIBackend
from kfac_backends.probe import LINALG, OPERATORS


class ToyArray:
    def __init__(self, values):
        self.values = values

    shape = property(lambda self: self.values.shape)
    ndim = property(lambda self: self.values.ndim)
    dtype = property(lambda self: self.values.dtype)
    device = property(lambda self: "toy box")
    mT = property(lambda self: ToyArray(self.values.mT))  # noqa: N815

    def __array_namespace__(self, api_version=None):
        return namespace


def _unwrap(x):
    if isinstance(x, list):
        return [_unwrap(part) for part in x]
    return x.values if isinstance(x, ToyArray) else x


def _wrap(x):
    if isinstance(x, tuple):
        return tuple(_wrap(part) for part in x)
    return ToyArray(np.asarray(x)) if isinstance(x, np.ndarray | np.generic) else x


def _wrapped(function):
    def call(*args, device="toy box", **kwargs):
        assert device in {None, "toy box"}
        unwrapped = {name: _unwrap(x) for name, x in kwargs.items()}
        return _wrap(function(*map(_unwrap, args), **unwrapped))

    return call


for _name in OPERATORS:
    setattr(ToyArray, _name, _wrapped(getattr(np.ndarray, _name)))


class ToyNamespace:
    """NumPy's functions for toy arrays; its dtypes as they are."""

    __name__ = "toy_backend"
    linalg = types.SimpleNamespace(
        **{name: _wrapped(getattr(np.linalg, name)) for name in LINALG}
    )

    def __getattr__(self, name):
        found = getattr(np, name)
        return found if isinstance(found, type) else _wrapped(found)


namespace = ToyNamespace()


class ToyBackend(ArrayAPIBackend):
    def to_numpy(self, x):
        return x.values.copy()


backend = ToyBackend(namespace, "toy")
