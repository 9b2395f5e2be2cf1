"""The training of a small model, with faults in between and without."""

import hashlib
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import kfac_core as kc
from kfac_core import tree
from kfac_core.errors import KfacError
from kfac_core.reference import Batch, Dense, Sequential, SequentialModel, Tanh
from kfac_core.testing.candidate import require

CASES, BATCHES = 12, 16
FAULTS = ("data", "gradient", "state")
"""Where NaN may be."""


class Arrays(NamedTuple):
    """What a run needs of an array library.

    Attributes:
        asarray: Makes an array of NumPy's.
        compiled: Returns a function as one program, where the library compiles.
        raises: Whether a refused step is an error; else ``ok`` says so.
    """

    asarray: Callable[[Any], Any]
    compiled: Callable[[Any], Any]
    raises: bool = True


def arrays_of(library: str) -> Arrays:
    """Return what a run needs of an array library, which is imported."""
    if library == "torch":
        import torch

        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
        return Arrays(torch.as_tensor, lambda f: f)
    if library == "jax":
        import jax

        jax.config.update("jax_enable_x64", True)
        return Arrays(jax.numpy.asarray, jax.jit, raises=False)
    return Arrays(np.asarray, lambda f: f)


class Run:
    """The training of a small model, which can go on from any of its states.

    Attributes:
        state: State of the optimiser.
        params: The parameters.
    """

    def __init__(self, arrays: Arrays, optimizer: Any, step: Any, seed: int) -> None:
        """Make data and parameters."""
        rng = np.random.default_rng(seed)
        self.arrays, self._step = arrays, step
        model = optimizer.model
        params = model.init(rng, like=np.zeros(1))
        size = params["dense_0/weights"].shape[0]
        self.params = {k: arrays.asarray(x) for k, x in params.items()}
        self.batches = [
            Batch(
                arrays.asarray(rng.normal(size=(CASES, size))),
                arrays.asarray(rng.integers(3, size=CASES).astype(np.int32)),
            )
            for _ in range(BATCHES)
        ]
        self.state, self.count = optimizer.init(self.params), 0

    @property
    def batch(self) -> Batch:
        """The batch of the next step."""
        return self.batches[self.count % BATCHES]

    def step(self) -> None:
        """Make one step."""
        self.state, self.params, told = self._step(self.state, self.params, self.batch)
        self.count += 1
        if not self.arrays.raises:
            require(bool(told.ok), f"step {self.count} of good data was refused")

    def refuse(self, rng: np.random.Generator, where: str | None = None) -> str:
        """Make a step with NaN in what it is given, which is refused and names it.

        Args:
            rng: It chooses where.
            where: One of `FAULTS`; None: any.

        Returns:
            Where the NaN was: in the data, the gradient or the state.

        Raises:
            AssertionError: If the step is taken, changes what it was given, or does not
                name what the NaN was in.
        """
        where = where or FAULTS[rng.integers(len(FAULTS))]
        name, given = self._spoiled(rng, where)
        before, told = digest((self.state, self.params)), None
        try:
            state, params, told = self._step(**given)
        except KfacError as error:
            require(name in str(error), f"{where}: {name} is not in: {error}")
        if told is not None:
            taken = self.arrays.raises or bool(told.ok)
            require(not taken, f"{where}: NaN in {name} was taken")
            same = digest((state, params)) == digest((given["state"], self.params))
            require(same, f"{where}: a refused step changed the state")
        same = digest((self.state, self.params)) == before
        require(same, f"{where}: what was given was changed")
        return where

    def _spoiled(
        self, rng: np.random.Generator, where: str
    ) -> tuple[str, dict[str, Any]]:
        """Return the name that an error is to tell, and arguments with NaN."""
        given = {"state": self.state, "params": self.params, "batch": self.batch}
        if where == "data":
            bad = self.batch._replace(inputs=self._nan(self.batch.inputs, rng))
            return "inputs", {**given, "batch": bad}
        if where == "gradient":
            name = [*self.params][rng.integers(len(self.params))]
            bad = {**self.params, name: self._nan(self.params[name], rng)}
            return name, {**given, "gradient": bad}
        named = kc.state_to_dict(self.state)
        read = [n for n in named if n.endswith("cov.total") or n.startswith("velocity")]
        name = read[rng.integers(len(read))]
        spoiled = {**named, name: self._nan(named[name], rng)}
        return name, {**given, "state": kc.state_from_dict(self.state, spoiled)}

    def _nan(self, x: Any, rng: np.random.Generator) -> Any:
        """Return an array with NaN in it: on the diagonal, where an update looks."""
        entries = np.array(kc.backend_of(x).to_numpy(x))
        place = rng.integers(min(entries.shape))
        entries[(place,) * entries.ndim] = np.nan
        return self.arrays.asarray(entries)


def runs_of(library: str, width: int = 5) -> Callable[[int], Run]:
    """Return what makes a run from a seed; all have one spec, and one program."""
    arrays = arrays_of(library)
    layers = (Dense(4, width), Tanh(), Dense(width, 3))
    model = SequentialModel(Sequential(layers))
    collection = model.layer_collection(
        kc.losses.CategoricalLogitsNegativeLogProbLoss()
    )
    optimizer = kc.KfacOptimizer(
        model,
        collection,
        damping=0.5,
        learning_rate=0.05,
        momentum_type="regular",
        estimation_mode="exact",
        adapt_damping=True,
    )
    step = arrays.compiled(optimizer.step)
    return lambda seed: Run(arrays, optimizer, step, seed)


def digest(state: Any) -> str:
    """Return a digest of all arrays of a tree, with their names."""
    found = hashlib.sha256()
    # By name: what JAX compiled returns dictionaries in the order of their keys.
    for name, x in sorted(tree.named_leaves(state), key=lambda named: named[0]):
        found.update(name.encode())
        found.update(np.ascontiguousarray(kc.backend_of(x).to_numpy(x)).tobytes())
    return found.hexdigest()


def trained(library: str, seed: int, steps: int, width: int = 5) -> str:
    """Return the digest of a run's end, made in a process or a thread of its own."""
    return end_of(runs_of(library, width)(seed), steps)


def end_of(run: Run, steps: int) -> str:
    """Return the digest of a run after more steps."""
    for _ in range(steps):
        run.step()
    return digest((run.state, run.params))


def asymmetry(state: Any) -> float:
    """Return how far a matrix of a state is from its transpose, in units of its size.

    Raises:
        AssertionError: If there is no matrix.
    """
    found = []
    for name, x in tree.named_leaves(state):
        matrix = kc.backend_of(x).to_numpy(x)
        if matrix.ndim == 2 and ("cov.total" in name or "matpowers" in name):
            size = np.max(np.abs(matrix))
            found.append(float(np.max(np.abs(matrix - matrix.T)) / size))
    require(bool(found), "the state has no matrices")
    return max(found)
