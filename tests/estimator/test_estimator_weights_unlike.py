"""Masked losses of models with layers of several uses, inputs or kinds of locations."""

from typing import Any, NamedTuple

import numpy as np
import pytest

import kfac_core as kc

MASK = np.asarray([1.0, 0.0, 1.0, 1.0, 0.0, 1.0])
SITES = {"ids": (2, 3), "decoder": (5,), "pair": (2,), "up": (6, 2)}


class Given(NamedTuple):
    """A linearization by its arrays: inputs and a Jacobian for each case and site."""

    inputs: dict[str, Any]
    jacobians: dict[str, Any]
    masks: dict[str, Any]
    targets: dict[str, Any] = {}  # noqa: RUF012

    @property
    def batch_size(self):
        return len(self.inputs["ids"])

    @property
    def layer_inputs(self):
        return self.inputs

    @property
    def loss_inputs(self):
        return {"logits": self.inputs["up"][:, 0, :] * 0 + [0.5, -0.25]}

    def output_gradients(self, vectors):
        return {
            site: np.einsum("nc,nc...->n...", vectors["logits"], jacobian)
            for site, jacobian in self.jacobians.items()
        }

    def kept(self, places):
        inputs = {
            site: kc.Pair(*(part[places] for part in x))
            if isinstance(x, kc.Pair)
            else x[places]
            for site, x in self.inputs.items()
        }
        jacobians = {site: x[places] for site, x in self.jacobians.items()}
        return Given(inputs, jacobians, {})


def drawn(rng):
    cases = len(MASK)
    pair = kc.Pair(rng.normal(size=(cases, 2)), rng.normal(size=(cases, 3)))
    inputs = {
        "ids": rng.integers(0, 5, (cases, 2)),
        "decoder": rng.normal(size=(cases, 3)),
        "pair": pair,
        "up": rng.normal(size=(cases, 3, 2)),
    }
    jacobians = {
        site: rng.normal(size=(cases, 2, *shape)) for site, shape in SITES.items()
    }
    return Given(inputs, jacobians, {"logits": MASK})


@pytest.mark.parametrize("factored", [False, True])
@pytest.mark.parametrize("locations", ["input", "output"])
def test_masked_cases_count_as_if_they_were_dropped(factored, locations, rng):
    shapes = {"table": (5, 3), "offset": (5,), "w": (2, 3, 2), "b": (2,)}
    shapes |= {"kernel": (2, 2, 2), "c": (2,)}
    params = {name: np.zeros(shape) for name, shape in shapes.items()}
    uses = [("embedding", "ids"), ("transposed", "decoder")]
    collection = (
        kc.LayerCollection.of(params)
        .register_tied_weights(("table", "offset"), uses)
        .register_bilinear(
            ("w", "b"), "pair", approx="kron_factored_inputs" if factored else "kron"
        )
        .register_transposed_convolution(
            ("kernel", "c"),
            "up",
            2,
            "VALID",
            approx="kron_output_locations" if locations == "output" else "kron",
        )
        .register_softmax_cross_entropy_loss("logits")
    )
    estimator = kc.FisherEstimator(collection, estimation_mode="exact")
    masked = drawn(rng)

    def blocks(linearization):
        state = estimator.update_covs(estimator.init(params), linearization, 0.0)
        return {
            name: block.full_fisher_block(state.blocks[name])
            for name, block in estimator.blocks.items()
        }

    found, kept = blocks(masked), blocks(masked.kept(MASK > 0))
    assert len(found) == 3
    for name, block in found.items():
        np.testing.assert_allclose(
            block, kept[name] * MASK.mean(), rtol=1e-10, atol=1e-12
        )
