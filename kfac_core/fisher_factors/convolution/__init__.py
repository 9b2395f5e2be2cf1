"""Factors of convolutions."""
