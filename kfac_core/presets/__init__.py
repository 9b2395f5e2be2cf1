"""What other libraries compute, by name: their factors from ours, and back.

No factor of one K-FAC library can be compared with that of another: each divides by
numbers of its own, orders patches and biases in its own way, and takes gradients of a
mean or of a summed loss. A `Convention` says how, for one library at one version, as it
was measured; `convert` gives the arrays that the library would have, and
`Factors.to` those of any other.
"""

from kfac_core.presets.conventions import CONVENTIONS, convention
from kfac_core.presets.damping import Damping, damping_like
from kfac_core.presets.factors import Factors, convert
from kfac_core.presets.layer import Layer, layer_of
from kfac_core.presets.monomial import Monomial
from kfac_core.presets.scaling import Convention, Scaling

__all__ = [
    "CONVENTIONS",
    "Convention",
    "Damping",
    "Factors",
    "Layer",
    "Monomial",
    "Scaling",
    "convention",
    "convert",
    "damping_like",
    "layer_of",
]
