"""Every verb of every factor, with each argument as it cannot be."""

from dataclasses import replace

import numpy as np
import pytest
from bad_values import name
from factor_case import NumPy
from more_cases import FACTOR_CASES as CASES
from spec_calls import LABEL, Spec, towers, verbs_of

import kfac_core as kc

NOT_OF_POWERS = {
    "get_cholesky",
    "get_cholesky_inverse",
    "get_eigenvalues",
    "get_eigenvectors",
    "register_cholesky",
    "register_cholesky_inverse",
}
"""What factors that serve powers alone do not serve."""

OPTION_VERBS = {f"get_option{number}quants" for number in (1, 2)}

OF_LAG_ONE = {
    f"{what}_{name}"
    for what in ("get", "register")
    for name in ("cov_dt1", "option1quants", "option2quants")
}
"""What a factor of rows with uses serves, unless it keeps their squares alone."""


def served(case, spec, verb):
    """Say whether a case serves a verb, so that there is a right call."""
    if case.powers_alone and verb in NOT_OF_POWERS:
        return False
    if verb in OF_LAG_ONE and isinstance(spec.form, kc.factors.Diagonal):
        return False
    return verb not in OPTION_VERBS or bool(getattr(spec, verb[4:]))


def walks():
    """Yield all cases with the verbs that are new in them."""
    seen = set()
    for case_name, case in CASES.items():
        spec = case.make(**case.all_served(-1))
        for verb in verbs_of(spec):
            key = (getattr(type(spec), verb), len(spec.cov_shape))
            if not served(case, spec, verb) or (verb != "update_cov" and key in seen):
                continue
            seen.add(key)
            yield case_name, verb


WALKS = list(walks())
WALKED = {f"FisherFactor.{verb}" for _, verb in WALKS}


class Factor(Spec):
    """A factor after an update, and what the arguments of its verbs cannot be."""

    def __init__(self, case, kinds, library, rng):
        self.case, self.kinds, self.library = case, kinds, library
        self.spec = case.make(name=LABEL, **case.all_served(-1))
        self.data = case.draw(rng, 6)
        state = case.updated(library, self.spec, self.data)
        self.state = self.spec.update_inverses(state, 0.1)
        like = library.asarray(np.zeros(1))
        self.states = kinds.state(
            other=kc.factors.FullyConnectedKroneckerFactor(11).init(like),
            served=replace(self.spec, matpowers=(-0.5,)).init(like),
            block=kc.blocks.FullyConnectedKFACBasicFB(3, 2).init(like),
        )

    def _damping(self, verb):
        mapped = {"no id": {}, "below of an id": {"damping": -1.0}}
        mapped |= {"None of an id": {"damping": None}}
        # Of a factor of two groups, a damping for each.
        allowed = ("two numbers",) if self.case.stacked else ()
        return 0.1, self.kinds.scalar() | mapped, *allowed

    def _damping_id(self, verb):
        allowed = ("not served", "None") if verb.startswith("register") else ()
        faults = name() | {"not served": "other", "None": None}
        return "damping", faults, *allowed

    def _x(self, verb):
        right = verb.startswith("right")
        n = self.spec.dimension
        shape = (3, n) if right else (n, 3)
        x = np.ones((2, *shape) if self.case.stacked else shape)
        faults = self.kinds.data(x, channels=-1 if right else -2, cases=0)
        # There may be any number of rows, and none.
        allowed = ("a case less", "empty") if right and not self.case.stacked else ()
        return self.library.asarray(x), faults, *allowed

    def _of_update(self, names):
        case, found = self.case, {}
        for place, x in enumerate(self.data):
            found[names[1 + place]] = self._data(x, place)
        # Rows may have axes of uses: of one, it may be there or not.
        one_use = case.argument == "tensors" and case.axis == 0 and not case.stacked
        allowed = ("an axis more",) if one_use else ()
        return found | self._of_batches(names, *allowed)

    def _data(self, x, place):
        case, kinds = self.case, self.kinds
        if case.axis is None:
            # Whatever their shapes, the entries of all arrays are one vector.
            right = tuple(map(self.library.asarray, x))
            return right, kinds.vector(x), "an axis less", "an axis more"
        alone = () if case.paired else ("a case less",)
        if case.ids:
            return self.library.asarray(x), kinds.ids(x, 5, case.axis), *alone
        free = case.any_rank and not getattr(self.spec, "data_format", None)
        allowed = (*alone, "an axis more") if free else alone
        faults = kinds.data(x, case.channels if place == 0 else -1, case.axis)
        if "key" in case.extra:  # what is not drawn may be anything
            del faults["NaN"], faults["infinity"], faults["minus infinity"]
        if case.argument == "tensors" and case.axis == 0 and not case.stacked:
            allowed = (*allowed, "unlike uses")  # rows, whatever they are of
        right = self.library.asarray(x)
        return right, faults | towers(right), *allowed


@pytest.mark.parametrize("case_name", CASES)
def test_verbs_of_factors(walked, kinds, rng, case_name):
    factor = Factor(CASES[case_name], kinds, NumPy(), rng)
    walked(*(factor.call(verb) for own, verb in WALKS if own == case_name))
