"""Only verbs are prepared; the errors of these are in `test_prepared_verbs.py`."""

import pytest

import kfac_core as kc

BLOCK = kc.blocks.FullyConnectedKFACBasicFB(2, 2)
WRONG = {
    "function": len,
    "nothing": None,
    "lambda": lambda state: state,
    "class": kc.FisherEstimator,
    "spec": BLOCK,
    "unbound": kc.blocks.FullyConnectedKFACBasicFB.update_covs,
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_only_verbs_of_specs_are_prepared(wrong):
    with pytest.raises(kc.errors.ArgumentError, match="expected a verb of a block"):
        kc.prepared(wrong)
