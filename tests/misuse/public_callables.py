"""What is public, where it is walked, and what is not walked, each with its reason."""

import ast
import importlib
import inspect
from functools import cache
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, NamedTuple

import kfac_core as kc
from kfac_core import (
    damping,
    linalg,
    moving_average,
    reference,
    state,
    statistics,
    testing,
)
from kfac_core.contrib import fisher_blocks, fisher_factors
from kfac_core.estimator import BlockTridiagonalEstimator
from kfac_core.rows import uses

HERE = Path(__file__).parent

WALKED_IN: dict[Any, tuple[str, ...]] = {
    kc.factors.FisherFactor: ("factors", "options"),
    kc.blocks.FisherBlock: ("blocks", "options"),
    kc.linalg.LinearOperator: ("operators",),
    kc.linalg.FullMatrixOperator: ("operators",),
    kc.linalg.DiagonalOperator: ("operators",),
    kc.losses.LossFunction: ("losses", "losses_of_libraries"),
    kc.ConvolutionGeometry: ("geometry",),
    kc.LayerCollection: ("collections", "registrations"),
    kc.layer_collection.LayerRegistration: ("collections",),
    kc.layer_collection.LossRegistration: ("collections",),
    fisher_factors.FisherFactor: ("contrib",),
    fisher_blocks.FisherBlock: ("contrib",),
    kc.FisherEstimator: ("estimator",),
    BlockTridiagonalEstimator: ("tridiagonal",),
    kc.summary: ("estimator",),
    kc.SpectralBlock: ("spectral",),
    kc.SpectralMatrix: ("spectral",),
    kc.KfacOptimizer: ("optimizer",),
    kc.CurvatureMatrixVectorProductComputer: ("models",),
    kc.state_to_dict: ("saving",),
    kc.state_from_dict: ("saving",),
    kc.from_tree: ("saving",),
    kc.save: ("saving",),
    kc.load: ("saving",),
    kc.load_arrays: ("saving",),
    kc.prepared: ("prepared",),
    kc.backend_of: ("registry",),
    kc.load_backend: ("registry",),
    kc.available_backends: ("registry",),
    kc.state_classes: ("saving",),
    reference.Layer: ("reference_layers", "reference"),
    reference.Sequential: ("reference",),
    reference.SequentialModel: ("reference",),
    reference.SequentialLinearization: ("reference",),
    reference.TiedLanguageModel: ("reference",),
    reference.block_for: ("reference",),
    reference.case_gradients: ("dense_fisher",),
    reference.compare: ("comparison",),
    reference.dense_blocks: ("dense_fisher",),
    reference.dense_fisher: ("dense_fisher",),
    reference.diagonal_block_for: ("reference",),
    reference.digits: ("digits",),
    reference.exact_fisher: ("reference",),
    reference.exact_sources: ("reference",),
    reference.empirical_fisher: ("reference",),
    reference.heat_maps: ("pictures",),
    reference.sampled_fisher: ("reference",),
    testing.Candidate: ("tools",),
    testing.check_backend: ("tools",),
    testing.check_linearization: ("dense_fisher",),
}
"""By the class, or its base: the modules ``test_misused_...`` that walk its verbs."""

HOLDS = "holds what it is given: what reads it checks it"
EXEMPT: dict[Any, str] = {
    Exception: "an error is raised, and not asked",
    tuple: HOLDS,
    kc.blocks.SeriesFBApproximation: "a number of Python's, which refuses others",
    kc.factors.Form: "its factor checks all that it is given",
    kc.Linearization: "a protocol, of which models are the implementations",
    kc.Model: "a protocol, whose implementations are the user's",
    kc.layer_collection.Approximation: "is made by registrations, which check",
    testing.Report: "holds what was found",
    reference.Comparison: "holds what was found",
    reference.Errors: "holds what was found",
}
"""By the class, or by its base: why it is not walked."""

LOW_LEVEL: dict[ModuleType, str] = {
    linalg: "checked",
    statistics: "checked",
    damping: "checked",
    uses: "checked",
    moving_average: "checked",
    state: "checked",
}
"""Modules and packages whose documentation says that checks are their callers'."""


class Verb(NamedTuple):
    """A function that a user calls.

    Attributes:
        owner: The class, or the function itself.
        name: Its name.
    """

    owner: Any
    name: str

    def __str__(self) -> str:
        return f"{getattr(self.owner, '__name__', self.owner)}.{self.name}"


def public(module: ModuleType) -> list[Any]:
    """Return the classes and functions that a module exports."""
    found = (getattr(module, name) for name in module.__all__)
    kinds = (type, FunctionType)  # and no names of types
    return [each for each in found if isinstance(each, kinds) and each is not Any]


def verbs_of(owner: Any) -> list[Verb]:
    """Return what a user calls of a class: its methods; or a function itself."""
    if not isinstance(owner, type):
        return [Verb(owner, owner.__name__)]
    members = inspect.getmembers(owner, callable)
    return [
        Verb(owner, name)
        for name, value in members
        if not name.startswith("_")
        and not isinstance(value, type)
        and takes_arguments(value)
    ]


def takes_arguments(function: Any) -> bool:
    """Say whether a function of a class takes more than its instance."""
    if not inspect.isfunction(function) and not inspect.ismethod(function):
        return True
    return bool(set(inspect.signature(function).parameters) - {"self"})


def reason(owner: Any) -> str | None:
    """Return why a class is not walked; None if it is to be."""
    if not isinstance(owner, type):
        return None
    walked = any(base in WALKED_IN for base in owner.__mro__)
    found = [why for base, why in EXEMPT.items() if base in owner.__mro__]
    return found[0] if found and not walked else None


def modules_for(owner: Any) -> tuple[str, ...]:
    """Return the modules that walk a class or a function."""
    bases = owner.__mro__ if isinstance(owner, type) else (owner,)
    for base in bases:
        if base in WALKED_IN:
            return WALKED_IN[base]
    return ()


@cache
def names_in(module: str) -> frozenset[str]:
    """Return all names that a module walks, or speaks of."""
    name = f"test_misused_{module}"
    tree = ast.parse((HERE / f"{name}.py").read_text())
    spoken = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    attributes = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
    keywords = {n.arg for n in ast.walk(tree) if isinstance(n, ast.keyword)}
    imported = importlib.import_module(name)
    walked = {*getattr(imported, "WALKED", ()), *getattr(imported, "VERBS", ())}
    words = {word for text in spoken if isinstance(text, str) for word in text.split()}
    plain = {each.rpartition(".")[2] for each in (*walked, *words)}
    return frozenset(plain | attributes | {key for key in keywords if key})


def is_walked(verb: Verb) -> bool:
    """Say whether one of the modules for its class walks a verb."""
    return any(verb.name in names_in(module) for module in modules_for(verb.owner))
