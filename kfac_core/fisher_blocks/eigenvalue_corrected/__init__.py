"""Blocks whose eigenvalues are measured in the eigenbasis of a Kronecker product."""
