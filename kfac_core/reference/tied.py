"""A small language model whose embedding and decoder are one matrix."""

from dataclasses import dataclass
from typing import Any

from kfac_core.arguments.arrays import (
    backend_for,
    check_indices,
    check_not_empty,
    check_shape,
)
from kfac_core.arguments.sizes import check_sizes
from kfac_core.errors import ShapeError
from kfac_core.loss_functions import CategoricalLogitsNegativeLogProbLoss
from kfac_core.reference.checked import check_reals
from kfac_core.registry import backend_of
from kfac_core.typing import Array, Uses


@dataclass(frozen=True)
class TiedLanguageModel:
    """``h = tanh(V[ids])``, logits ``h V' + b``, at each position of a case.

    The derivatives are written by hand. The loss of a case is the sum, over positions,
    of the losses of categorical distributions.

    Attributes:
        vocab_size: Number of rows of ``V``.
        size: Number of columns of ``V``.

    Example:
        >>> import numpy as np
        >>> model = TiedLanguageModel(3, 1)
        >>> params = np.asarray([[1.0], [0.0], [-1.0]]), np.zeros(3)
        >>> model.logits(params, np.asarray([[0]])).round(3)
        array([[[ 0.762,  0.   , -0.762]]])
    """

    vocab_size: int
    size: int

    def __post_init__(self) -> None:
        """Check the sizes.

        Raises:
            ArgumentError: If one is not a positive integer.
        """
        check_sizes(self)

    @property
    def label(self) -> str:
        """Name for messages."""
        return type(self).__name__

    def logits(self, params: tuple[Array, Array], ids: Array) -> Array:
        """Return ``[batch, positions, vocab_size]`` for ids ``[batch, positions]``."""
        self._check_params(params)
        matrix, bias = params
        hidden = self.hidden(matrix, ids)
        return backend_of(hidden).matmul(hidden, matrix.mT) + bias[None, None, :]

    def hidden(self, matrix: Array, ids: Array) -> Array:
        """Return ``tanh(V[ids])``, ``[batch, positions, size]``."""
        self._check("matrix", matrix, (self.vocab_size, self.size))
        backend = backend_for(self.label, "ids, matrix", ids, matrix)
        check_shape(ids, ("batch", "positions"), "ids", self.label)
        check_indices(backend, ids, self.vocab_size, "ids", self.label)
        rows = backend.matmul(self._one_hot(matrix, ids), matrix)
        return backend.xp.tanh(rows)

    def data(
        self, params: tuple[Array, Array], ids: Array, g: Array
    ) -> tuple[Uses, Uses]:
        """Return inputs and output gradients of the embedding and of the decoder.

        Args:
            params: ``(V, b)``.
            ids: ``[batch, positions]``.
            g: Gradients for the logits, of their shape.

        Returns:
            The inputs and the gradients.
        """
        self._check_params(params)
        matrix, _ = params
        hidden = self.hidden(matrix, ids)
        self._check("g", g, (*tuple(ids.shape), self.vocab_size))
        backend = backend_for(self.label, "g, matrix", g, matrix)
        of_rows = backend.matmul(g, matrix) * (1 - hidden * hidden)
        return Uses((ids, hidden)), Uses((of_rows, g))

    def case_gradients(
        self, params: tuple[Array, Array], ids: Array, g: Array
    ) -> tuple[Array, Array]:
        """Return each case's gradients for ``V`` and ``b``, from those of logits."""
        (_, hidden), (of_rows, _) = (x.arrays for x in self.data(params, ids, g))
        backend = backend_of(g)
        hot = self._one_hot(params[0], ids)
        matrix = backend.matmul(hot.mT, of_rows) + backend.matmul(g.mT, hidden)
        return matrix, backend.xp.sum(g, axis=1)

    def output_columns(self, logits: Array) -> list[Array]:
        """Return gradients whose squares, summed, are the Fisher of the logits.

        There is one for each position and each column of the loss's factor; it is zero
        elsewhere.
        """
        self._check("logits", logits, ("batch", "positions", self.vocab_size))
        xp = backend_of(logits).xp
        loss = CategoricalLogitsNegativeLogProbLoss()
        columns = []
        for place in range(logits.shape[1]):
            here = logits[:, place, :]
            for index in range(self.vocab_size):
                column = loss.multiply_fisher_factor_replicated_one_hot(here, (index,))
                parts = [xp.zeros_like(here)] * logits.shape[1]
                parts[place] = column
                columns.append(xp.stack(parts, axis=1))
        return columns

    def exact_fisher(self, params: tuple[Array, Array], ids: Array) -> Array:
        """Return the Fisher of the mean loss, on ``V`` row-major and then ``b``."""
        logits = self.logits(params, ids)
        check_not_empty((ids,), "ids", self.label)
        backend = backend_of(*params)
        xp = backend.xp
        batch = ids.shape[0]
        rows = [
            xp.concat(
                [
                    xp.reshape(x, (batch, -1))
                    for x in self.case_gradients(params, ids, g)
                ],
                axis=1,
            )
            for g in self.output_columns(logits)
        ]
        gradients = xp.concat(rows, axis=0)
        return backend.gram(gradients) / batch

    def _check_params(self, params: object) -> None:
        if not isinstance(params, tuple | list) or len(params) != 2:
            msg = f"{self.label}: params is {params!r}, expected a matrix and a bias"
            raise ShapeError(msg)
        matrix, bias = params
        self._check("params: matrix", matrix, (self.vocab_size, self.size))
        self._check("params: bias", bias, (self.vocab_size,))
        backend_for(self.label, "params", matrix, bias)

    def _check(self, argument: str, x: Any, shape: tuple[int | str, ...]) -> None:
        check_reals(x, argument, self.label)
        check_shape(x, shape, argument, self.label)

    def _one_hot(self, matrix: Array, ids: Array) -> Array:
        backend = backend_of(matrix, ids)
        xp, device = backend.xp, backend.creation_device(ids)
        known = xp.arange(self.vocab_size, dtype=ids.dtype, device=device)
        return xp.astype(xp.equal(ids[:, :, None], known[None, None, :]), matrix.dtype)
