"""Positions of a loss that are flattened into the batch, in the exact modes."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from estimator_cases import assert_close, assert_differs

import kfac_core as kc
from kfac_core.loss_functions import (
    CategoricalLogitsNegativeLogProbLoss,
    NormalMeanVarianceNegativeLogProbLoss,
)

LABELS = CategoricalLogitsNegativeLogProbLoss()
PAIR = NormalMeanVarianceNegativeLogProbLoss()


@dataclass(frozen=True)
class Mixing:
    """Every position of a case sees all outputs of the layer: ``y_nt = s_n M_t``.

    `form` says how positions lie: an axis of their own, or flattened, with cases or
    positions first.
    """

    x: np.ndarray  # [N, 2]
    maps: np.ndarray  # [T, 2, 3]
    form: str = "axis"
    targets: dict[str, Any] = field(default_factory=dict)
    masks: dict[str, Any] = field(default_factory=dict)

    @property
    def batch_size(self):
        return len(self.x)

    @property
    def layer_inputs(self):
        return {"layer": self.x}

    def laid(self, y):
        if self.form == "axis":
            return y
        rows = y if self.form == "cases first" else np.swapaxes(y, 0, 1)
        return rows.reshape(-1, y.shape[-1])

    def from_laid(self, v):
        n, t = len(self.x), len(self.maps)
        if self.form == "axis":
            return v
        if self.form == "cases first":
            return v.reshape(n, t, -1)
        return np.swapaxes(v.reshape(t, n, -1), 0, 1)

    @property
    def loss_inputs(self):
        return {"y": self.laid(np.einsum("ni,tij->ntj", self.x, self.maps))}

    def output_gradients(self, vectors):
        v = self.from_laid(vectors["y"])
        return {"layer": np.einsum("ntj,tij->ni", v, self.maps)}


@dataclass(frozen=True)
class OfPairs(Mixing):
    """The same with means and variances: the second is the exponential of ``y``."""

    @property
    def loss_inputs(self):
        y = super().loss_inputs["y"]
        return {"y": (y, np.exp(y))}

    def output_gradients(self, vectors):
        mean, variance = vectors["y"]
        y = self.loss_inputs["y"][1]
        return super().output_gradients({"y": mean + variance * y})


def block_after(linearization, loss, mode):
    layers = kc.LayerCollection.of({"w": (2, 2)}).register_fully_connected("w", "layer")
    estimator = kc.FisherEstimator(
        layers.register_loss_function(loss, "y"), estimation_mode=mode
    )
    state = estimator.init({"w": np.ones((2, 2))})
    state = estimator.update_covs(state, linearization, 0.0)
    return estimator.blocks["w"].full_fisher_block(state.blocks["w"])


@pytest.mark.parametrize("mode", ["exact", "exact_GGN"])
@pytest.mark.parametrize("form", ["cases first", "positions first"])
@pytest.mark.parametrize(("n", "t"), [(4, 3), (4, 2), (2, 4), (3, 3), (6, 4), (5, 1)])
def test_flattened_positions_are_an_axis_of_their_own(n, t, form, mode, rng):
    x, maps = rng.standard_normal((n, 2)), rng.standard_normal((t, 2, 3))
    expected = block_after(Mixing(x, maps), LABELS, mode)
    assert_close(block_after(Mixing(x, maps, form), LABELS, mode), expected)


def test_so_are_those_of_pairs(rng):
    x, maps = rng.standard_normal((4, 2)), rng.standard_normal((2, 2, 3))
    expected = block_after(OfPairs(x, maps), PAIR, "exact")
    assert_close(block_after(OfPairs(x, maps, "cases first"), PAIR, "exact"), expected)


def test_columns_of_all_positions_at_once_would_be_another_matrix(rng):
    linearization = Mixing(rng.standard_normal((4, 2)), rng.standard_normal((3, 2, 3)))
    logits = linearization.loss_inputs["y"]
    together = np.zeros((2, 2))
    for k in range(3):
        columns = [
            LABELS.multiply_fisher_factor_replicated_one_hot(logits, (t, k))
            for t in range(3)
        ]
        g = linearization.output_gradients({"y": sum(columns)})["layer"]
        together += g.T @ g / 4
    of_inputs = linearization.x.T @ linearization.x / 4
    right = block_after(linearization, LABELS, "exact")
    assert_differs(np.kron(of_inputs, together), right, by=0.1)


def test_several_sites_of_the_same_cases_are_losses_apart(rng):
    x = rng.standard_normal((4, 2))

    @dataclass(frozen=True)
    class TwoSites(Mixing):
        @property
        def loss_inputs(self):
            y = np.einsum("ni,tij->ntj", self.x, self.maps)
            return {"first": y[:, 0], "second": y[:, 1]}

        def output_gradients(self, vectors):
            v = np.stack([vectors["first"], vectors["second"]], axis=1)
            return {"layer": np.einsum("ntj,tij->ni", v, self.maps)}

    maps = rng.standard_normal((2, 2, 3))
    layers = kc.LayerCollection.of({"w": (2, 2)}).register_fully_connected("w", "layer")

    def block(names):
        collection = layers
        for name, site in zip(names, ("first", "second"), strict=True):
            collection = collection.register_loss_function(
                LABELS, site, name=name, reuse="auto"
            )
        estimator = kc.FisherEstimator(collection, estimation_mode="exact")
        state = estimator.init({"w": np.ones((2, 2))})
        state = estimator.update_covs(state, TwoSites(x, maps), 0.0)
        return estimator.blocks["w"].full_fisher_block(state.blocks["w"])

    expected = block_after(Mixing(x, maps), LABELS, "exact")
    assert_close(block(("one", "other")), expected)
    with pytest.raises(
        kc.errors.ShapeError, match=r"one: its sites .* hold 8 rows.*names"
    ):
        block(("one", "one"))
