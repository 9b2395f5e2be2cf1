"""Every loss in the original's calling convention, with wrong arguments."""

import inspect

import numpy as np
import pytest
from bad_values import NOTHINGS
from loss_table import CERTAIN, Table
from registration_faults import FAULTS
from walk import Call

from kfac_core.contrib import loss_functions

NAMES = {
    "categorical": ("logits",),
    "one-hot": ("logits",),
    "bernoulli": ("logits",),
    "normal": ("mean",),
    "mean-variance": ("mean", "variance"),
}
CLASSES = {
    name: kind
    for name, kind in inspect.getmembers(loss_functions, inspect.isclass)
    if kind.__module__ == loss_functions.__name__
}
# The argument of a method, and what it is called where it is computed with.
VECTORS = {"": "vector", "_factor": "inner", "_factor_transpose": "vector"}
PRODUCTS = {
    f"multiply_{matrix}{kind}": argument
    for matrix in ("fisher", "ggn", "hessian")
    for kind, argument in (VECTORS | {"_factor_replicated_one_hot": "index"}).items()
}


@pytest.fixture(params=NAMES)
def table(request, kinds):
    return Table(request.param, kinds, np.random.default_rng(0))


@pytest.fixture
def inputs(table):
    """The inputs by their names."""
    x = table.right["inputs"]
    parts = x if isinstance(x, tuple) else (x,)
    return dict(zip(NAMES[table.name], parts, strict=True))


@pytest.fixture
def kind(table):
    return CLASSES[table.loss.label]


def test_every_loss_is_walked(kinds):
    rng = np.random.default_rng(0)
    labels = {Table(name, kinds, rng).loss.label for name in NAMES}
    assert {*CLASSES} == labels | {"LossFunction"}


def test_constructors(walked, kinds, table, kind, inputs):
    def whole(**arguments):
        loss = kind(**arguments)
        return loss.evaluate(), loss.evaluate_on_sample(), loss.dtype

    free = table.call("evaluate", "inputs", "targets").allowed
    right = inputs | {"targets": table.right["targets"], "seed": table.right["key"]}
    faults = {"targets": table.faults["targets"], "seed": table.faults["key"]}
    for name, x in inputs.items():
        wrong = kinds.data(x)
        # If an event is certain, the loss of the other one is infinite indeed.
        left_out = CERTAIN if table.name == "bernoulli" else ()
        faults[name] = {k: bad for k, bad in wrong.items() if k not in left_out}
    allowed = {"targets": free["targets"]}
    allowed |= {name: free["inputs"] & faults[name].keys() for name in inputs}
    if table.name == "normal":
        right["var"], faults["var"] = 0.5, FAULTS["var"](None)
    # A seed is what the library calls a key; of one input a tuple is several.
    words = {"seed": ("seed", "key")} | dict.fromkeys(inputs, ("inputs",))
    label = table.loss.label
    walked(Call(f"contrib.{label}", whole, right, faults, allowed, label, words))


def test_the_base(walked, table):
    right = {"spec": table.loss, "inputs": table.right["inputs"], "targets": None}
    right["seed"] = None
    faults = {"spec": NOTHINGS | {"class": type(table.loss), "list": []}}
    label = "LossFunction"
    walked(Call(f"contrib.{label}", CLASSES[label], right, faults, {}, label))


def test_methods(walked, table, kind, inputs):
    loss = kind(**inputs, targets=table.right["targets"])
    calls = []
    for verb, what in PRODUCTS.items():
        if not table.has_ggn and "fisher" not in verb:
            continue
        argument = "index" if what == "index" else "vector"
        calls.append(
            Call(
                f"contrib.{table.loss.label}.{verb}",
                getattr(loss, verb),
                {argument: table.right[what]},
                {argument: table.faults[what]},
                {argument: table.allowed.get(what, ())},
                table.loss.label,
                {"vector": ("inner",)},
            )
        )
    for verb in ("sample", "evaluate_on_sample"):
        right = {"seed": table.right["key"]}
        faults, words = {"seed": table.faults["key"]}, {"seed": ("key",)}
        name = f"contrib.{table.loss.label}.{verb}"
        function, label = getattr(loss, verb), table.loss.label
        calls.append(Call(name, function, right, faults, {}, label, words))
    walked(*calls)


def test_every_method_is_walked(kind):
    methods = {name for name, _ in inspect.getmembers(kind, inspect.isfunction)}
    others = {"evaluate", "sample", "evaluate_on_sample"}
    assert {name for name in methods if name[0] != "_"} == {*PRODUCTS, *others}
