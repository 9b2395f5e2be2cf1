"""The table of ``tf.contrib.kfac``'s names is complete, and every name in it exists."""

import importlib.util
import inspect
from pathlib import Path

import pytest

import kfac_core
from kfac_core.contrib import fisher_blocks, fisher_factors

DOCS = Path(__file__).parents[2] / "docs"


def load(name):
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


seed_names = load("seed_names")
CLASSES = {seed.name: seed for seed in seed_names.CLASSES}
CONTRIB = {"fisher_factors": fisher_factors, "fisher_blocks": fisher_blocks}

# Class: arguments of the constructor; methods with theirs, properties without.
# First the classes that the manual has a page for, member by member.
DOCUMENTED = {
    "EmbeddingInputKroneckerFactor": (  # r1.8
        "input_ids, vocab_size, dtype",
        {
            "name": None,
            "get_cov": "",
            "get_cov_var": "",
            "instantiate_cov_variables": "",
            "instantiate_inv_variables": "",
            "left_multiply_matpower": "x, exp, damping_func",
            "make_covariance_update_op": "ema_decay",
            "make_inverse_update_ops": "",
            "register_matpower": "exp, damping_func",
            "right_multiply_matpower": "x, exp, damping_func",
        },
    ),
    "EmbeddingKFACFB": (  # r1.7
        "layer_collection, vocab_size",
        {
            "num_registered_minibatches": None,
            "full_fisher_block": "",
            "instantiate_factors": "grads_list, damping",
            "multiply": "vector",
            "multiply_inverse": "vector",
            "register_additional_minibatch": "inputs, outputs",
            "tensors_to_compute_grads": "",
        },
    ),
    "ConvInputKroneckerFactor": (  # r1.8
        "inputs, filter_shape, padding, strides, dilation_rate, data_format,"
        " extract_patches_fn, has_bias",
        {
            "name": None,
            "get_cov": "",
            "get_cov_var": "",
            "get_eigendecomp": "",
            "get_inverse": "damping_func",
            "get_matpower": "exp, damping_func",
            "instantiate_cov_variables": "",
            "instantiate_inv_variables": "",
            "left_multiply_matpower": "x, exp, damping_func",
            "make_covariance_update_op": "ema_decay",
            "make_inverse_update_ops": "",
            "register_inverse": "damping_func",
            "register_matpower": "exp, damping_func",
            "right_multiply_matpower": "x, exp, damping_func",
        },
    ),
    "FullyConnectedDiagonalFactor": (  # r1.10
        "inputs, outputs_grads, has_bias",
        {
            "name": None,
            "get_cholesky": "damping_func",
            "get_cholesky_inverse": "damping_func",
            "get_cov": "",
            "get_cov_as_linear_operator": "",
            "get_matpower": "exp, damping_func",
            "instantiate_cov_variables": "",
            "instantiate_inv_variables": "",
            "make_covariance_update_op": "ema_decay",
            "make_inverse_update_ops": "",
            "register_cholesky": "damping_func",
            "register_cholesky_inverse": "damping_func",
            "register_matpower": "exp, damping_func",
        },
    ),
}

# Their bases and relatives: the members of r1.8 and r1.10 together.
FACTOR = {
    "name": None,
    "instantiate_cov_variables": "",
    "make_covariance_update_op": "ema_decay",
    "instantiate_inv_variables": "",
    "make_inverse_update_ops": "",
    "get_cov": "",
    "get_cov_var": "",
    "get_cov_as_linear_operator": "",
    "register_matpower": "exp, damping_func",
    "register_cholesky": "damping_func",
    "register_cholesky_inverse": "damping_func",
    "get_matpower": "exp, damping_func",
    "get_cholesky": "damping_func",
    "get_cholesky_inverse": "damping_func",
    "left_multiply_matpower": "x, exp, damping_func",
    "right_multiply_matpower": "x, exp, damping_func",
}
DENSE = FACTOR | {
    "register_inverse": "damping_func",
    "get_inverse": "damping_func",
    "get_eigendecomp": "",
}
BASE_BLOCK = {
    "tensors_to_compute_grads": "",
    "num_registered_minibatches": None,
    "num_registered_towers": None,
    "instantiate_factors": "grads_list, damping",
    "register_matpower": "exp",
    "register_inverse": "",
    "register_cholesky": "",
    "register_cholesky_inverse": "",
    "multiply_matpower": "vector, exp",
    "multiply": "vector",
    "multiply_inverse": "vector",
    "multiply_cholesky": "vector, transpose",
    "multiply_cholesky_inverse": "vector, transpose",
    "full_fisher_block": "",
}
LAYER_BLOCK = BASE_BLOCK | {
    "register_additional_minibatch": "inputs, outputs",
    "register_additional_tower": "inputs, outputs",
}
NAIVE_BLOCK = BASE_BLOCK | {
    "register_additional_minibatch": "batch_size",
    "register_additional_tower": "batch_size",
}
DOCUMENTED |= {
    "FisherFactor": ("", FACTOR),
    "DenseSquareMatrixFactor": ("", DENSE),
    "InverseProvidingFactor": ("", DENSE),
    "DiagonalFactor": ("", FACTOR),
    "FullyConnectedKroneckerFactor": ("tensors, has_bias", DENSE),
    "ConvOutputKroneckerFactor": ("outputs_grads, data_format", DENSE),
    "ConvDiagonalFactor": (
        "inputs, outputs_grads, filter_shape, strides, padding, data_format,"
        " dilations, has_bias",
        FACTOR,
    ),
    "FullFactor": ("params_grads, batch_size", DENSE),
    "NaiveFullFactor": ("params_grads, batch_size", DENSE),
    "NaiveDiagonalFactor": ("params_grads, batch_size", FACTOR),
    "FisherBlock": ("layer_collection", BASE_BLOCK),
    "KroneckerProductFB": ("layer_collection", BASE_BLOCK),
    "FullyConnectedKFACBasicFB": ("layer_collection, has_bias", LAYER_BLOCK),
    "ConvKFCBasicFB": (
        "layer_collection, params, padding, strides, dilation_rate, data_format,"
        " extract_patches_fn",
        LAYER_BLOCK,
    ),
    "FullyConnectedDiagonalFB": ("layer_collection, has_bias", LAYER_BLOCK),
    "ConvDiagonalFB": (
        "layer_collection, params, strides, padding, data_format, dilations",
        LAYER_BLOCK,
    ),
    "FullFB": ("layer_collection, params", NAIVE_BLOCK),
    "NaiveFullFB": ("layer_collection, params", NAIVE_BLOCK),
    "NaiveDiagonalFB": ("layer_collection, params", NAIVE_BLOCK),
}

every_class = pytest.mark.parametrize("name", DOCUMENTED)


def names(arguments):
    return [name for name in arguments.split(", ") if name]


def test_no_class_is_missing_or_invented():
    assert CLASSES.keys() == DOCUMENTED.keys()
    assert len(seed_names.CLASSES) == len(CLASSES)


@every_class
def test_declared_names_are_those_documented(name):
    arguments, members = DOCUMENTED[name]
    assert sorted(CLASSES[name].arguments) == sorted(names(arguments))
    assert sorted(CLASSES[name].members) == sorted(members)


@every_class
def test_functional_names_exist(name):
    seed = CLASSES[name]
    targets = [*seed.arguments.values(), *map(seed.core_name, seed.members)]
    for target in targets:
        assert target.core or target.note
        if target.core:
            seed_names.resolve(getattr(kfac_core, name), target.core)


@every_class
def test_contrib_has_every_name_with_its_arguments(name):
    arguments, members = DOCUMENTED[name]
    cls = getattr(CONTRIB[CLASSES[name].module], name)
    if arguments:
        taken = [*inspect.signature(cls).parameters]
        assert taken[: len(names(arguments))] == names(arguments)
    missing = [member for member in members if not hasattr(cls, member)]
    assert not missing
    for member, expected in members.items():
        if expected is None:
            assert isinstance(getattr(cls, member), property)
            continue
        _, *taken = inspect.signature(getattr(cls, member)).parameters
        assert taken[: len(names(expected))] == names(expected), member


def test_every_documented_name_is_in_the_printed_tables():
    text = "\n".join(
        [seed_names.constructors(), *map(seed_names.members, sorted(CONTRIB))]
    )
    for name, (arguments, members) in DOCUMENTED.items():
        assert f"**{name}**" in text
        for word in (*names(arguments), *members):
            assert f"`{word}`" in text
