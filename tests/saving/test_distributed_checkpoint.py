"""`torch.distributed.checkpoint` stores the dictionary of a state, and returns it."""

import warnings

import numpy as np
import pytest
from saved_states import empty, equal, updated

import kfac_core as kc
from kfac_core import tree


class InTorch:
    @staticmethod
    def asarray(x):
        return kc.load_backend("torch").from_numpy(np.array(x))


def as_saved(folder, arrays):
    """Return dictionaries of tensors as the checkpoint gives them back."""
    from torch.distributed import checkpoint

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a single process, and of its own past
        checkpoint.save(arrays, checkpoint_id=folder)
        found = {
            key: {name: x.new_zeros(x.shape) for name, x in named.items()}
            for key, named in arrays.items()
        }
        checkpoint.load(found, checkpoint_id=folder)
    return found


@pytest.mark.parametrize("name", ["dense-bias", "optimizer"])
def test_a_state_returns(name, tmp_path, needed):
    needed("torch")
    spec, state = updated(name)
    state = tree.map(InTorch.asarray, state)
    found = as_saved(tmp_path, {"kfac": kc.state_to_dict(state)})
    equal(kc.state_from_dict(empty(spec, InTorch), found["kfac"]), state)


def test_what_made_the_state_is_checked(tmp_path, needed):
    needed("torch")
    _, state = updated("dense-bias", powers=(-1, -0.5))
    other, _ = updated("dense-bias", powers=(-0.5, -1))
    state = tree.map(InTorch.asarray, state)
    found = as_saved(tmp_path, {"kfac": kc.state_to_dict(state)})
    with pytest.raises(kc.errors.StateError, match="matpowers"):
        kc.state_from_dict(empty(other, InTorch), found["kfac"])
