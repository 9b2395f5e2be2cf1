"""Linear algebra of symmetric positive semi-definite and Kronecker matrices.

Functions take checked arrays of one backend. Operators, which are given to users, check
the arrays that they multiply.
"""

from kfac_core.linalg.operators import (
    DiagonalOperator,
    FullMatrixOperator,
    LinearOperator,
)

__all__ = ["DiagonalOperator", "FullMatrixOperator", "LinearOperator"]
