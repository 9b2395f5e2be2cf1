"""Every product with a linear operator, with each argument as it cannot be."""

import numpy as np
import pytest
from bad_values import flag
from walk import Call

from kfac_core.linalg.block_diagonal import BlockDiagonalOperator
from kfac_core.linalg.low_rank import LowRankOperator
from kfac_core.linalg.offset_operator import OffsetOperator, equal_copies
from kfac_core.linalg.operators import DiagonalOperator, FullMatrixOperator
from kfac_core.linalg.stacks import MatrixStackOperator
from kfac_core.registry import backend_of

MATRIX = np.asarray([[2.0, 1.0, 0.0, 0.0], [1.0, 3.0, 0.0, 0.0]])
SQUARE = MATRIX[:, :2]
OPERATORS = {
    "full": FullMatrixOperator(np.kron(SQUARE, np.eye(2))),
    "diagonal": DiagonalOperator(np.arange(1.0, 5.0)),
    "low-rank": LowRankOperator(np.asarray(0.5), MATRIX),
    "blocks": BlockDiagonalOperator((SQUARE, SQUARE)),
    "stack": MatrixStackOperator(np.stack([np.eye(4), 2 * np.eye(4)])),
    "offsets": OffsetOperator(
        SQUARE, SQUARE, equal_copies(backend_of(SQUARE), 2, SQUARE)
    ),
}
WALKED = {
    f"LinearOperator.{verb}" for verb in ("matmul", "matmul_right", "trace", "to_dense")
}


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("verb", ["matmul", "matmul_right"])
@pytest.mark.parametrize("adjoint_arg", [False, True])
def test_products(walked, kinds, name, verb, adjoint_arg):
    operator = OPERATORS[name]
    on_the_right = (verb == "matmul_right") != adjoint_arg
    x = np.ones((3, 4) if on_the_right else (4, 3))
    faults = kinds.data(x, channels=-1 if on_the_right else -2)
    # A product with NaN is NaN: values are the matter of what is multiplied.
    del faults["NaN"], faults["infinity"], faults["minus infinity"]
    allowed = ["a case less", "empty"] if on_the_right else []
    if isinstance(operator, FullMatrixOperator):
        allowed.append("an axis more")  # a stack of factors
    known = isinstance(operator, FullMatrixOperator)
    flags = {"adjoint": (False, flag())} if known else {}
    walked(
        Call(
            f"{type(operator).__name__}.{verb}",
            getattr(operator, verb),
            {
                "x": x,
                "adjoint_arg": adjoint_arg,
                **{k: r for k, (r, _) in flags.items()},
            },
            {
                "x": faults,
                "adjoint_arg": flag(),
                **{k: f for k, (_, f) in flags.items()},
            },
            {"x": tuple(allowed)},
            label="Operator",
        )
    )


@pytest.mark.parametrize("name", OPERATORS)
def test_a_vector_is_no_matrix_of_one_column(name):
    """A diagonal times ``[n]`` would be a matrix, without a word."""
    operator = OPERATORS[name]
    with pytest.raises(ValueError, match=r"x has shape \(4,\)"):
        operator.matmul(np.ones(4))
    with pytest.raises(ValueError, match=r"x has shape \(4,\)"):
        operator.matmul_right(np.ones(4))
