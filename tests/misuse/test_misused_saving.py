"""What makes names and files of a state, and a state of these, given what is none."""

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


def test_files(walked, tmp_path):
    spec, path = kc.factors.FullyConnectedKroneckerFactor(2), tmp_path / "state"
    other = kc.factors.FullyConnectedKroneckerFactor(3)
    kc.save(path, STATE, spec, arrays={"x": np.ones(2)})
    specs = NOTHINGS | {"another spec": other, "a class": type(spec)}
    paths = NOTHINGS | {"number": 1.5}
    del paths["string"], paths["empty string"]  # these are names of files
    arrays = NOTHINGS | {"a list": [np.ones(2)], "an array": np.ones(2)}
    del arrays["None"]
    walked(
        Call(
            "save",
            kc.save,
            {"path": path, "state": STATE, "spec": spec, "arrays": {}},
            {
                "path": paths,
                "state": FAULTS | {"of another spec": other.init(np.zeros(1))},
                "spec": specs,
                "arrays": arrays,
            },
        ),
        Call(
            "load",
            lambda **given: kc.state_to_dict(kc.load(**given)),
            {"path": path, "spec": spec, "like": np.zeros(1)},
            {"path": paths, "spec": specs, "like": FAULTS},
        ),
        Call(
            "load_arrays",
            kc.load_arrays,
            {"path": path, "like": np.zeros(1)},
            {"path": paths, "like": FAULTS},
        ),
    )
