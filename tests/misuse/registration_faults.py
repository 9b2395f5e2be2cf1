"""What the arguments of registrations cannot be."""

import numpy as np
from bad_values import HUGE, NOTHINGS, choice, flag, size
from collection_cases import empty
from walk import Call


def names(right):
    """Names of parameters; `right` are the right ones."""
    key = (right,) if isinstance(right, str) else right
    numbers = {"number": 1, "one a number": (key[0], 1), "bytes": b"w"}
    lists = {"no names": (), "twice": (key[0], key[0]), "a set": {*key}}
    unknown = {"unknown": "unknown", "one unknown": (key[0], "unknown")}
    shapes = {"too many": (*key, "conv3", "pointwise"), "another's": "scalar"}
    return NOTHINGS | numbers | lists | unknown | shapes | {"array": np.ones(2)}


def site():
    """Sites; any text is one."""
    numbers = {"number": 1, "one a number": ("here", 1), "bytes": b"here"}
    lists = {"no sites": (), "twice": ("a", "a"), "list": [], "one empty": ("",)}
    nothings = {name: bad for name, bad in NOTHINGS.items() if name != "string"}
    return nothings | {"array": np.ones(2)} | numbers | lists


def steps():
    """Strides and dilations."""
    lists = {"too many": (1,) * 6, "no steps": (), "of text": ("a", "b")}
    lists |= {"zeros": (0, 0), "some below": (-1, 1), "fractions": (1.5, 1.0)}
    return size() | lists | {"flags": (True, True)}


def but_none(faults):
    """Return faults without None, which stood for one in an older release."""
    return {name: value for name, value in faults.items() if name != "None"}


def padding():
    """Widths of borders."""
    widths = {"pairs of three": ((1, 2, 3),) * 2, "some below": ((-1, 0), (0, 0))}
    widths |= {"too many": (1,) * 6, "fractions": (0.5, 1.5), "of text": ("a", "b")}
    return size() | widths | {"flags": (True, True), "miss": "FULL"}


def shape():
    """A shape, of which axes may be free."""
    sizes = {"zero": (0, 5), "below": (-1, 5), "fraction": (2.5, 5), "text": ("1", 5)}
    return NOTHINGS | sizes | {"flag": (True, 5), "number": 5, "array": np.ones(2)}


def uses():
    """Kinds of uses, each with its site."""
    pairs = {"one a number": [("embedding", 1)], "unknown": [("dense", "a")]}
    pairs |= {
        "three": [("embedding", "a", "b")],
        "site twice": [("embedding", "a")] * 2,
    }
    return choice([], ["embedding"]) | pairs | {"kind a list": [([], "a")]}


def coefficient():
    """What a loss is multiplied by."""
    numbers = {"below": -1.0, "NaN": np.nan, "infinity": np.inf, "huge": HUGE}
    others = {"flag": True, "complex": 1j, "array": np.ones(2), "list": [1.0]}
    return NOTHINGS | numbers | others


def index():
    """A label."""
    numbers = {"fraction": 2.5, "NaN": np.nan, "flag": True, "wide": 2**31}
    return NOTHINGS | numbers | {"huge": HUGE, "array": np.ones(2), "list": [0]}


def variance():
    """A variance, or one for each output."""
    lists = {"no numbers": [], "of text": ["a"], "uneven": [[1.0], [1.0, 2.0]]}
    numbers = {"zero": 0.0, "below": -1.0, "flag": True, "complex": 1j, "huge": HUGE}
    values = {"NaN": np.nan, "infinity": np.inf, "one below": [0.5, -1.0]}
    arrays = {"flags": np.asarray([True]), "complex array": np.asarray([1j])}
    return NOTHINGS | lists | numbers | values | arrays | {"empty": np.ones(0)}


FAULTS = {
    "params": names,
    "param": names,
    "site": lambda right: site(),
    "padding": lambda right: padding(),
    "strides": lambda right: but_none(steps()),
    "dilations": lambda right: but_none(steps()),
    "output_padding": lambda right: steps(),
    "num_groups": lambda right: size() | {"no divisor": 7},
    "num_uses": lambda right: size() | {"another": 7},
    "batch_first": lambda right: flag(),
    "dense_inputs": lambda right: flag(),
    "data_format": lambda right: choice("NWHC", "nhwc", "NC"),
    "layout": lambda right: choice("oihw", "IO", "in_in"),
    "input_shape": lambda right: shape(),
    "output_shape": lambda right: shape(),
    "loss": lambda right: NOTHINGS | {"number": 1, "list": []},
    "coeff": lambda right: coefficient(),
    "ignore_index": lambda right: index(),
    "var": lambda right: variance(),
    "block": lambda right: NOTHINGS | {"number": 1, "list": []},
    "approx": lambda right: choice("kron_", "no"),
    "reuse": lambda right: choice("yes") | {"one": 1},
    "name": lambda right: NOTHINGS | {"list": [], "one": 1, "array": np.ones(2)},
    "uses_with_bias": lambda right: choice((True,), (1, 0), (True, None)),
    "uses": lambda right: uses(),
}
WORDS = {
    "params": ("parameter",),
    "strides": ("stride",),
    "dilations": ("dilation",),
    "data_format": ("data format",),
}


def registration(verb, right, faults, allowed, label):
    """Return the call of a registration on an empty collection."""
    name = f"LayerCollection.{verb}"
    return Call(name, getattr(empty(), verb), right, faults, allowed, label, WORDS)
