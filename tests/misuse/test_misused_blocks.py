"""Every verb of every block, with each argument as it cannot be."""

from dataclasses import replace

import numpy as np
import pytest
from bad_values import flag
from block_case import NumPy
from more_cases import BLOCK_CASES as CASES
from more_cases import MORE_BLOCKS as MORE
from spec_calls import LABEL, Spec, towers, verbs_of

import kfac_core as kc

WITHOUT_CHOLESKY = {"multiply_cholesky", "multiply_cholesky_inverse"}
WITHOUT_ERROR = {"inverse_error", "refresh_inverses"}
NO_ARGUMENTS = {"register_inverse", "register_cholesky", "register_cholesky_inverse"}


def served(case, block, verb):
    """Say whether a case serves a verb, so that there is a right call."""
    alone = case.powers_alone or case.inverse_alone
    if verb in WITHOUT_CHOLESKY and alone:
        return False
    if verb == "merge" and isinstance(block, kc.blocks.KroneckerOptimalFB):
        return False
    exact = getattr(block, "damping_type", None) == "exact"
    no_error = exact or isinstance(
        block, kc.blocks.FullyConnectedSeriesFB | kc.blocks.ShampooFB
    )
    return not (no_error and verb in WITHOUT_ERROR) and verb not in NO_ARGUMENTS


def walks():
    """Yield all cases with the verbs that are new in them."""
    seen = set()
    for case_name, case in CASES.items():
        block = case.made()
        for verb in verbs_of(block):
            key = getattr(type(block), verb), type(block.init(np.zeros(1)))
            if not served(case, block, verb):
                continue
            if verb != "update_covs" and key in seen and case_name not in MORE:
                continue
            seen.add(key)
            yield case_name, verb


WALKS = list(walks())
WALKED = {f"FisherBlock.{verb}" for _, verb in WALKS} | {
    f"FisherBlock.{verb}" for verb in NO_ARGUMENTS
}


class Block(Spec):
    """A block after an update, and what the arguments of its verbs cannot be."""

    def __init__(self, case, kinds, library, rng):
        self.case, self.kinds, self.library = case, kinds, library
        self.spec = case.made(name=LABEL)
        self.data = case.draw(rng, 6)
        self.params = case.vector(rng)
        like = library.asarray(np.zeros(1))
        data = map(self._moved, case.taken(self.data))
        state = self.spec.update_covs(
            self.spec.init(like), *data, **case.extra, ema_decay=0.5
        )
        self.state = self.spec.update_inverses(state, 0.1)
        is_tied = isinstance(self.spec, kc.blocks.TiedWeightsKFACFB)
        of_parts = CASES["bilinear" if is_tied else "tied"]
        others = {
            "other": kc.blocks.FullyConnectedKFACBasicFB(7, 7).init(like),
            "single": kc.blocks.NaiveFullFB(7).init(like),
            "parts": of_parts.made().init(like),
            "factor": kc.factors.FullyConnectedKroneckerFactor(3).init(like),
        }
        if not case.inverse_alone:
            others["served"] = replace(self.spec, matpowers=(-1, 2)).init(like)
        self.states = kinds.state(**others)

    def _damping(self, verb):
        return 0.1, self.kinds.scalar()

    def _tolerance(self, verb):
        return 0.5, self.kinds.scalar()

    def _transpose(self, verb):
        return False, flag()

    def _vector(self, verb):
        # Entries count, and columns: how many axes have the rows does not matter.
        found = self.kinds.vector(self.params)
        del found["an axis less"], found["an axis more"]
        return self._moved(self.params), found

    def _inputs(self, verb):
        # To count cases, arrays are looked at from outside alone.
        inside = {"NaN", "infinity", "minus infinity", "complex", "integers"}
        inside |= {"booleans", "too wide", "no channels", "empty", "a case less"}
        inside |= {"real numbers", "too large", "below zero", "long double"}
        inside |= {"another library"}
        faults = self._faults(0)
        faults = {k: v for k, v in faults.items() if k.split(": ")[-1] not in inside}
        return self._moved(self.data[0]), faults

    def _ids(self, verb):
        ids = np.asarray([0, 2])
        # Rows may be those of any ids, and of none twice.
        return self.library.asarray(ids), self.kinds.ids(ids, 4), "a case less"

    def _moved(self, x):
        if isinstance(x, kc.Uses):
            return kc.Uses(tuple(map(self.library.asarray, x.arrays)))
        if isinstance(x, tuple):
            moved = map(self.library.asarray, x)
            return type(x)(*moved) if isinstance(x, kc.Pair) else tuple(moved)
        return self.library.asarray(x)

    def _faults(self, place):
        """Return the faults of an argument of data."""
        x, case, kinds = self.data[place], self.case, self.kinds
        if isinstance(x, kc.Uses | kc.Pair):
            first = tuple(x.arrays) if isinstance(x, kc.Uses) else tuple(x)
            ids = first[0].dtype.kind == "i"
            faults = kinds.ids(first[0], 4) if ids else kinds.data(first[0])
            whole = (
                (lambda a: kc.Uses((a, self._moved(first[1]))))
                if isinstance(x, kc.Uses)
                else (lambda a: kc.Pair(a, self._moved(first[1])))
            )
            nested = {f"in it: {name}": whole(bad) for name, bad in faults.items()}
            return nested | towers(self._moved(first[0]))
        if case.axis is None:
            return kinds.vector(x)
        if case.ids and place == 0:
            return kinds.ids(x, 4, case.axis)
        faults = kinds.data(x, case.channels, case.axis)
        return faults | towers(self._moved(x))

    def _of_update(self, names):
        case, found = self.case, {}
        data = case.taken(self.data)
        for number, x in enumerate(data):
            place = number if case.takes_inputs else len(self.data) - len(data)
            argument = names[1 + number]
            allowed = ()
            if case.axis is None:
                allowed = ("an axis less", "an axis more")
            elif not self.spec.takes_gradients:
                allowed = ("a case less",)
            elif len(data) == 1:  # a bias, whose gradients have any number of axes
                allowed = ("a case less", "an axis more")
            faults = self._faults(place)
            if "key" in case.extra:  # what is not drawn may be anything
                faults.pop("NaN"), faults.pop("infinity"), faults.pop("minus infinity")
            found[argument] = (self._moved(x), faults, *allowed)
        return found | self._of_batches(names)


@pytest.mark.parametrize("case_name", CASES)
def test_verbs_of_blocks(walked, kinds, rng, case_name):
    block = Block(CASES[case_name], kinds, NumPy(), rng)
    walked(*(block.call(verb) for own, verb in WALKS if own == case_name))
