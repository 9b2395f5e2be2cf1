"""Every exported class shows an example; the list of those without only shrinks."""

import importlib
import inspect

import pytest
from test_docstrings import modules

LACKING = {
    "kfac_core.contrib.block_holder": "FisherBlock KroneckerProductFB",
    "kfac_core.contrib.factor_holder": (
        "DenseSquareMatrixFactor DiagonalFactor FisherFactor InverseProvidingFactor"
    ),
    "kfac_core.contrib.fisher_blocks.convolution": "ConvKFCBasicFB",
    "kfac_core.contrib.fisher_blocks.convolution_diagonal": "ConvDiagonalFB",
    "kfac_core.contrib.fisher_blocks.convolution_multi": "ConvKFCBasicMultiIndepFB",
    "kfac_core.contrib.fisher_blocks.depthwise_convolution": (
        "DepthwiseConvDiagonalFB DepthwiseConvKFCBasicFB"
    ),
    "kfac_core.contrib.fisher_blocks.embedding": "EmbeddingKFACFB",
    "kfac_core.contrib.fisher_blocks.fully_connected": "FullyConnectedDiagonalFB",
    "kfac_core.contrib.fisher_blocks.grouped_convolution": "GroupedConvKFCBasicFB",
    "kfac_core.contrib.fisher_blocks.multi": (
        "EmbeddingKFACMultiIndepFB FullyConnectedMultiIndepFB FullyConnectedSeriesFB"
    ),
    "kfac_core.contrib.fisher_blocks.naive": "FullFB NaiveDiagonalFB NaiveFullFB",
    "kfac_core.contrib.fisher_blocks.scale_and_shift": (
        "ScaleAndShiftDiagonalFB ScaleAndShiftFullFB"
    ),
    "kfac_core.contrib.fisher_factors.convolution": (
        "ConvInputKroneckerFactor ConvInputSUAKroneckerFactor ConvOutputKroneckerFactor"
    ),
    "kfac_core.contrib.fisher_factors.convolution_diagonal": "ConvDiagonalFactor",
    "kfac_core.contrib.fisher_factors.convolution_multi": (
        "ConvInputMultiKF ConvOutputMultiKF"
    ),
    "kfac_core.contrib.fisher_factors.diagonal_kronecker": (
        "DiagonalKroneckerFactor DiagonalMultiKF"
    ),
    "kfac_core.contrib.fisher_factors.embedding": "EmbeddingInputKroneckerFactor",
    "kfac_core.contrib.fisher_factors.fully_connected": (
        "FullyConnectedDiagonalFactor FullyConnectedKroneckerFactor"
    ),
    "kfac_core.contrib.fisher_factors.multi": "FullyConnectedMultiKF",
    "kfac_core.contrib.fisher_factors.naive": (
        "FullFactor NaiveDiagonalFactor NaiveFullFactor"
    ),
    "kfac_core.contrib.fisher_factors.scale_and_shift": (
        "ScaleAndShiftDiagonalFactor ScaleAndShiftFullFactor"
    ),
}
"""The classes that have none yet, by module."""


def without_example():
    """Return the exported classes, by module, whose docstring has no example."""
    found = {}
    for name in modules():
        module = importlib.import_module(name)
        for each in getattr(module, "__all__", ()):
            thing = getattr(module, each)
            ours = inspect.isclass(thing) and thing.__module__.startswith("kfac_core.")
            if ours and ">>>" not in (thing.__doc__ or ""):
                found.setdefault(thing.__module__, set()).add(each)
    return found


@pytest.fixture(scope="module")
def lacking():
    return without_example()


def test_a_new_class_has_an_example(lacking):
    new = {m: names - set(LACKING.get(m, "").split()) for m, names in lacking.items()}
    assert {m: names for m, names in new.items() if names} == {}


def test_the_list_names_no_class_that_has_one(lacking):
    done = {m: set(n.split()) - lacking.get(m, set()) for m, n in LACKING.items()}
    assert {m: names for m, names in done.items() if names} == {}
