"""A size that is none is refused where a factor is given it, by its name."""

from dataclasses import fields, replace

import numpy as np
import pytest
from factor_cases import FACTORS

import kfac_core as kc
from kfac_core.arguments.sizes import SIZES

BAD = [-1, 2.5, "3", True, np.float64(2), float("nan"), [3]]


@pytest.mark.parametrize("name", FACTORS)
def test_what_is_no_size_is_refused(name):
    factor = FACTORS[name].make(name="fc9")
    for field in [each.name for each in fields(factor) if each.name in SIZES]:
        for value in BAD:
            wanted = rf"^fc9: {field} is .*positive integer"
            with pytest.raises(kc.errors.ArgumentError, match=wanted):
                replace(factor, **{field: value})
        if (value := getattr(factor, field)) is not None:
            same = replace(factor, **{field: np.int64(value)})
            assert same == factor
            assert hash(same) == hash(factor)


def test_a_layer_of_a_bias_alone_has_rows_of_size_zero():
    assert kc.factors.FullyConnectedKroneckerFactor(0, has_bias=True).dimension == 1
    with pytest.raises(kc.errors.ArgumentError, match="size is 0"):
        kc.factors.FullyConnectedKroneckerFactor(0)


@pytest.mark.parametrize("value", [0, -1, "3", None, float("nan"), [1]])
@pytest.mark.parametrize("field", ["inputs_fraction", "max_patches_per_dimension"])
def test_what_is_no_share_of_a_sample_is_refused(field, value):
    with pytest.raises(kc.errors.ArgumentError, match=rf"^fc9: {field} is .*a number"):
        kc.factors.ConvInputKroneckerFactor(
            kc.ConvolutionGeometry((3, 3, 2, 4), padding="SAME"),
            name="fc9",
            **{field: value},
        )
