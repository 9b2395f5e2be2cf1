"""Kronecker products of two factors, and of three."""
