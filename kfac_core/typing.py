"""The types that the whole package uses: arrays, namespaces, scalars."""

from collections.abc import Callable, Hashable, Mapping
from typing import Any, Literal, NamedTuple, Protocol, Self, TypeAlias


class Array(Protocol):
    """An array of any library that follows the Python array API standard."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def ndim(self) -> int: ...
    @property
    def dtype(self) -> Any: ...
    @property
    def mT(self) -> Self: ...  # noqa: N802
    def __add__(self, other: Any, /) -> Self: ...
    def __radd__(self, other: Any, /) -> Self: ...
    def __sub__(self, other: Any, /) -> Self: ...
    def __rsub__(self, other: Any, /) -> Self: ...
    def __mul__(self, other: Any, /) -> Self: ...
    def __rmul__(self, other: Any, /) -> Self: ...
    def __truediv__(self, other: Any, /) -> Self: ...
    def __rtruediv__(self, other: Any, /) -> Self: ...
    def __pow__(self, other: Any, /) -> Self: ...
    def __matmul__(self, other: Any, /) -> Self: ...
    def __and__(self, other: Any, /) -> Self: ...
    def __or__(self, other: Any, /) -> Self: ...
    def __invert__(self) -> Self: ...
    def __neg__(self) -> Self: ...
    def __lt__(self, other: Any, /) -> Self: ...
    def __le__(self, other: Any, /) -> Self: ...
    def __gt__(self, other: Any, /) -> Self: ...
    def __ge__(self, other: Any, /) -> Self: ...
    def __getitem__(self, key: Any, /) -> Self: ...
    def __float__(self) -> float: ...
    def __int__(self) -> int: ...
    def __bool__(self) -> bool: ...


class Namespace(Protocol):
    """A module of the array API standard: ``numpy``, ``jax.numpy``, ...

    All its functions return arrays, except for those that are listed here.
    """

    float32: Any
    float64: Any
    int32: Any
    bool: Any
    linalg: Any
    newaxis: None
    __name__: str

    def isdtype(self, dtype: Any, kind: Any) -> bool: ...
    def __array_namespace_info__(self) -> Any: ...
    def finfo(self, dtype: Any) -> Any: ...
    def iinfo(self, dtype: Any) -> Any: ...
    def result_type(self, *arrays_and_dtypes: Any) -> Any: ...
    def __getattr__(self, name: str) -> Callable[..., Array]: ...


DType: TypeAlias = Any
"""A data type of some array library."""

Device: TypeAlias = Any
"""A device of some array library."""

Key: TypeAlias = Any
"""What a backend draws random numbers from: a generator, or a key."""

Scalar: TypeAlias = float | Array
"""A Python number or a 0-d array; changing it does not trace again."""


class Uses(NamedTuple):
    """Data of one tower of a layer that every case uses several times, use by use.

    Attributes:
        arrays: For each use, in the order of time, an array ``[batch, ...]``.

    Example:
        >>> import numpy as np
        >>> from kfac_core.fisher_blocks import FullyConnectedMultiIndepFB
        >>> x = Uses((np.asarray([[1.0]]), np.asarray([[3.0]])))  # one case, two uses
        >>> g = Uses((np.ones((1, 1)), np.ones((1, 1))))
        >>> block = FullyConnectedMultiIndepFB(1, 1)
        >>> state = block.init(like=np.ones(1))
        >>> state = block.update_covs(state, x, g, ema_decay=0.0)
        >>> block.full_fisher_block(state)
        array([[10.]])
    """

    arrays: tuple[Array, ...]


class RowWeights(NamedTuple):
    """Weights of the rows of a layer, where inputs and gradients have different ones.

    Gradients of a weighted loss already contain the roots of the weights. Their rows
    then have the weight one, or zero, while the rows of the inputs have the weights.

    Attributes:
        inputs: Weights of the rows of inputs; None: one each.
        gradients: Weights of the rows of gradients; None: one each.

    Example:
        >>> import numpy as np
        >>> from kfac_core.fisher_blocks import FullyConnectedKFACBasicFB
        >>> block = FullyConnectedKFACBasicFB(1, 1)
        >>> x, g = np.asarray([[1.0], [1.0]]), np.asarray([[2.0], [0.0]])
        >>> weights = RowWeights(inputs=np.asarray([4.0, 0.0]), gradients=None)
        >>> state = block.init(like=x)
        >>> state = block.update_covs(state, x, g, ema_decay=0.0, weights=weights)
        >>> state.input_factor.cov.total, state.output_factor.cov.total
        (array([[2.]]), array([[2.]]))
    """

    inputs: Any
    gradients: Any


class Pair(NamedTuple):
    """The inputs of a layer with two inputs, such as a bilinear one.

    Attributes:
        first: ``[batch, ...]``.
        second: ``[batch, ...]``, of the same cases.

    Example:
        >>> import numpy as np
        >>> from kfac_core.fisher_blocks import BilinearKFACFB
        >>> block = BilinearKFACFB(2, 1, 1)
        >>> inputs = Pair(np.asarray([[1.0, 2.0]]), np.asarray([[3.0]]))
        >>> g = np.asarray([[1.0]])
        >>> state = block.update_covs(block.init(like=g), inputs, g, ema_decay=0.0)
        >>> block.full_fisher_block(state)
        array([[ 9., 18.],
               [18., 36.]])
    """

    first: Array
    second: Array


Towers: TypeAlias = Array | tuple[Array, ...] | list[Array]
"""One array, or a tuple of arrays: the shards (towers) of one batch."""

Sources: TypeAlias = Towers | tuple[Towers, ...] | list[Towers]
"""Towers, or a tuple over sources of towers."""

Params: TypeAlias = Array | tuple[Array, ...]
"""A layer's parameters or their gradient: ``weights``, or ``(weights, bias)``."""

Weights: TypeAlias = Towers | Uses | RowWeights
"""How much each row counts: ``[batch]`` or ``[batch, positions]``, for each tower."""

LossInputs: TypeAlias = Array | tuple[Array, ...]
"""What a loss takes from the network, ``[batch, ...]``, or a vector of its shape."""

DampingId: TypeAlias = Hashable
"""An id that tells apart two dampings of one factor."""

Dampings: TypeAlias = Scalar | Mapping[DampingId, Scalar]
"""One damping for all that a factor serves, or one for each damping id."""

LayerDampings: TypeAlias = Scalar | Mapping[str, Scalar]
"""One damping for all layers, or one for each, by its name."""

DTypeName: TypeAlias = Literal["float32", "float64"]
"""A dtype of statistics, named without a library."""

Precision: TypeAlias = Literal["highest", "default"]
"""Precision of products: full, or what the library is set to."""
