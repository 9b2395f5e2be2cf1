"""Every error that this package raises on purpose.

Each is a `KfacError`, and also the built-in exception that users would catch.
"""

import numpy as np

__all__ = [
    "ArgumentError",
    "BackendError",
    "DTypeError",
    "EigendecompositionError",
    "KfacError",
    "NotComputedError",
    "NotFiniteError",
    "NotPositiveDefiniteError",
    "NotRegisteredError",
    "RegistrationError",
    "SavedFileError",
    "ShapeError",
    "StateError",
    "UnsupportedError",
]


class KfacError(Exception):
    """Base class of the errors of this package.

    Example:
        >>> from kfac_core.fisher_factors import NaiveFullFactor
        >>> try:
        ...     NaiveFullFactor(size=0)
        ... except KfacError as error:
        ...     print(type(error).__name__)
        ArgumentError
    """


class BackendError(KfacError, TypeError):
    """No backend, two array libraries, or two devices among the arguments."""


class DTypeError(KfacError, TypeError):
    """An array's data type cannot be used here."""


class ShapeError(KfacError, ValueError):
    """An array's rank or size is not what the layer expects.

    Example:
        >>> import numpy as np
        >>> from kfac_core.fisher_factors import NaiveFullFactor
        >>> factor = NaiveFullFactor(size=2)
        >>> state = factor.init(np.zeros(2))
        >>> try:
        ...     factor.update_cov(state, np.zeros(3), batch_size=1, ema_decay=0.5)
        ... except ShapeError as error:
        ...     print(isinstance(error, ValueError))
        True
    """


class StateError(ShapeError):
    """A state was made by another spec, or an argument is not a state at all."""


class ArgumentError(KfacError, ValueError):
    """A value is not allowed for this argument."""


class RegistrationError(KfacError, ValueError):
    """Layers, losses and parameters of a collection contradict each other."""


class SavedFileError(KfacError, ValueError):
    """A file is not one that `kfac_core.save` wrote, or it is damaged."""


class NotFiniteError(KfacError, ValueError):
    """NaN or infinity in the data, or statistics that overflowed.

    Example:
        >>> import numpy as np
        >>> from kfac_core.fisher_factors import NaiveFullFactor
        >>> factor = NaiveFullFactor(size=1)
        >>> state = factor.init(np.zeros(1))
        >>> nan = np.asarray([np.nan])
        >>> try:
        ...     factor.update_cov(state, nan, batch_size=1, ema_decay=0.5)
        ... except NotFiniteError as error:
        ...     print("nan" in str(error).lower())
        True
    """


class NotPositiveDefiniteError(KfacError, np.linalg.LinAlgError):
    """A factor plus its damping has no Cholesky factor."""


class EigendecompositionError(KfacError, np.linalg.LinAlgError):
    """The library found no eigendecomposition of a matrix that is finite."""


class NotComputedError(KfacError, RuntimeError):
    """Statistics or inverses are read before anything computed them.

    Example:
        >>> import numpy as np
        >>> from kfac_core.fisher_factors import NaiveFullFactor
        >>> factor = NaiveFullFactor(size=1)
        >>> try:
        ...     factor.get_cov(factor.init(np.zeros(1)))
        ... except NotComputedError as error:
        ...     print(isinstance(error, RuntimeError))
        True
    """


class UnsupportedError(KfacError, NotImplementedError):
    """This class does not have something that others of its kind have."""


class NotRegisteredError(KfacError, KeyError):
    """A matrix power or Cholesky factor is read that the spec does not serve."""

    def __str__(self) -> str:
        """Return the message itself: `KeyError` would print its repr."""
        return str(self.args[0]) if self.args else ""
