"""What makes names of a state, and a state of names, given what is none."""

import numpy as np
from bad_values import NOTHINGS
from walk import Call

import kfac_core as kc

STATE = kc.factors.FullyConnectedKroneckerFactor(2).init(np.zeros(1))
FAULTS = NOTHINGS | {"number": 1.0, "no arrays": (), "a list": [1.0, 2.0]}
SAVED = ("saved state", "restored without its classes")


def test_states_by_name(walked):
    walked(
        Call("state_to_dict", kc.state_to_dict, {"state": STATE}, {"state": FAULTS}),
        Call(
            "state_from_dict",
            kc.state_from_dict,
            {"template": STATE, "mapping": kc.state_to_dict(STATE)},
            {"template": FAULTS, "mapping": FAULTS | {"an array": np.ones(2)}},
            words={"mapping": SAVED, "template": SAVED},
        ),
        Call(
            "from_tree",
            kc.from_tree,
            {"template": STATE, "tree_of_arrays": STATE._asdict()},
            {"template": FAULTS, "tree_of_arrays": FAULTS | {"an array": np.ones(2)}},
            words={"tree_of_arrays": SAVED, "template": SAVED},
        ),
    )
