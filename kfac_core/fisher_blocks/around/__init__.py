"""Blocks around a Kronecker product, which make another matrix of it."""
