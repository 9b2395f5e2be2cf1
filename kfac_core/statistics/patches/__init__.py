"""Patches of a convolution: their places, second moments, masks and samples."""
