"""Patches of a convolution: where they lie, their second moment, masks and samples."""
