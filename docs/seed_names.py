"""Every name of ``tf.contrib.kfac``'s factors and blocks, and what it is called here.

Declared once: `docs/from_tf_contrib_kfac.md` prints the tables, ``tests/docs`` checks
that no documented name is missing and that every name here exists. In a terminal:
``python docs/seed_names.py``.
"""

import dataclasses
import inspect
from typing import Any, NamedTuple

import kfac_core


class Name(NamedTuple):
    """What a name of the original becomes in the functional core.

    Attributes:
        core: A method, ``method(argument)``, or a field of the spec; empty if nothing
            takes its place, which `note` then explains.
        note: What is different.
    """

    core: str
    note: str = ""


class SeedClass(NamedTuple):
    """A class of ``tf.contrib.kfac``.

    Attributes:
        name: Its name, the same in all three places.
        release: The release whose manual documents it, or where its source is.
        arguments: Arguments of its constructor.
        members: Its methods and properties, keys of `FACTOR_MEMBERS` or
            `BLOCK_MEMBERS`.
    """

    name: str
    release: str
    arguments: dict[str, Name]
    members: tuple[str, ...]

    @property
    def module(self) -> str:
        """``"fisher_factors"`` or ``"fisher_blocks"``."""
        return "fisher_blocks" if self.name.endswith(("FB", "Block")) else _FACTORS

    @property
    def core(self) -> type:
        """The class of the functional core."""
        return getattr(kfac_core, self.name)

    def core_name(self, member: str) -> Name:
        """Return what a member is called in the functional core."""
        return (FACTOR_MEMBERS if self.module == _FACTORS else BLOCK_MEMBERS)[member]


_FACTORS = "fisher_factors"
_ID = "the damping function becomes a damping id"
_SNAPSHOT = "as of the last `update_inverses`; the power 1 is fresh"

FACTOR_MEMBERS = {
    "name": Name("name", "for messages alone: nothing is looked up by it"),
    "instantiate_cov_variables": Name("init", "returns the state"),
    "instantiate_inv_variables": Name(
        "init_inverses", "only to bring a state along after `register_...`"
    ),
    "make_covariance_update_op": Name("update_cov", "takes the data, too"),
    "make_inverse_update_ops": Name("update_inverses", "takes the damping"),
    "get_cov": Name("get_cov", "the whole matrix, as in r1.8"),
    "get_cov_var": Name("get_cov_var", "as it is stored"),
    "get_cov_as_linear_operator": Name("get_cov_as_linear_operator"),
    "get_eigendecomp": Name("get_eigendecomp", "fresh, none negative"),
    "register_matpower": Name("register_matpower", f"returns a new spec; {_ID}"),
    "register_inverse": Name("register_inverse", "likewise"),
    "register_cholesky": Name("register_cholesky", "likewise"),
    "register_cholesky_inverse": Name("register_cholesky_inverse", "likewise"),
    "get_matpower": Name("get_matpower", f"a linear operator; {_SNAPSHOT}"),
    "get_inverse": Name("get_inverse", "likewise"),
    "get_cholesky": Name("get_cholesky", "likewise"),
    "get_cholesky_inverse": Name("get_cholesky_inverse", "likewise"),
    "left_multiply_matpower": Name("left_multiply_matpower", _SNAPSHOT),
    "right_multiply_matpower": Name(
        "right_multiply_matpower", "likewise; diagonal factors have it, too"
    ),
}

BLOCK_MEMBERS = {
    "register_additional_minibatch": Name(
        "update_covs", "towers are the entries of a tuple"
    ),
    "register_additional_tower": Name("update_covs", "likewise"),
    "num_registered_minibatches": Name(
        "update_covs", "the length of that tuple; a naive block: `batch_size`"
    ),
    "num_registered_towers": Name("update_covs", "likewise"),
    "tensors_to_compute_grads": Name(
        "update_covs", "takes the gradients of the summed loss for the layer's outputs"
    ),
    "instantiate_factors": Name(
        "init", "the gradients go to `update_covs`, the damping to `update_inverses`"
    ),
    "register_matpower": Name("register_matpower", "returns a new spec"),
    "register_inverse": Name("register_inverse", "every block serves it anyway"),
    "register_cholesky": Name("register_cholesky", "returns a new spec"),
    "register_cholesky_inverse": Name("register_cholesky_inverse", "likewise"),
    "multiply_matpower": Name("multiply_matpower", _SNAPSHOT),
    "multiply": Name("multiply", "the power 1"),
    "multiply_inverse": Name("multiply_inverse", "the power -1"),
    "multiply_cholesky": Name("multiply_cholesky", "as of the last `update_inverses`"),
    "multiply_cholesky_inverse": Name("multiply_cholesky_inverse", "likewise"),
    "full_fisher_block": Name("full_fisher_block", "undamped"),
}

_TWO_SIDED = (
    "left_multiply_matpower",
    "right_multiply_matpower",
)
_DIAGONAL = tuple(
    name
    for name in FACTOR_MEMBERS
    if name not in {"get_eigendecomp", "get_inverse", "register_inverse"}
)
_DENSE = tuple(FACTOR_MEMBERS)
_BLOCK = tuple(BLOCK_MEMBERS)
_BLOCK_BASE = tuple(n for n in _BLOCK if not n.startswith("register_additional"))

_OWNER = Name("", "a block owns its factors, and no list of blocks is needed")
_BIAS = Name("has_bias")
_X = Name("update_cov(inputs)", "and its length is the field `input_size`")
_G = Name("update_cov(outputs_grads)", "and its length is the field `output_size`")
_CONV_X = Name("update_cov(inputs)")
_SHAPE = Name("filter_shape")
_PARAMS = Name("filter_shape", "a bias among them: `has_bias`")
_GEOMETRY = {name: Name(name) for name in ("strides", "padding", "data_format")}
_PATCHES = {
    "padding": Name("padding"),
    "strides": Name("strides"),
    "dilation_rate": Name("dilation_rate"),
    "data_format": Name("data_format"),
    "extract_patches_fn": Name("extract_patches_fn"),
}
_NAIVE = {
    "params_grads": Name("update_cov(params_grads)", "its entries: the field `size`"),
    "batch_size": Name("update_cov(batch_size)"),
}
_NAIVE_BLOCK = {
    "layer_collection": _OWNER,
    "params": Name("size", "the number of entries"),
}

CLASSES = (
    # The classes that the manual documents.
    SeedClass(
        "EmbeddingInputKroneckerFactor",
        "r1.8",
        {
            "input_ids": Name("update_cov(input_ids)"),
            "vocab_size": Name("vocab_size"),
            "dtype": Name("dtype"),
        },
        (
            "name",
            "get_cov",
            "get_cov_var",
            "instantiate_cov_variables",
            "instantiate_inv_variables",
            "make_covariance_update_op",
            "make_inverse_update_ops",
            "register_matpower",
            *_TWO_SIDED,
        ),
    ),
    SeedClass(
        "EmbeddingKFACFB",
        "r1.7",
        {"layer_collection": _OWNER, "vocab_size": Name("vocab_size")},
        (
            "num_registered_minibatches",
            "full_fisher_block",
            "instantiate_factors",
            "multiply",
            "multiply_inverse",
            "register_additional_minibatch",
            "tensors_to_compute_grads",
        ),
    ),
    SeedClass(
        "ConvInputKroneckerFactor",
        "r1.8",
        {"inputs": _CONV_X, "filter_shape": _SHAPE, **_PATCHES, "has_bias": _BIAS},
        (
            "name",
            "get_cov",
            "get_cov_var",
            "get_eigendecomp",
            "get_inverse",
            "get_matpower",
            "instantiate_cov_variables",
            "instantiate_inv_variables",
            "make_covariance_update_op",
            "make_inverse_update_ops",
            "register_inverse",
            "register_matpower",
            *_TWO_SIDED,
        ),
    ),
    SeedClass(
        "FullyConnectedDiagonalFactor",
        "r1.10",
        {"inputs": _X, "outputs_grads": _G, "has_bias": _BIAS},
        (
            "name",
            "get_cholesky",
            "get_cholesky_inverse",
            "get_cov",
            "get_cov_as_linear_operator",
            "get_matpower",
            "instantiate_cov_variables",
            "instantiate_inv_variables",
            "make_covariance_update_op",
            "make_inverse_update_ops",
            "register_cholesky",
            "register_cholesky_inverse",
            "register_matpower",
        ),
    ),
    # Their relatives, r1.8 and r1.10 together.
    SeedClass("FisherFactor", "base", {}, _DIAGONAL),
    SeedClass("DenseSquareMatrixFactor", "base, r1.10", {}, _DENSE),
    SeedClass("InverseProvidingFactor", "base, r1.8", {}, _DENSE),
    SeedClass("DiagonalFactor", "base", {}, _DIAGONAL),
    SeedClass(
        "FullyConnectedKroneckerFactor",
        "r1.10",
        {
            "tensors": Name("update_cov(tensors)", "its length: the field `size`"),
            "has_bias": _BIAS,
        },
        _DENSE,
    ),
    SeedClass(
        "ConvOutputKroneckerFactor",
        "r1.10",
        {
            "outputs_grads": Name(
                "update_cov(outputs_grads)", "its channels: the field `output_size`"
            ),
            "data_format": Name("data_format"),
        },
        _DENSE,
    ),
    SeedClass(
        "ConvDiagonalFactor",
        "r1.10",
        {
            "inputs": _CONV_X,
            "outputs_grads": Name("update_cov(outputs_grads)"),
            "filter_shape": _SHAPE,
            **_GEOMETRY,
            "dilations": Name("dilations"),
            "has_bias": _BIAS,
        },
        _DIAGONAL,
    ),
    SeedClass("FullFactor", "r1.10", _NAIVE, _DENSE),
    SeedClass("NaiveFullFactor", "later name", _NAIVE, _DENSE),
    SeedClass("NaiveDiagonalFactor", "r1.10", _NAIVE, _DIAGONAL),
    SeedClass("FisherBlock", "base", {"layer_collection": _OWNER}, _BLOCK_BASE),
    SeedClass("KroneckerProductFB", "base", {"layer_collection": _OWNER}, _BLOCK_BASE),
    SeedClass(
        "FullyConnectedKFACBasicFB",
        "r1.10",
        {"layer_collection": _OWNER, "has_bias": _BIAS},
        _BLOCK,
    ),
    SeedClass(
        "ConvKFCBasicFB",
        "r1.10",
        {"layer_collection": _OWNER, "params": _PARAMS, **_PATCHES},
        _BLOCK,
    ),
    SeedClass(
        "FullyConnectedDiagonalFB",
        "r1.10",
        {"layer_collection": _OWNER, "has_bias": _BIAS},
        _BLOCK,
    ),
    SeedClass(
        "ConvDiagonalFB",
        "r1.10",
        {
            "layer_collection": _OWNER,
            "params": _PARAMS,
            **_GEOMETRY,
            "dilations": Name("dilations"),
        },
        _BLOCK,
    ),
    SeedClass("FullFB", "r1.10", _NAIVE_BLOCK, _BLOCK),
    SeedClass("NaiveFullFB", "later name", _NAIVE_BLOCK, _BLOCK),
    SeedClass("NaiveDiagonalFB", "r1.10", _NAIVE_BLOCK, _BLOCK),
)


def resolve(cls: type, name: str) -> Any:
    """Return the method, property, argument or field that `Name.core` means.

    Raises:
        AttributeError: If the class has no such member.
        KeyError: If the method has no such argument.
    """
    member, _, argument = name.removesuffix(")").partition("(")
    for field in dataclasses.fields(cls):
        if field.name == member:
            return field
    found = getattr(cls, member)
    return inspect.signature(found).parameters[argument] if argument else found


def constructors() -> str:
    """Return the table of classes and of their constructors' arguments."""
    lines = ["| class and arguments | functional core | |", "|---|---|---|"]
    for seed in CLASSES:
        lines.append(f"| **{seed.name}** ({seed.release}) | | |")
        for argument, name in seed.arguments.items():
            core = f"`{name.core}`" if name.core else ""
            lines.append(f"| `{argument}` | {core} | {name.note} |")
    return "\n".join(lines)


def members(module: str) -> str:
    """Return the table of the members of factors or of blocks.

    Args:
        module: ``"fisher_factors"`` or ``"fisher_blocks"``.
    """
    lines = ["| method or property | functional core | |", "|---|---|---|"]
    names = FACTOR_MEMBERS if module == _FACTORS else BLOCK_MEMBERS
    lines += [
        f"| `{seed}` | `{name.core}` | {name.note} |" for seed, name in names.items()
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    print(constructors(), members(_FACTORS), members("fisher_blocks"), sep="\n\n")
