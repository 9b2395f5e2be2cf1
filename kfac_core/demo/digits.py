"""The data: 1,797 handwritten digits of 8 x 8 pixels, which scikit-learn carries.

Alpaydin & Kaynak (1998), UCI Machine Learning Repository, "Optical Recognition of
Handwritten Digits". Nothing is downloaded.
"""

from numbers import Integral
from typing import Any, NamedTuple

import numpy as np

from kfac_core.arguments.arrays import backend_for, check_shape
from kfac_core.backend import Backend
from kfac_core.demo.given import check_backend_is_one, check_is
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


def check_seed(seed: object) -> None:
    """Check a seed.

    Raises:
        ArgumentError: If it is no integer from zero.
    """
    given: Any = seed
    is_integer = isinstance(given, Integral) and not isinstance(given, bool)
    fits = is_integer and int(given) >= 0
    check_is(fits, seed, "seed", "an integer that is not negative")


def check_digits(digits: object) -> None:
    """Check that data are images and labels of one library.

    Raises:
        ArgumentError: If they are no digits.
        KfacError: If a part is no array, or of another shape.
    """
    check_is(isinstance(digits, Digits), digits, "digits", "those of load_digits")
    given: Any = digits
    backend_for("demo", "digits", *given)
    for x, y in (given[:2], given[2:]):
        check_shape(x, ("images", 8, 8, 1), "digits", "demo")
        check_shape(y, (x.shape[0],), "digits", "demo")


def load_digits(backend: Backend, seed: int) -> Digits:
    """Return the digits as arrays of a library, shuffled and split by the seed.

    Raises:
        ArgumentError: If the seed is no integer from zero, or there is no backend.
    """
    check_backend_is_one(backend)
    check_seed(seed)
    from sklearn import datasets

    images, labels = datasets.load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(labels))
    images = (images - images.mean()) / images.std()
    x = images.astype(np.float32).reshape(-1, 8, 8, 1)[order]
    y = labels.astype(np.int32)[order]
    split = len(y) * 4 // 5
    parts = (x[:split], y[:split], x[split:], y[split:])
    return Digits(*map(backend.from_numpy, parts))
