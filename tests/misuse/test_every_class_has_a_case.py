"""Every factor and block that users make has a case, which suites of properties run."""

import inspect

import pytest
from block_cases import BLOCKS
from factor_cases import FACTORS
from more_cases import MORE_BLOCKS, MORE_FACTORS

import kfac_core as kc


def made_by(*tables):
    return {type(case.make()) for table in tables for case in table.values()}


def concrete(module, base):
    """Return the classes that a module exports to be made, and not to be derived."""
    exported = [getattr(module, name) for name in module.__all__]
    return [
        each
        for each in exported
        if inspect.isclass(each)
        and issubclass(each, base)
        and not inspect.isabstract(each)
        and not each.__doc__.startswith("Abstract base")
    ]


@pytest.mark.parametrize("factor", concrete(kc.factors, kc.factors.FisherFactor))
def test_every_factor_has_a_case(factor):
    assert factor in made_by(FACTORS, MORE_FACTORS)


@pytest.mark.parametrize("block", concrete(kc.blocks, kc.blocks.FisherBlock))
def test_every_block_has_a_case(block):
    assert block in made_by(BLOCKS, MORE_BLOCKS)


def test_a_class_without_a_case_is_told_of():
    class Another(kc.factors.FullyConnectedKroneckerFactor):
        """One more second moment."""

    assert Another not in made_by(FACTORS, MORE_FACTORS)
