"""Losses of each array library, and compiled: arguments that they cannot have."""

import importlib
from dataclasses import replace

import numpy as np
import pytest
from bad_values import Kinds
from loss_table import Table

NAMES = ("categorical", "mean-variance")
FORMS = (
    "an axis more",
    "an axis less",
    "no axes",
    "too wide",
    "a case less",
    "no channels",
    "booleans",
    "integers",
    "complex",
)
"""What is wrong of an array whatever its values are."""

OF_LIBRARY = (
    "None",
    "string",
    "number",
    "list",
    "no axes",
    "another library",
    "another device",
    "booleans",
    "integers",
    "complex",
    "NaN",
    "zero",
)
"""What libraries may answer unlike each other."""


def key_of(library):
    if library == "torch":
        return importlib.import_module("torch").Generator().manual_seed(0)
    if library == "jax":
        return importlib.import_module("jax").random.key(0)
    return np.random.default_rng(0)


def test_losses_of_a_library(walked, plain_library, library_kinds):
    labels, pair = (
        Table(name, library_kinds, key_of(plain_library.name)) for name in NAMES
    )
    labels.keep(OF_LIBRARY)
    pair.keep(OF_LIBRARY)
    walked(
        labels.call("gradient", "inputs", "targets", "mask"),
        labels.call("sample", "key", "inputs", "num_samples", "mask"),
        pair.call("multiply_fisher", "inputs", "vector"),
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("verb", ["gradient", "multiply_fisher"])
def test_forms_are_checked_under_a_trace(walked, jax, name, verb):
    table = Table(name, Kinds(jax.numpy.asarray), jax.random.key(0))
    table.keep(FORMS)
    call = table.call(verb, "inputs", "targets" if verb == "gradient" else "vector")
    compiled = jax.jit(call.function)
    walked(replace(call, function=compiled))
