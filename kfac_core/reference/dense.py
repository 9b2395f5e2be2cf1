"""Dense layers and embeddings."""

import math
from dataclasses import dataclass

from kfac_core.arguments.arrays import check_indices, check_shape
from kfac_core.backend import Backend
from kfac_core.errors import DTypeError, ShapeError
from kfac_core.reference.affine import AffineCache, AffineLayer
from kfac_core.reference.layer import Tensors
from kfac_core.registry import backend_of
from kfac_core.typing import Array


@dataclass(frozen=True)
class Dense(AffineLayer):
    """``y = x W + b`` for ``x`` ``[batch, input_size]``.

    Attributes:
        input_size: Length of a row of inputs.
        output_size: Length of a row of outputs.
        has_bias: Whether there is a bias.

    Example:
        >>> import numpy as np
        >>> layer = Dense(2, 1)
        >>> params = np.asarray([[1.0], [10.0]]), np.asarray([0.5])
        >>> y, cache = layer.forward(params, np.asarray([[1.0, 2.0], [3.0, 4.0]]))
        >>> y
        array([[21.5],
               [43.5]])
        >>> layer.param_gradients(cache, np.ones((2, 1)))
        (array([[4.],
               [6.]]), array([2.]))
    """

    input_size: int
    output_size: int
    has_bias: bool = True

    @property
    def weights_shape(self) -> tuple[int, int]:
        """``(input_size, output_size)``."""
        return (self.input_size, self.output_size)

    @property
    def bias_size(self) -> int:
        """``output_size``, or 0."""
        return self.output_size if self.has_bias else 0

    def rows(self, backend: Backend, x: Array, like: Array) -> Array:
        """Return the inputs themselves, each case one row."""
        check_shape(x, ("batch", self.input_size), "inputs", self.label)
        return x[:, None, :]

    def output_shape(self, x: Array) -> tuple[int, int]:
        """``(batch, output_size)``."""
        return (x.shape[0], self.output_size)

    def backward(self, params: Tensors, cache: AffineCache, g: Array) -> Array:
        """Return ``g W'``; see `Layer.backward`."""
        return backend_of(g, params[0]).matmul(g, params[0].mT)


@dataclass(frozen=True)
class Embedding(AffineLayer):
    """The sum of the rows of the weights that each case's ids name.

    A dense layer on counts of ids, and computed as one: for small vocabularies.

    Attributes:
        vocab_size: Number of ids.
        output_size: Length of an embedding.

    Example:
        >>> import numpy as np
        >>> layer = Embedding(vocab_size=3, output_size=2)
        >>> weights = np.asarray([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
        >>> layer.forward((weights,), np.asarray([[0, 0], [2, 1]]))[0]
        array([[ 2.,  4.],
               [ 8., 10.]])
    """

    vocab_size: int
    output_size: int

    takes_ids = True

    @property
    def weights_shape(self) -> tuple[int, int]:
        """``(vocab_size, output_size)``."""
        return (self.vocab_size, self.output_size)

    @property
    def bias_size(self) -> int:
        """0: an embedding has no bias."""
        return 0

    def init_from(self, normals: Array) -> Tensors:
        """Return weights of variance one, since an output sums the rows of few ids."""
        return (backend_of(normals).xp.reshape(normals, self.weights_shape),)

    def rows(self, backend: Backend, x: Array, like: Array) -> Array:
        """Return how often each case has each id, ``[batch, 1, vocab_size]``."""
        xp = backend.xp
        self._check_ids(backend, x)
        # Not -1, which an empty batch leaves undetermined.
        ids = xp.reshape(x, (x.shape[0], math.prod(x.shape[1:])))
        device = backend.creation_device(x)
        vocabulary = xp.arange(self.vocab_size, dtype=x.dtype, device=device)
        hits = xp.equal(ids[:, :, None], vocabulary[None, None, :])
        counts: Array = xp.sum(xp.astype(hits, like.dtype), axis=1)
        return counts[:, None, :]

    def output_shape(self, x: Array) -> tuple[int, int]:
        """``(batch, output_size)``."""
        return (x.shape[0], self.output_size)

    def backward(self, params: Tensors, cache: AffineCache, g: Array) -> Array:
        """Raise: ids are integers, and have no gradient.

        Raises:
            DTypeError: Always.
        """
        msg = f"{self.label}: ids have no gradient; make it the first layer"
        raise DTypeError(msg)

    def _check_ids(self, backend: Backend, ids: Array) -> None:
        check_indices(backend, ids, self.vocab_size, "inputs", self.label)
        if ids.ndim not in {1, 2}:
            msg = (
                f"{self.label}: inputs has shape {tuple(ids.shape)}, expected"
                " [batch] or [batch, ids of a case]"
            )
            raise ShapeError(msg)
