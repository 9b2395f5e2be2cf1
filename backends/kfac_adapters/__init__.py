"""Models as other libraries write them, for `kfac_core`: one package for each library.

Nothing of K-FAC's mathematics is here. A front end sees what a model computes, says
which layer of `kfac_core.layer_collection` each part of it is, and hands over inputs
and gradients; every number comes from the core.
"""
