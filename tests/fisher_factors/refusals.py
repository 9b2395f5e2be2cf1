"""What it takes for bad arguments to be refused."""

import numpy as np
import pytest
from factor_case import leaves

import kfac_core as kc

NAME = "conv3"


class Refusal:
    """Expects a call to be refused and every array of a state to stay as it was."""

    def __init__(self, library, error, builtin, *words):
        self.library, self.error, self.builtin = library, error, builtin
        self.words = (NAME, *words)

    def __call__(self, state, call):
        before = [self.library.to_numpy(leaf) for leaf in leaves(state)]
        with pytest.raises(self.error) as caught:
            call()
        for leaf, old in zip(leaves(state), before, strict=True):
            np.testing.assert_array_equal(self.library.to_numpy(leaf), old)
        assert isinstance(caught.value, kc.KfacError)
        assert isinstance(caught.value, self.builtin)
        for word in self.words:
            assert str(word) in str(caught.value)
