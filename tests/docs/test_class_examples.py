"""Every exported class shows an example; the list of those without only shrinks."""

import importlib
import inspect

import pytest
from test_docstrings import modules

LACKING = {
    "kfac_core.collectives.costs": "StepCosts",
    "kfac_core.collectives.protocol": "Collective Splittable",
    "kfac_core.collectives.teams": "Teams",
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
    "kfac_core.errors": (
        "ArgumentError BackendError DTypeError EigendecompositionError "
        "NotPositiveDefiniteError NotRegisteredError RegistrationError "
        "SavedFileError StateError UnsupportedError"
    ),
    "kfac_core.estimator.block_diagonal": "BlockDiagonalMatrix",
    "kfac_core.estimator.state": "EstimatorState",
    "kfac_core.estimator.tridiagonal.cross_factors": "CrossFactors",
    "kfac_core.estimator.tridiagonal.state": "TridiagonalState",
    "kfac_core.fisher_blocks.around.state": "FittedState",
    "kfac_core.fisher_blocks.base.block": "FisherBlock",
    "kfac_core.fisher_blocks.base.parts": "PartsFB PartsState",
    "kfac_core.fisher_blocks.base.single_factor": "SingleFactorFB SingleFactorState",
    "kfac_core.fisher_blocks.bias": "BiasFB",
    "kfac_core.fisher_blocks.eigenvalue_corrected.state": "CorrectedState",
    "kfac_core.fisher_blocks.kronecker.product": "KroneckerProductFB",
    "kfac_core.fisher_blocks.kronecker.state": "KroneckerState",
    "kfac_core.fisher_blocks.scale_and_shift": "ScaleAndShiftFB",
    "kfac_core.fisher_blocks.shared.fully_connected": "MultiUseFB",
    "kfac_core.fisher_blocks.shared.series": "SeriesFBApproximation",
    "kfac_core.fisher_factors.base.diagonal": "DiagonalFactor",
    "kfac_core.fisher_factors.base.factor": "DenseSquareMatrixFactor FisherFactor",
    "kfac_core.fisher_factors.base.form": "Form",
    "kfac_core.fisher_factors.base.state": "Derived",
    "kfac_core.fisher_factors.scale_and_shift.factors": "ScaleAndShiftFactor",
    "kfac_core.layer_collection.approximations": "Approximation",
    "kfac_core.layer_collection.records": "LayerRegistration LossRegistration",
    "kfac_core.linearization.protocols": (
        "CountedLinearization Linearization Model SecondOrderLinearization"
    ),
    "kfac_core.loss_functions.base": "LossFunction",
    "kfac_core.loss_functions.natural": "NaturalParamsNegativeLogProbLoss",
    "kfac_core.optimizer.options": "KfacOptions",
    "kfac_core.optimizer.state": "KfacState StepStatistics",
    "kfac_core.presets.scaling": "Convention Scaling",
    "kfac_core.presets.damping": "Damping",
    "kfac_core.presets.factors": "Layer",
    "kfac_core.reference.affine": "AffineCache AffineLayer",
    "kfac_core.reference.comparison": "Comparison Errors",
    "kfac_core.reference.dense_fisher": "DenseFisher",
    "kfac_core.reference.fisher": "LayerData",
    "kfac_core.reference.layer": "Layer",
    "kfac_core.reference.linearization": "Batch SequentialLinearization",
    "kfac_core.reference.parameterless": "ElementwiseLayer",
    "kfac_core.reference.passes": "Backward Forward",
    "kfac_core.reference.right_digits": "Digits",
    "kfac_core.spec.base": "Spec",
    "kfac_core.testing.candidate": "Candidate",
    "kfac_core.testing.contract": "Report",
    "kfac_core.theorems.theorem": "Theorem",
    "kfac_core.theorems.trial": "Measured Sizes Trial",
    "kfac_core.typing": "Pair RowWeights Uses",
    "kfac_core.verify.report": "Report Result Run",
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
