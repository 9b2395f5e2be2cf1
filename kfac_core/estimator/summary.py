"""What an estimator holds, as a flat dictionary of numbers: to log, plot or print."""

import math
from typing import Any

from kfac_core import moving_average, tree
from kfac_core.backend import Backend
from kfac_core.damping import compute_pi
from kfac_core.errors import ArgumentError
from kfac_core.estimator.block_diagonal import BlockDiagonalMatrix
from kfac_core.estimator.state import EstimatorState
from kfac_core.fisher_blocks import (
    FisherBlock,
    KroneckerProductFB,
    KroneckerState,
    PartsFB,
    SingleFactorState,
)
from kfac_core.fisher_factors import FactorState, FisherFactor
from kfac_core.fisher_factors.eigenbasis import eigenvalues
from kfac_core.typing import Array


def summary(
    estimator: BlockDiagonalMatrix, state: EstimatorState
) -> dict[str, Array | int]:
    """Return a flat view of what an estimator holds.

    ``"cases"`` is the number of cases seen, and ``"bytes"`` the size of the state. Each
    layer has the entries ``"name/entry"``:

    - ``dimension``, ``trace``, ``max_eigenvalue`` and ``min_eigenvalue`` of each
      factor, as in ``"name/input_factor/trace"``, from its current statistics,
      undamped. A factor of groups counts as the block-diagonal matrix of all groups.
    - ``pi`` of a Kronecker product, from the current statistics, whether or not its
      damping uses it; see `kfac_core.damping`. A layer of groups has one ``pi`` for
      each group; these are not shown.
    - ``damping``, the damping of the last `update_inverses`; zero before it.
    - ``uses``, the mean number of locations or uses of a case.
    - ``weight``, the sum of the weights in the moving average of its statistics.
    - ``bytes``, the size of its state.

    It costs an eigendecomposition of each dense factor.

    Args:
        estimator: The estimator.
        state: State of the estimator.

    Returns:
        0-d arrays of the library; and Python integers for entries that end in
        ``dimension`` or ``bytes``.

    Raises:
        ArgumentError: If `estimator` is not an estimator.
        StateError: If the state does not belong to it.
        NotComputedError: If a layer has no statistics yet. Under a trace its entries
            are zero instead.

    Example:
        >>> import numpy as np
        >>> from kfac_core.loss_functions import NormalMeanNegativeLogProbLoss
        >>> from kfac_core.reference import Batch, Dense, Sequential, SequentialModel
        >>> from kfac_core.estimator import FisherEstimator
        >>> model = SequentialModel(Sequential((Dense(2, 1, has_bias=False),)))
        >>> collection = model.layer_collection(NormalMeanNegativeLogProbLoss(var=1.0))
        >>> estimator = FisherEstimator(collection, estimation_mode="exact")
        >>> weights = {"dense_0/weights": np.zeros((2, 1))}
        >>> batch = Batch(np.asarray([[2.0, 0.0], [0.0, 4.0]]))
        >>> state = estimator.init(weights)
        >>> state = estimator.update_covs(state, model.linearize(weights, batch), 0.95)
        >>> state = estimator.update_inverses(state, damping=0.1)
        >>> for name, value in summary(estimator, state).items():
        ...     print(name, value)
        dense_0/input_factor/dimension 2
        dense_0/input_factor/trace 10.0
        dense_0/input_factor/max_eigenvalue 8.0
        dense_0/input_factor/min_eigenvalue 2.0
        dense_0/output_factor/dimension 1
        dense_0/output_factor/trace 1.0
        dense_0/output_factor/max_eigenvalue 1.0
        dense_0/output_factor/min_eigenvalue 1.0
        dense_0/pi 2.23606797749979
        dense_0/damping 0.1
        dense_0/uses 1.0
        dense_0/weight 1.0
        dense_0/bytes 174
        cases 2
        bytes 182
    """
    given: object = estimator
    if not isinstance(given, BlockDiagonalMatrix):
        msg = (
            f"summary: estimator is a {type(given).__name__}, expected a"
            " FisherEstimator"
        )
        raise ArgumentError(msg)
    backend = estimator.check_state(state)
    entries: dict[str, Array | int] = {}
    for name, block in estimator.blocks.items():
        own = state.blocks[name]
        for entry, value in _of_block(backend, block, own).items():
            entries[f"{name}/{entry}"] = value
        entries[f"{name}/bytes"] = _num_bytes(backend, own)
    entries["cases"] = state.cases
    entries["bytes"] = _num_bytes(backend, (state.blocks, state.cases))
    return entries


def _of_block(
    backend: Backend, block: FisherBlock[Any], state: Any
) -> dict[str, Array | int]:
    if isinstance(block, PartsFB):
        return {
            f"{name}/{entry}": value
            for (name, part), own in zip(block.parts, state.parts, strict=True)
            for entry, value in _of_block(backend, part, own).items()
        }
    factors = block.factors(state)
    entries: dict[str, Array | int] = {}
    for name, (factor, own) in factors.items():
        for entry, value in _of_factor(backend, factor, own).items():
            entries[f"{name}/{entry}"] = value
    if isinstance(block, KroneckerProductFB):
        inputs, outputs = factors.values()
        pi = compute_pi(
            backend,
            inputs[0].trace(inputs[1]),
            inputs[0].dimension,
            outputs[0].trace(outputs[1]),
            outputs[0].dimension,
        )
        if pi.ndim == 0:
            entries["pi"] = pi
    if isinstance(state, KroneckerState):
        entries["damping"] = state.damping
    elif isinstance(state, SingleFactorState):
        entries["damping"] = state.factor.derived.dampings[0]
    if isinstance(state, KroneckerState | SingleFactorState):
        entries["uses"] = moving_average.value(backend, state.uses, block.label)
    for _, own in factors.values():
        # All factors of a block have one weight, since they are updated together.
        entries["weight"] = own.cov.weight
    return entries


def _of_factor(
    backend: Backend, factor: FisherFactor, state: FactorState
) -> dict[str, Array | int]:
    values = eigenvalues(backend, factor, state)
    return {
        "dimension": math.prod(values.shape),
        "trace": backend.xp.sum(factor.trace(state)),
        "max_eigenvalue": backend.xp.max(values),
        "min_eigenvalue": backend.xp.min(values),
    }


def _num_bytes(backend: Backend, state: Any) -> int:
    """Return the size of all arrays of a tree."""
    return sum(
        math.prod(x.shape) * _item_bytes(backend, x.dtype) for x in tree.leaves(state)
    )


def _item_bytes(backend: Backend, dtype: Any) -> int:
    xp = backend.xp
    if xp.isdtype(dtype, "bool"):
        return 1
    info = xp.finfo if xp.isdtype(dtype, "real floating") else xp.iinfo
    bits: int = info(dtype).bits
    return bits // 8
