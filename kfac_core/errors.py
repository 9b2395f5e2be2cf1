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
    """No backend, two array libraries, or two devices among the arguments.

    Example:
        >>> from kfac_core import backend_of
        >>> try:
        ...     backend_of([1.0, 2.0])
        ... except BackendError as error:
        ...     print(str(error).split(": ")[-1])
        convert it, for instance with numpy.asarray
    """


class DTypeError(KfacError, TypeError):
    """An array's data type cannot be used here.

    Example:
        >>> from kfac_core.fisher_factors import NaiveFullFactor
        >>> try:
        ...     NaiveFullFactor(size=2).init(np.asarray([1, 2]))
        ... except DTypeError as error:
        ...     print(str(error).split(",")[0])
        NaiveFullFactor: like has dtype int64
    """


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
    """A state was made by another spec, or an argument is not a state at all.

    Example:
        >>> from kfac_core.fisher_blocks import FullyConnectedDiagonalFB, NaiveFullFB
        >>> state = FullyConnectedDiagonalFB(2, 1).init(np.zeros(1))
        >>> try:
        ...     NaiveFullFB(size=2).multiply_inverse(state, np.zeros(2))
        ... except StateError as error:
        ...     print(str(error).split(", ")[0])
        NaiveFullFB: the state is one of FullyConnectedDiagonalFB
    """


class ArgumentError(KfacError, ValueError):
    """A value is not allowed for this argument.

    Example:
        >>> from kfac_core.fisher_blocks import FullyConnectedKFACBasicFB
        >>> try:
        ...     FullyConnectedKFACBasicFB(3, 2, damping_type="pie", name="head")
        ... except ArgumentError as error:
        ...     print(str(error).split(",")[0])
        head: damping_type is 'pie'
    """


class RegistrationError(KfacError, ValueError):
    """Layers, losses and parameters of a collection contradict each other.

    Example:
        >>> from kfac_core.layer_collection import LayerCollection
        >>> collection = LayerCollection.of({"w": (3, 2), "b": (2,)})
        >>> collection = collection.register_fully_connected("w", site="dense")
        >>> try:
        ...     collection.check_registration()
        ... except RegistrationError as error:
        ...     for line in str(error).splitlines()[1:]:
        ...         print(line.split(";")[0])
        - no layer covers the parameter 'b' of shape (2,)
        - no loss is registered
    """


class SavedFileError(KfacError, ValueError):
    """A file is not one that `kfac_core.save` wrote, or it is damaged.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> from kfac_core import load
        >>> from kfac_core.fisher_factors import NaiveFullFactor
        >>> with TemporaryDirectory() as folder:
        ...     path = Path(folder, "state.safetensors")
        ...     _ = path.write_text("no")
        ...     try:
        ...         load(path, NaiveFullFactor(size=2), like=np.zeros(1))
        ...     except SavedFileError as error:
        ...         print(str(error).split(": ")[-1])
        2 bytes are not a file that kfac_core.save wrote
    """


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
    """A factor plus its damping has no Cholesky factor.

    Example:
        >>> from kfac_core.fisher_factors import FullyConnectedKroneckerFactor
        >>> factor = FullyConnectedKroneckerFactor(2, matpowers=(-1.0,))
        >>> x = np.asarray([[1.0, 1.0]])  # one row: the matrix is singular
        >>> state = factor.update_cov(factor.init(x), x, ema_decay=0.0)
        >>> try:
        ...     factor.update_inverses(state, damping=0.0)
        ... except NotPositiveDefiniteError as error:
        ...     print(str(error).split("; ")[-1])
        use a damping above 9e-16. The state is unchanged
    """


class EigendecompositionError(KfacError, np.linalg.LinAlgError):
    """The library found no eigendecomposition of a matrix that is finite.

    Example:
        >>> error = EigendecompositionError("head: no eigendecomposition")
        >>> isinstance(error, np.linalg.LinAlgError)  # as that of NumPy
        True
    """


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
    """This class does not have something that others of its kind have.

    Example:
        >>> from kfac_core.fisher_blocks import NaiveFullFB
        >>> from kfac_core.presets import layer_of
        >>> try:
        ...     layer_of(NaiveFullFB(size=2))
        ... except UnsupportedError as error:
        ...     print(str(error).split("; ")[-1])
        other libraries have no such block
    """


class NotRegisteredError(KfacError, KeyError):
    """A matrix power or Cholesky factor is read that the spec does not serve.

    Example:
        >>> from kfac_core.fisher_blocks import NaiveFullFB
        >>> block = NaiveFullFB(size=1)  # it serves the power -1 alone
        >>> x = np.asarray([2.0])
        >>> state = block.update_covs(block.init(x), x, batch_size=1, ema_decay=0.0)
        >>> state = block.update_inverses(state, damping=0.1)
        >>> try:
        ...     block.multiply_matpower(state, x, exp=-0.5)
        ... except NotRegisteredError as error:
        ...     print(str(error).split(";")[0])
        NaiveFullFB: matpower -0.5 with damping id 'damping' is not registered
    """

    def __str__(self) -> str:
        """Return the message itself: `KeyError` would print its repr."""
        return str(self.args[0]) if self.args else ""
