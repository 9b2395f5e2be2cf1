"""Functions of the curvature matrix: what Laplace and influence packages stand on.

`SpectralBlock` and `SpectralMatrix` decompose a block, or all blocks of an estimator,
once. Determinants, samples, diagonals and any function of the matrix then cost no more
than products with small matrices.
"""

from kfac_core.linalg.spectrum import Eigenbasis, Spectrum
from kfac_core.spectral.block import SpectralBlock
from kfac_core.spectral.matrix import SpectralMatrix

__all__ = ["Eigenbasis", "SpectralBlock", "SpectralMatrix", "Spectrum"]
