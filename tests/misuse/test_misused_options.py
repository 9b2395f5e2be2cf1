"""Every option of every factor and block, given what it cannot be, is refused."""

import collections
import re
from dataclasses import fields, replace

import numpy as np
import pytest
from more_cases import BLOCK_CASES, FACTOR_CASES
from walk import Call

import kfac_core as kc

SPECS = {
    **{f"factor-{name}": case.make for name, case in FACTOR_CASES.items()},
    **{f"block-{name}": case.make for name, case in BLOCK_CASES.items()},
}
HUGE = 10**400
NEVER = ("strings", {"a": 1}, object(), np.ones(2), 1j, 2.5j)
BAD = {
    "matpowers": (
        *NEVER,
        None,
        True,
        "",
        np.inf,
        -np.inf,
        np.nan,
        HUGE,
        (np.inf,),
        (-1, np.nan),
        ("-1",),
        (None,),
        (True,),
        ((),),
        ((-1, "a", "b"),),
        ((-1, []),),
    ),
    "cholesky": (*NEVER[:1], *NEVER[2:], None, 2.5, -1, "damping"),
    "cholesky_inverse": (*NEVER[:1], *NEVER[2:], None, 2.5, -1, "damping"),
    "eigendecomposition": (*NEVER, None, 1, 0, 2.5, "no"),
    "zero_debias": (*NEVER, None, 1, 0, 2.5, "no"),
    "init_covariances_at_zero": (*NEVER, None, 1, 0, 2.5, "no"),
    "newton_steps": (*NEVER, None, -1, 2.5, "3", True, np.nan),
    "precision": (*NEVER, None, 1, True, "HIGHEST", [], ("highest",)),
    "inverse_dtype": (*NEVER, 64, True, "float32", [], np.float64),
}
WHATEVER = {
    "None": None,
    "text": "strings",
    "digit": "3",
    "no text": "",
    "bytes": b"a",
    "dictionary": {"a": 1.0},
    "set": {1},
    "object": object(),
    "type": float,
    "function": len,
    "zero": 0,
    "one": 1,
    "below": -1,
    "fraction": 2.5,
    "NaN": np.nan,
    "infinity": np.inf,
    "complex": 1j,
    "huge": HUGE,
    "beyond": 10**5000,  # of which Python writes no digits
    "True": True,
    "array": np.ones(2),
    "matrix": np.ones((2, 2)),
    "objects": np.asarray([None]),
    "an empty tuple": (),
    "a list": [2],
    "two": (1, 1),
    "of None": (None,),
    "of text": ("a",),
    "of one below": (-1,),
    "of zero": (0,),
    "of fractions": (1.5,),
    "of True": (True,),
    "of the huge": (HUGE,),
    "of tuples": (("a", "b"),),
    "nested": ((1,),),
    "deeply nested": ((((1,),),),),
    "long": (1,) * 9,
}
"""What most options cannot be."""

AXES = {"None", "one", "two", "a list"}
IDS = {"an empty tuple", "a list", "two", "long", *(k for k in WHATEVER if "of " in k)}
IDS |= {"nested", "deeply nested"}
SIZE_OR_NONE = {"None", "one"}
SENSIBLE = {
    "name": {"text", "digit", "no text"},
    "data_name": {"text", "digit", "no text"},
    "size": {"one", "zero"},  # zero beside a bias
    "num_uses": SIZE_OR_NONE,
    "input_max_rows": SIZE_OR_NONE,
    "output_max_rows": SIZE_OR_NONE,
    "option1quants": IDS,
    "option2quants": IDS,
    "output_padding": {"None", "zero", "one", "two", "of zero", "a list"},
    "shape": {"an empty tuple", "a list", "two", "long"},
    "input_shape": {"two"},
    "broadcast_dims_scale": {"an empty tuple", "a list"},
    "broadcast_dims_shift": {"None", "an empty tuple", "a list"},
    "patch_mask": {"None", "matrix"},
    "inputs_fraction": {"one"},
    "max_patches_per_dimension": {"one", "fraction"},
    "padding_id": {"None", "zero", "one"},
    "normalize_damping_power": {"zero", "one", "below", "fraction"},
    "multiplier": SIZE_OR_NONE,
    "power": {"one", "fraction"},
    "uses_with_bias": {"of True"},
    "diagonal_rows": {"None", "True"},
    "data_format": {"None"},
    "output_shape": {"None"},
    "dtype": {"None"},
}
"""What some options can be of all that: in some of the specs that have them."""

WORDS = {
    # Factors call by their own names what their block says of one side.
    "input_max_rows": "max_rows|low rank",
    "output_max_rows": "max_rows|low rank",
    "input_blocks": "blocks",
    "output_blocks": "blocks",
    "diagonal_approx_for_input": "diagonal",
    "diagonal_approx_for_output": "diagonal",
    # Of fewer axes: what is said of them does not fit then.
    "output_shape": "output_shape|broadcast_dims",
    "input_shape": "input_shape|broadcast_dims",
    "size": "size|blocks is",
    "output_size": "output_size|blocks is",
}
"""What else errors say: a pattern for each option."""


def refusal(spec, option, value):
    """Return the error for an option; None if there is none, and the spec is whole."""
    try:
        made = replace(spec, **{option: value})
    except kc.KfacError as error:
        return error
    assert made == replace(made)
    assert isinstance(hash(made), int)
    return None


@pytest.mark.parametrize("name", SPECS)
def test_an_option_that_is_nothing_of_its_kind_is_refused(name, record_property):
    spec, rows = SPECS[name](name="some/layer"), collections.Counter()
    for each in fields(spec):
        if not each.init or each.name in BAD:
            continue
        sensible = SENSIBLE.get(each.name, set())
        # A flag may be True, and a size one.
        sensible = sensible or {"True" if each.type is bool else "one"}
        for fault, value in WHATEVER.items():
            error = refusal(spec, each.name, value)
            outcome = "accepted" if error is None else type(error).__name__
            rows[f"{type(spec).__name__}()", each.name, fault, outcome] += 1
            if error is None:
                assert fault in sensible, f"{each.name} = {fault} was accepted"
                continue
            said, word = str(error), WORDS.get(each.name, each.name)
            assert re.search(word, said), f"{each.name} = {fault}: {said}"
            labelled = each.name == "name" or "some/layer" in said
            assert labelled, f"{each.name} = {fault}: {said}"
    record_property("walked", [[*row, n] for row, n in rows.items()])


SHAPES = {
    **{fault: WHATEVER[fault] for fault in WHATEVER if fault not in {"of None"}},
    "of None": (None,),
    "another": (7, 7),
}


@pytest.mark.parametrize(
    "kind", [kc.factors.ScaleAndShiftFullFactor, kc.blocks.ScaleAndShiftDiagonalFB]
)
def test_specs_for_params(kind, walked):
    right = {"scale_shape": (3,), "input_shape": (4, 3), "output_shape": (4, 3)}
    right |= {"shift_shape": (3,)}
    # A parameter of one entry is broadcast along all axes, and one of none too.
    one = ("an empty tuple", "two")
    walked(
        Call(
            f"{kind.__name__}.for_params",
            lambda **given: kind.for_params(name="some/layer", **given),
            right,
            dict.fromkeys(right, SHAPES),
            {
                "scale_shape": one,
                "shift_shape": ("None", *one),
                "input_shape": ("two",),
                "output_shape": ("None",),
            },
            label="some/layer",
            words={
                "shift_shape": ("shift",),
                "scale_shape": ("scale",),
                "output_shape": ("shift", "outputs"),
            },
        )
    )


@pytest.mark.parametrize("name", SPECS)
def test_an_option_that_cannot_be_is_refused_by_its_name(name, record_property):
    make, outcomes = SPECS[name], collections.Counter()
    known = {each.name for each in fields(make())}
    for option in known & BAD.keys():
        for value in BAD[option]:
            with pytest.raises(kc.KfacError, match=option) as caught:
                make(**{option: value, "name": "some/layer"})
            assert "some/layer" in str(caught.value), (option, value)
            outcomes[type(caught.value).__name__] += 1
    record_property("refused", dict(outcomes))
    assert outcomes


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("power", [-1, np.float32(-1), np.int64(-1), [-1], (-1, -1.0)])
def test_a_power_alone_is_one_power(name, power):
    wanted = SPECS[name](matpowers=(-1.0,))
    assert SPECS[name](matpowers=power) == wanted
