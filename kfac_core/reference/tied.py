"""A small language model whose embedding and decoder are one matrix."""

from dataclasses import dataclass

from kfac_core.loss_functions import CategoricalLogitsNegativeLogProbLoss
from kfac_core.registry import backend_of
from kfac_core.typing import Array, Uses


@dataclass(frozen=True)
class TiedLanguageModel:
    """``h = tanh(V[ids])``, logits ``h V' + b``, at each position of a case.

    The derivatives are written by hand. The loss of a case is the sum over positions
    of that of a categorical distribution.

    Attributes:
        vocab_size: Rows of ``V``.
        size: Columns of ``V``.

    Example:
        >>> import numpy as np
        >>> model = TiedLanguageModel(3, 1)
        >>> params = np.asarray([[1.0], [0.0], [-1.0]]), np.zeros(3)
        >>> model.logits(params, np.asarray([[0]])).round(3)
        array([[[ 0.762,  0.   , -0.762]]])
    """

    vocab_size: int
    size: int

    def logits(self, params: tuple[Array, Array], ids: Array) -> Array:
        """Return ``[batch, positions, vocab_size]`` for ids ``[batch, positions]``."""
        matrix, bias = params
        return self.hidden(matrix, ids) @ matrix.mT + bias

    def hidden(self, matrix: Array, ids: Array) -> Array:
        """Return ``tanh(V[ids])``, ``[batch, positions, size]``."""
        xp = backend_of(matrix, ids).xp
        return xp.tanh(self._one_hot(matrix, ids) @ matrix)

    def data(
        self, params: tuple[Array, Array], ids: Array, g: Array
    ) -> tuple[Uses, Uses]:
        """Return inputs and output gradients of the embedding and of the decoder.

        Args:
            params: ``(V, b)``.
            ids: ``[batch, positions]``.
            g: Gradients for the logits, of their shape.

        Returns:
            The two.
        """
        matrix, _ = params
        hidden = self.hidden(matrix, ids)
        return Uses((ids, hidden)), Uses(((g @ matrix) * (1 - hidden * hidden), g))

    def case_gradients(
        self, params: tuple[Array, Array], ids: Array, g: Array
    ) -> tuple[Array, Array]:
        """Return each case's gradients for ``V`` and ``b``, given those of logits."""
        xp = backend_of(g).xp
        (_, hidden), (of_rows, _) = (x.arrays for x in self.data(params, ids, g))
        hot = self._one_hot(params[0], ids)
        return hot.mT @ of_rows + g.mT @ hidden, xp.sum(g, axis=1)

    def output_columns(self, logits: Array) -> list[Array]:
        """Return gradients whose squares, summed, are the Fisher of the logits.

        One for each position and each column of the loss's factor, zero elsewhere.
        """
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
        xp = backend_of(*params).xp
        batch = ids.shape[0]
        rows = [
            xp.concat(
                [
                    xp.reshape(x, (batch, -1))
                    for x in self.case_gradients(params, ids, g)
                ],
                axis=1,
            )
            for g in self.output_columns(self.logits(params, ids))
        ]
        gradients = xp.concat(rows, axis=0)
        return gradients.mT @ gradients / batch

    def _one_hot(self, matrix: Array, ids: Array) -> Array:
        backend = backend_of(matrix, ids)
        xp, device = backend.xp, backend.creation_device(ids)
        known = xp.arange(self.vocab_size, dtype=ids.dtype, device=device)
        return xp.astype(xp.equal(ids[:, :, None], known[None, None, :]), matrix.dtype)
