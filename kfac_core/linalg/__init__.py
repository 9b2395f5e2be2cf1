"""Linear algebra of symmetric positive semi-definite and Kronecker matrices.

Functions take checked arrays of one backend. Operators, which users get, check what
they are multiplied by.
"""
