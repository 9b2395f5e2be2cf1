"""The arguments of a loss's verbs, and what they cannot be."""

import numpy as np
from bad_values import NOTHINGS, size
from loss_cases import CASES, LEADING, SIZE, mapped, targets_of
from walk import Call

# Inputs that a loss takes, and most do not.
CERTAIN = ("infinity", "minus infinity")
OF_LOSS = {
    # A label without probability.
    "categorical": ("minus infinity",),
    "one-hot": ("minus infinity",),
    "bernoulli": CERTAIN,
}
# What says how many inputs there are, beside them; of some, the loss itself.
SIZED = ("targets", "vector", "inner", "noise")
SIZED_BY = {
    "categorical": ("vector", "inner"),
    "one-hot": ("targets", "vector", "inner"),
    "normal-by-output": ("inputs",),
    "mean-variance": ("inputs",),
}
REALS = ("booleans", "integers")


class Table:
    """One loss with right arguments of a library, and wrong ones.

    Args:
        name: That of the case.
        kinds: Makes arrays.
        key: What the library draws from.
    """

    def __init__(self, name, kinds, key):
        case, rng = CASES[name], np.random.default_rng(0)
        self.name, self.loss = name, case.loss
        self.has_ggn = name != "mean-variance"
        x = case.inputs(rng)
        targets = targets_of(case, x, rng)
        inner = np.ones(self.loss.fisher_factor_inner_shape(x))
        noise, mask = rng.random(self.loss.noise_shape(x)), np.ones(LEADING)
        like_inputs = kinds.vector if isinstance(x, tuple) else kinds.data
        is_label = name == "categorical"
        self.faults = {
            "inputs": like_inputs(x),
            "targets": kinds.ids(targets, SIZE) if is_label else kinds.data(targets),
            "vector": like_inputs(mapped(np.ones_like, x)),
            "inner": kinds.data(inner),
            "noise": kinds.data(noise) | {"too large": kinds.asarray(noise + 1)},
            "mask": kinds.data(mask) | {"below zero": kinds.asarray(-mask)},
            "index": indices(),
            "key": keys(),
            "num_samples": size(),
        }
        right = {"inputs": x, "targets": targets, "vector": x, "inner": inner}
        right |= {"noise": noise, "mask": mask}
        self.right = {name: mapped(kinds.asarray, each) for name, each in right.items()}
        self.right |= {"index": (0, 1), "key": key, "num_samples": 2}
        self.allowed = {
            "targets": () if is_label else REALS,
            # Vectors and samples may have further leading axes, all parts the same.
            "vector": REALS if isinstance(x, tuple) else ("an axis more", *REALS),
            "inner": ("an axis more", *REALS),
            "noise": ("an axis more",),
            "mask": ("None", *REALS),
            "num_samples": ("None",),
        }

    def keep(self, faults):
        """Leave out all faults but these."""
        for each in self.faults.values():
            for name in {*each} - {*faults}:
                del each[name]

    def call(self, verb, *arguments):
        """Return a call of a verb with these arguments."""
        inputs = OF_LOSS.get(self.name, ())
        if not {*SIZED_BY.get(self.name, SIZED)} & {*arguments}:
            inputs = (*inputs, "too wide")
        allowed = {"inputs": inputs} | self.allowed
        return Call(
            f"{self.loss.label}.{verb}",
            getattr(self.loss, verb),
            {name: self.right[name] for name in arguments},
            {name: self.faults[name] for name in arguments},
            {
                name: {*allowed.get(name, ())} & self.faults[name].keys()
                for name in arguments
            },
            self.loss.label,
            {"inputs": ("inputs", *self.loss.input_names)},
        )


def indices():
    """Places on all axes but the batch."""
    places = {"too large": (0, SIZE**2), "below": (-1, 0), "flags": (True, False)}
    numbers = {"number": 1, "fractions": (0.0, 1.0), "of text": ("0", "1")}
    return NOTHINGS | places | numbers | {"short": (0,), "array": np.ones(2)}


def keys():
    """What no library draws from."""
    return NOTHINGS | {"zero": 0, "number": 1.5, "array": np.ones(2), "list": []}
