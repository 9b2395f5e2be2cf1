"""The data: 1,797 handwritten digits of 8 x 8 pixels, which scikit-learn carries.

Alpaydin & Kaynak (1998), UCI Machine Learning Repository, "Optical Recognition of
Handwritten Digits". Nothing is downloaded.
"""

from numbers import Integral
from typing import NamedTuple

import numpy as np

from kfac_core.backend import Backend
from kfac_core.errors import ArgumentError
from kfac_core.typing import Array


class Digits(NamedTuple):
    """Images and labels, for training and for testing.

    Attributes:
        x_train: ``[1437, 8, 8, 1]``, float32, of mean 0 and variance 1 over all pixels.
        y_train: ``[1437]``, 0 to 9.
        x_test: ``[360, 8, 8, 1]``.
        y_test: ``[360]``.
    """

    x_train: Array
    y_train: Array
    x_test: Array
    y_test: Array


def load_digits(backend: Backend, seed: int) -> Digits:
    """Return the digits as arrays of a library, shuffled and split by the seed.

    Raises:
        ArgumentError: If the seed is no integer from zero.
    """
    given: object = seed
    is_integer = isinstance(given, Integral) and not isinstance(given, bool)
    if not is_integer or seed < 0:
        msg = f"seed is {given!r}, expected an integer that is not negative"
        raise ArgumentError(msg)
    from sklearn import datasets

    images, labels = datasets.load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(labels))
    images = (images - images.mean()) / images.std()
    x = images.astype(np.float32).reshape(-1, 8, 8, 1)[order]
    y = labels.astype(np.int32)[order]
    split = len(y) * 4 // 5
    parts = (x[:split], y[:split], x[split:], y[split:])
    return Digits(*map(backend.from_numpy, parts))
