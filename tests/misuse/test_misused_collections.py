"""What a collection does beside registering layers of a kind: wrong arguments."""

import inspect
from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pytest
from bad_values import NOTHINGS, choice
from collection_cases import KINDS, PARAMS, empty
from registration_faults import FAULTS, WORDS, names, registration
from test_misused_registrations import ALLOWED, Recorder
from walk import Call

import kfac_core as kc
from kfac_core.layer_collection.approximations import APPROXIMATIONS

LABEL = "some/loss"
VERBS = {
    name
    for name, member in inspect.getmembers(kc.LayerCollection, callable)
    if not name.startswith("_")
}
PARAMETERS = {
    verb: inspect.signature(getattr(kc.LayerCollection, verb)).parameters
    for verb in VERBS
}
LOSSES = sorted(verb for verb in VERBS if "coeff" in PARAMETERS[verb])
DEFAULTS = {f"set_default_{kind}_approximation": kind for kind in APPROXIMATIONS}
DEFAULTS["set_default_approximation"] = "all layers"
LAYERS = {kind.register(Recorder())[0] for kind in KINDS.values()}
OTHERS = {
    "of",
    "check_registration",
    "define_linked_parameters",
    "define_parts",
    "register_block",
    "register_separable_conv2d",
}


def test_every_verb_is_walked():
    assert {*LOSSES, *DEFAULTS, *LAYERS, *OTHERS} == VERBS


@pytest.mark.parametrize("verb", LOSSES)
def test_losses(walked, verb):
    right = {
        name: parameter.default
        for name, parameter in list(PARAMETERS[verb].items())[1:]
    }
    right |= {"site": "here", "name": LABEL}
    if "loss" in right:
        right["loss"] = kc.losses.MultiBernoulliNegativeLogProbLoss()
    faults = {name: FAULTS[name](None) for name in right}
    # A loss does not know yet what it will be called.
    unnamed = {
        name: faults.pop(name) for name in ("var", "ignore_index") if name in faults
    }
    unnamed["name"] = faults.pop("name")
    allowed = {"name": ALLOWED["name"], "ignore_index": ("None",)}
    walked(
        registration(verb, right, faults, {}, LABEL),
        registration(
            verb, right, unnamed, {k: allowed[k] for k in unnamed if k in allowed}, ""
        ),
    )


@pytest.mark.parametrize("verb", DEFAULTS)
def test_defaults(walked, verb):
    kind = DEFAULTS[verb]
    right = {"value": next(iter(APPROXIMATIONS.get(kind, ["kron"])))}
    faults = {"value": choice("no", "kron_")}
    words = {"value": (f"the default of {kind}",)}
    function = getattr(empty(), verb)
    walked(Call(f"LayerCollection.{verb}", function, right, faults, words=words))


def test_blocks(walked):
    block = kc.blocks.FullyConnectedKFACBasicFB(4, 3, has_bias=True, name=LABEL)
    right = {"params": ("w", "b"), "block": block, "site": "here", "reuse": False}
    faults = {name: FAULTS[name](value) for name, value in right.items()}
    # What is no block has no name either.
    others = {"block": faults.pop("block")}
    allowed = {"site": ("None",), "params": ("too many", "another's")}
    walked(
        registration("register_block", right, faults, allowed, LABEL),
        registration("register_block", right, others, {}, ""),
    )


def test_separable_convolutions(walked):
    right = {
        "depthwise_params": "depthwise",
        "pointwise_params": ("pointwise", "pointwise_bias"),
        "depthwise_site": "first",
        "pointwise_site": "second",
        "strides": (2, 2),
        "padding": "SAME",
        "dilations": 1,
        "data_format": None,
        "layout": "HWIO",
        "approx": None,
        "reuse": False,
    }
    faults = {
        name: FAULTS[name.removeprefix("depthwise_").removeprefix("pointwise_")](value)
        for name, value in right.items()
    }
    allowed = {name: ALLOWED[name] for name in right if name in ALLOWED}
    words = WORDS | {
        f"{first}_{name}": (name, "parameter")
        for first in ("depthwise", "pointwise")
        for name in ("params", "site")
    }
    verb = "register_separable_conv2d"
    call = Call(f"LayerCollection.{verb}", getattr(empty(), verb), right, faults)
    walked(replace(call, allowed=allowed, words=words))


def test_links(walked):
    right = {"params": ("w", "b"), "approximation": "kron"}
    faults = {"params": names(("w", "b")), "approximation": choice("no")}
    allowed = {"approximation": ("None",), "params": ("too many", "another's")}
    walked(registration("define_linked_parameters", right, faults, allowed, ""))


def test_parts(walked):
    right = {"param": "table", "sizes": (3, 4), "axis": 0}
    sizes = {"too few": (3, 3), "empty": (), "of nothing": (7, 0), "text": "34"}
    sizes |= {"a number": 7, "negative": (8, -1), "fraction": (3.5, 3.5)}
    axes = {"too large": 2, "negative": -1, "a fraction": 0.5, "None": None}
    faults = {"param": names("table"), "sizes": sizes, "axis": axes}
    function, words = empty().define_parts, {"param": ("param", "axis")}
    walked(Call("LayerCollection.define_parts", function, right, faults, words=words))


def test_records(walked):
    block = kc.blocks.FullyConnectedKFACBasicFB(4, 3)
    layer = {"params": ("w",), "block": block, "towers": (("here",),)}
    loss = {
        "name": "loss",
        "loss": kc.losses.MultiBernoulliNegativeLogProbLoss(),
        "coeff": 1.0,
    }
    loss |= {"towers": ("there",)}
    tuples = NOTHINGS | {"list": [], "of numbers": (1,), "array": np.ones(2)}
    of_layer = {"params": tuples, "block": FAULTS["block"](None), "towers": tuples}
    of_loss = {"name": FAULTS["name"](None), "loss": FAULTS["loss"](None)}
    of_loss |= {"coeff": FAULTS["coeff"](None), "towers": tuples}
    fields = {
        "layers": (kc.layer_collection.LayerRegistration(**layer),),
        "defaults": (("bias", "full"),),
    }
    fields |= {
        "losses": (kc.layer_collection.LossRegistration(**loss),),
        "variables": (("w", (4, 3)),),
    }
    fields |= {"links": ((frozenset({"w"}), None),)}
    walked(
        record(kc.layer_collection.LayerRegistration, layer, of_layer),
        record(
            kc.layer_collection.LossRegistration, loss, of_loss, {"name": ("string",)}
        ),
        record(kc.LayerCollection, fields, dict.fromkeys(fields, tuples)),
    )


def record(kind, right, faults, allowed=MappingProxyType({})):
    return Call(kind.__name__, kind, right, faults, allowed, kind.__name__)


def models():
    """What is no mapping from names to shapes, and how it is wrong."""
    values = {"of numbers": {"w": 1}, "of text": {"w": "shape"}, "of None": {"w": None}}
    sizes = {"below": {"w": (-1,)}, "fraction": {"w": (2.5,)}, "flag": {"w": (True,)}}
    names = {"no text": {1: (2,)}, "an empty name": {"": (2,)}}
    nested = {"nested": {"layer": {"w": (2,)}}, "list": [("w", (2,))], "number": 1}
    nothings = {name: bad for name, bad in NOTHINGS.items() if name != "dictionary"}
    return nothings | values | sizes | names | nested | {"array": np.ones(2)}


def test_models(walked):
    words = {"params": ("parameter",)}
    faults = {"params": models()}
    walked(
        Call(
            "LayerCollection.of",
            kc.LayerCollection.of,
            {"params": PARAMS},
            faults,
            words=words,
        )
    )


def test_checks(walked):
    collection = kc.LayerCollection.of({"w": (4, 3)}).register_fully_connected("w", "a")
    collection = collection.register_squared_error_loss("b")
    right = {"variables": {"w": (4, 3)}, "uses": {"w": 1}}
    uses = NOTHINGS | {"list": [("w", 1)], "number": 1, "array": np.ones(2)}
    uses |= {"fraction": {"w": 1.5}, "text": {"w": "1"}, "below": {"w": -1}}
    uses |= {"unknown": {"v": 1}, "another": {"w": 2}, "flag": {"w": True}}
    faults = {"variables": models(), "uses": uses}
    words = {"variables": ("parameter",)}
    allowed = {"variables": ("None",), "uses": ("None",)}
    function = collection.check_registration
    walked(
        Call(
            "LayerCollection.check_registration",
            function,
            right,
            faults,
            allowed,
            words=words,
        )
    )
