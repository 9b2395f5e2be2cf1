"""K-FAC whose inverse is block-tridiagonal: layers are coupled with their neighbours.

`estimator` is what users call, `matrix` what reads its states, `chain` the layers that
it takes, `cross_factors` the statistics of two layers, and `links` what is computed
from these.
"""
