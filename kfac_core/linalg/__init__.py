"""Linear algebra of symmetric positive semi-definite and Kronecker matrices."""
