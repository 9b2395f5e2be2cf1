"""Blocks of shared layers, built as in ``tf.contrib.kfac``."""

from typing import Any

from kfac_core import fisher_blocks as core
from kfac_core.arguments.sizes import as_flag
from kfac_core.contrib.block_holder import KroneckerProductFB
from kfac_core.contrib.forms import (
    first_array,
    multi_use_sources_of,
    multi_use_towers_of,
)
from kfac_core.contrib.original_specs import SignlessSeriesFB
from kfac_core.fisher_blocks import SeriesFBApproximation
from kfac_core.registry import backend_of
from kfac_core.rows.uses import in_parts
from kfac_core.typing import Array, Uses

_ARGUMENTS = {"input_size": "inputs", "output_size": "grads_list"}


class MultiUseFB(KroneckerProductFB):
    """Base of the blocks of shared layers.

    The inputs and the outputs of a tower are lists over uses, or arrays with all uses
    one after another.
    """

    def _arrange(self, *data: Any) -> tuple[Any, ...]:
        inputs, grads_list = self._pair(data)
        return multi_use_towers_of(inputs), multi_use_sources_of(grads_list)

    def _like(self) -> Array:
        return first_array(self._data[1], "grads_list", self._label)

    def _sizes(self, *data: Any) -> dict[str, Any]:
        """Return the lengths of a row of inputs and of gradients."""
        sides = zip(("input_size", "output_size"), data, strict=True)
        return {
            name: first_array(side, _ARGUMENTS[name], self._label).shape[-1]
            for name, side in sides
        }


class FullyConnectedMultiIndepFB(MultiUseFB):
    """`kfac_core.fisher_blocks.FullyConnectedMultiIndepFB` as of r1.10 and since.

    Args:
        layer_collection: What the block belongs to; may be None.
        has_bias: Whether the layer has a bias.
        num_uses: Number of uses; None where lists over uses say it.
        diagonal_approx_for_input: Whether the input factor is diagonal.
        diagonal_approx_for_output: Whether the output factor is diagonal.
        **options: Fields of the spec.

    Example:
        >>> import numpy as np
        >>> x, g = np.asarray([[1.0], [3.0]]), np.asarray([[1.0], [1.0]])
        >>> block = FullyConnectedMultiIndepFB(None, num_uses=2)  # one case, two uses
        >>> block.register_additional_tower(inputs=x, outputs=0 * g)
        >>> block.instantiate_factors([[g]], damping=0.1)
        >>> block.make_covariance_update_op(ema_decay=0.95)()
        >>> block.full_fisher_block()  # 2 * 5 * 1
        array([[10.]])
    """

    def __init__(
        self,
        layer_collection: Any,
        has_bias: bool = False,
        num_uses: int | None = None,
        diagonal_approx_for_input: bool = False,
        diagonal_approx_for_output: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(layer_collection, **options)
        self._arguments: dict[str, Any] = {
            "has_bias": has_bias,
            "num_uses": num_uses,
            "diagonal_approx_for_input": diagonal_approx_for_input,
            "diagonal_approx_for_output": diagonal_approx_for_output,
        }

    def _make_spec(self, *data: Any) -> core.FullyConnectedMultiIndepFB:
        return core.FullyConnectedMultiIndepFB(
            **self._sizes(*data), **self._arguments, **self._options
        )


class EmbeddingKFACMultiIndepFB(MultiUseFB):
    """`kfac_core.fisher_blocks.EmbeddingKFACMultiIndepFB` as of r1.10.

    With `num_uses`, an array of ids ``[T * batch, m]`` has its uses one after another;
    without, two axes are ``[T, batch]``.

    Args:
        layer_collection: What the block belongs to; may be None.
        vocab_size: Number of ids.
        num_uses: Number of uses; None where the data say it.
        **options: Fields of the spec.

    Example:
        >>> import numpy as np
        >>> ids, g = np.asarray([[0, 1], [1, 1]]), np.ones((2, 2, 1))  # [uses, batch]
        >>> block = EmbeddingKFACMultiIndepFB(None, vocab_size=3)
        >>> block.register_additional_tower(inputs=ids, outputs=0 * g)
        >>> block.instantiate_factors([[g]], damping=0.1)
        >>> block.make_covariance_update_op(ema_decay=0.95)()
        >>> block.full_fisher_block().diagonal()  # how often a case uses each id
        array([0.5, 1.5, 0. ])
    """

    def __init__(
        self,
        layer_collection: Any,
        vocab_size: int,
        num_uses: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(layer_collection, **options)
        self._vocab_size, self._num_uses = vocab_size, num_uses

    def _arrange(self, *data: Any) -> tuple[Any, ...]:
        towers, sources = super()._arrange(*data)
        return tuple(map(self._stacked, towers)), sources

    def _stacked(self, ids: Any) -> Any:
        """Return ids ``[T * batch, m]`` as ``[T, batch, m]``, and others unchanged."""
        if self._num_uses is None or isinstance(ids, Uses) or ids.ndim != 2:
            return ids
        (ids,), uses = in_parts(
            backend_of(ids), ids, 2, self._num_uses, "inputs", type(self).__name__
        )
        shape = (uses, ids.shape[0] // uses, ids.shape[1])
        return backend_of(ids).xp.reshape(ids, shape)

    def _make_spec(self, *data: Any) -> core.EmbeddingKFACMultiIndepFB:
        return core.EmbeddingKFACMultiIndepFB(
            self._vocab_size,
            first_array(data[1], "grads_list", self._label).shape[-1],
            num_uses=self._num_uses,
            **self._options,
        )


class FullyConnectedSeriesFB(MultiUseFB):
    """`kfac_core.fisher_blocks.FullyConnectedSeriesFB` as of r1.10.

    Args:
        layer_collection: What the block belongs to; may be None.
        has_bias: Whether the layer has a bias.
        num_uses: Number of uses; None where lists over uses say it.
        option: A `SeriesFBApproximation`.
        absolute_eigenvalues: Whether option 1 takes negative correlation for positive,
            as ``tf.contrib.kfac`` does.
        **options: Fields of the spec.

    Example:
        >>> import numpy as np
        >>> x, g = np.ones((3, 1)), np.asarray([[1.0], [2.0], [4.0]])
        >>> for option in (1, 2):  # one case, three uses
        ...     block = FullyConnectedSeriesFB(None, num_uses=3, option=option)
        ...     block.register_additional_tower(inputs=x, outputs=0 * g)
        ...     block.instantiate_factors([[g]], damping=1.0)
        ...     block.make_covariance_update_op(ema_decay=0.95)()
        ...     block.make_inverse_update_ops()[0]()
        ...     print(block.multiply_inverse(np.ones((1, 1))).round(4))
        [[0.0244]]
        [[0.0208]]
    """

    def __init__(
        self,
        layer_collection: Any,
        has_bias: bool = False,
        num_uses: int | None = None,
        option: int = SeriesFBApproximation.option2,
        absolute_eigenvalues: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(layer_collection, **options)
        self._signless = as_flag(
            absolute_eigenvalues, "absolute_eigenvalues", type(self).__name__
        )
        self._arguments: dict[str, Any] = {
            "has_bias": has_bias,
            "num_uses": num_uses,
            "option": option,
        }

    def _make_spec(self, *data: Any) -> core.FullyConnectedSeriesFB:
        make = SignlessSeriesFB if self._signless else core.FullyConnectedSeriesFB
        return make(**self._sizes(*data), **self._arguments, **self._options)
