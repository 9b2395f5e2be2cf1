"""The calls of a spec, a factor or a block, from the names of their arguments."""

import inspect
from functools import partial

import numpy as np
from bad_values import power
from walk import Call

import kfac_core as kc

LABEL = "some/layer"

# Takes no argument of a user, but none, or those of the library itself.
INTERNAL = {"sign", "known_cases", "register_cov_dt1", "to_tensors", "from_tensors"}

# Any real array tells library, device and dtype: shape and values do not matter.
LIKES = (
    *("no axes", "an axis more", "an axis less", "too wide", "empty", "no channels"),
    *("a case less", "NaN", "infinity", "minus infinity", "another library"),
)


def verbs_of(spec):
    """Return the names of all that a user calls on a spec."""
    return [
        verb
        for verb, function in inspect.getmembers(type(spec), inspect.isfunction)
        if not verb.startswith("_") and verb not in INTERNAL
    ]


def towers(x):
    """Return towers, sources and uses that hold what is none."""
    return {
        "a tower None": (x, None),
        "a tower of strings": [x, "a"],
        "a source None": ((x,), None),
        "no sources": ((), ()),
        "no uses": kc.Uses(()),
        "uses None": kc.Uses(None),
        "a use None": kc.Uses((x, None)),
        "a use no array": kc.Uses(("a",)),
        "unlike uses": kc.Uses((x, x[1:, ...])),
        "a pair of None": kc.Pair(None, None),
        "long double": np.ones(x.shape, np.longdouble),
        "objects": np.full(x.shape, None),
        "masked": np.ma.ones(x.shape),
        "text": np.full(x.shape, "a"),
        "dates": np.zeros(x.shape, "datetime64[s]"),
    }


def merged(spec, state, others):
    """Merge states, with all arguments by name."""
    return spec.merge(state, *others)


class Spec:
    """A spec after an update, and what the arguments of its verbs cannot be.

    A subclass has for each argument a method of its name, of the verb, that returns the
    right value, its faults, and the names of those that are none here.
    """

    case = spec = state = states = kinds = library = None

    def call(self, verb):
        """Return the right call of a verb, its faults, and those that are none."""
        function = getattr(self.spec, verb)
        names = list(inspect.signature(function).parameters)
        is_update = verb in {"update_cov", "update_covs"}
        own = [] if is_update else names
        found = {argument: getattr(self, f"_{argument}")(verb) for argument in own}
        if is_update:
            found = {"state": self._state(verb), **self._of_update(names)}
        if verb == "merge":
            function = partial(merged, self.spec)
        return Call(
            f"{type(self.spec).__name__}.{verb}",
            function,
            {argument: right for argument, (right, _, *_) in found.items()},
            {argument: faults for argument, (_, faults, *_) in found.items()},
            {argument: allowed for argument, (_, _, *allowed) in found.items()},
            label=LABEL,
            words={
                "exp": ("matpower",),
                "damping_id": ("damping id",),
                "others": ("state",),
                "inputs": ("input_ids",),  # of an embedding with several uses
            },
        )

    def _state(self, verb):
        # Statistics are kept where a spec serves something else.
        allowed = ("served",) if verb == "init_inverses" else ()
        return self.state, self.states, *allowed

    def _others(self, verb):
        return (self.state,), {name: (state,) for name, state in self.states.items()}

    def _like(self, verb):
        like = np.zeros(1)
        allowed = (*LIKES, "integers") if self.case.ids else LIKES
        return self.library.asarray(like), self.kinds.data(like), *allowed

    def _exp(self, verb):
        allowed = ("not served",) if verb.startswith("register") else ()
        return -1, power() | {"not served": 0.25}, *allowed

    def _of_batches(self, names, *allowed_weights):
        """Return what factors and blocks are told of a batch beside its data."""
        case, kinds, found = self.case, self.kinds, {}
        if "batch_size" in names:
            # A mean may be over a number of cases by weight.
            faults = kinds.scalar() | {"zero": 0, "fraction": 2.5}
            found["batch_size"] = (4, faults, "fraction")
        found["ema_decay"] = (0.5, kinds.scalar(upper=1.0))
        found["ema_weight"] = (None, kinds.scalar() | {"too large": 1e300}, "None")
        if "key" in case.extra:
            faults = {"None": None, "number": 0, "string": "key", "list": []}
            found["key"] = (case.extra["key"], faults)
        if "weights" in names:
            found["weights"] = (None, kinds.weights(6), "None", *allowed_weights)
            found["num_cases"] = (None, kinds.scalar() | {"zero": 0}, "None")
        return found
