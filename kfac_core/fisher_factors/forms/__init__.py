"""The forms of a factor's matrix: dense, diagonal, of low rank, block diagonal."""
