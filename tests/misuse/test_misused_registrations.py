"""Every way to register a layer, with each argument as it cannot be."""

import inspect

import numpy as np
import pytest
from collection_cases import KINDS, empty
from registration_faults import FAULTS, registration

import kfac_core as kc

LABEL = "some/layer"


class Recorder:
    """Stands for a collection: it keeps how a layer is registered."""

    def __getattr__(self, verb):
        def record(*args, **kwargs):
            signature = inspect.signature(getattr(kc.LayerCollection, verb))
            bound = signature.bind(self, *args, **kwargs)
            bound.apply_defaults()
            return verb, dict(list(bound.arguments.items())[1:])

        return record


# What is none of a layer's arguments, or is given by another one.
NO_OPTIONS = {"no_such_option": {"given": 1}}

ALLOWED = {
    "approx": ("None",),
    "batch_first": ("None",),
    "name": ("None", "string", "empty string"),
    "data_format": ("None",),
    "output_padding": ("None", "zero"),
    "output_shape": ("None",),
    "num_uses": ("None",),
    "uses_with_bias": ("None",),
    "padding": ("zero",),
}


OF_KIND = {
    "generic": {"params": ("too many", "another's")},
    "bias": {"param": ("another's",)},
    # One scale for all.
    "scale_and_shift": {"params": ("another's",)},
    "conv1d": {
        "strides": ("list",),
        "dilations": ("list",),
        "padding": ("zero", "list"),
    },
    # The output padding would be too large.
    "transposed_convolution": {
        "output_padding": ("None", "zero", "zeros"),
    },
    "transposed_convolution_multi": {
        "output_padding": ("None", "zero", "zeros"),
    },
}


@pytest.mark.parametrize("number", [1, np.int64(1), [1, 1], (np.int32(1), np.uint8(1))])
def test_numbers_of_numpy_and_lists_are_as_good(number):
    steps = dict.fromkeys(("padding", "strides", "dilations"), number)
    wanted = dict.fromkeys(steps, 1)
    for verb, params in (
        ("convolution", ("conv2", "conv2_bias")),
        ("transposed_convolution", "conv2"),
    ):
        function = getattr(empty(), f"register_{verb}")
        made = function(params, "here", **steps)
        assert made == function(params, "here", **wanted)
        assert hash(made) == hash(function(params, "here", **wanted))


@pytest.mark.parametrize("name", KINDS)
def test_layers(walked, name):
    verb, arguments = KINDS[name].register(Recorder(), name=LABEL)
    options = arguments.pop("options")
    faults = {key: FAULTS[key](right) for key, right in arguments.items()}
    allowed = {key: ALLOWED[key] for key in arguments if key in ALLOWED}
    allowed |= OF_KIND.get(name, {})
    # What has no name has none in the message.
    names = {"name": faults.pop("name")}
    right = arguments | options
    walked(
        registration(verb, right, faults | NO_OPTIONS, allowed, LABEL),
        registration(verb, right, names, {"name": allowed.pop("name")}, ""),
    )
