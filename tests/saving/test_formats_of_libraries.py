"""The ways of each library to store trees and programs know the classes of states."""

import copy
import io
import pickle
import subprocess
import sys

import numpy as np
import pytest
from saved_states import NAMES, empty, equal, updated

import kfac_core as kc
from kfac_core import tree


@pytest.mark.parametrize("name", NAMES)
def test_pickles_and_copies_are_equal(plain_library, name):
    spec, state = updated(name)
    state = kc.state_from_dict(empty(spec, plain_library), kc.state_to_dict(state))
    if plain_library.name != "strict":  # whose arrays have no pickle
        equal(pickle.loads(pickle.dumps(state)), state)
    equal(copy.deepcopy(state), state)


@pytest.mark.parametrize("name", NAMES)
def test_torch_load_takes_a_state_by_its_default(torch, name):
    file, state = io.BytesIO(), of_torch(updated(name)[1])
    torch.save({"kfac": state}, file)
    file.seek(0)
    equal(torch.load(file)["kfac"], state)


def of_torch(state):
    return tree.map(kc.load_backend("torch").from_numpy, state)


def test_torch_load_takes_a_state_in_another_process(torch, tmp_path):
    path = tmp_path / "state.pt"
    _, state = updated("optimizer")
    torch.save(of_torch(state), path)
    code = (
        "import sys, torch, kfac_core as kc; kc.load_backend('torch');"
        "print(type(torch.load(sys.argv[1]).made_by).kind)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.startswith("KfacOptimizer("), done.stderr


def test_torch_exports_a_step(torch, tmp_path):
    block = kc.blocks.FullyConnectedKFACBasicFB(3, 2)

    class Step(torch.nn.Module):
        def forward(self, state, x, g):
            state = block.update_covs(state, x, g, 0.5)
            return block.update_inverses(state, 0.1)

    rng = np.random.default_rng(0)
    x, g = (torch.from_numpy(rng.normal(size=(5, n))) for n in (3, 2))
    state, path = block.init(x), tmp_path / "step.pt2"
    program = torch.export.export(Step(), (state, x, g))
    torch.export.save(program, path)
    found, expected = (
        each.module()(state, x, g) for each in (torch.export.load(path), program)
    )
    equal(found, expected)


def test_torch_exports_a_step_for_any_number_of_rows(torch):
    block = kc.blocks.FullyConnectedKFACBasicFB(3, 2)

    class Step(torch.nn.Module):
        def forward(self, x, g, v):
            state = block.update_covs(block.init(x), x, g, 0.5)
            return block.multiply_inverse(block.update_inverses(state, 0.1), v)

    rng = np.random.default_rng(0)
    x, g, v = (torch.from_numpy(rng.normal(size=s)) for s in ((70, 3), (70, 2), (3, 2)))
    # More than 256 rows are another program: they are added in runs.
    rows = {0: torch.export.Dim("rows", min=2, max=256)}
    program = torch.export.export(
        Step(), (x[:8], g[:8], v), dynamic_shapes=(rows, rows, None)
    ).module()
    torch.testing.assert_close(program(x, g, v), Step()(x, g, v), rtol=0, atol=1e-13)


def test_jax_serialises_a_step(jax):
    pytest.importorskip("flatbuffers", reason="jax.export needs it")
    from jax import export

    block = kc.blocks.FullyConnectedKFACBasicFB(3, 2)

    def step(state, x, g):
        return block.update_inverses(block.update_covs(state, x, g, 0.5), 0.1)

    x, g = jax.numpy.ones((5, 3)), jax.numpy.ones((5, 2))
    state = block.init(x)
    data = export.export(jax.jit(step))(state, x, g).serialize()
    equal(export.deserialize(data).call(state, x, g), jax.jit(step)(state, x, g))
