"""Where the data of a layer come from: towers, uses, gradients for parameters."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from estimator_cases import (
    CASES,
    CATEGORICAL,
    NORMAL,
    assert_differs,
    assert_states_close,
    draw,
    statistics,
)

import kfac_core as kc
from kfac_core.estimator import FisherEstimator
from kfac_core.typing import Uses


@dataclass(frozen=True)
class Split:
    """A linearization of two sites for each layer and loss: shards of the batch."""

    base: Any
    first: int

    def _split(self, arrays):
        return {
            f"{site}/{i}": part
            for site, x in arrays.items()
            for i, part in enumerate((x[: self.first], x[self.first :]))
        }

    def _joined(self, vectors):
        parts = [vectors[f"outputs/{i}"] for i in range(2)]
        return {"outputs": np.concatenate(parts)}

    @property
    def batch_size(self):
        return self.base.batch_size

    @property
    def layer_inputs(self):
        return self._split(self.base.layer_inputs)

    @property
    def loss_inputs(self):
        return self._split(self.base.loss_inputs)

    @property
    def targets(self):
        return self._split(self.base.targets)

    @property
    def masks(self):
        return self._split(self.base.masks)

    def output_gradients(self, vectors):
        return self._split(self.base.output_gradients(self._joined(vectors)))


def split_collection(model, loss):
    whole = model.layer_collection(loss)
    collection = kc.LayerCollection(whole.variables)
    for layer in whole.layers:
        for tower in range(2):
            collection = collection.register_block(
                layer.params, layer.block, f"{layer.name}/{tower}", reuse="auto"
            )
    for tower in range(2):
        collection = collection.register_loss_function(
            loss, f"outputs/{tower}", name="loss", reuse="auto"
        )
    return collection


@pytest.mark.parametrize("first", [3, 2], ids=["halves", "unequal"])
@pytest.mark.parametrize("mode", ["exact", "empirical", "gradients", "curvature_prop"])
@pytest.mark.parametrize("name", CASES)
def test_towers_are_one_batch(rng, name, mode, first):
    case = CASES[name]
    drawn = draw(case, rng, batch=6)
    targets, mask = rng.integers(3, size=6), rng.uniform(size=6)
    batch = drawn.batch._replace(targets=targets, mask=mask)
    whole = case.model.linearize(drawn.params, batch)
    one = FisherEstimator(
        case.model.layer_collection(CATEGORICAL), estimation_mode=mode
    )
    two = FisherEstimator(
        split_collection(case.model, CATEGORICAL), estimation_mode=mode
    )
    of_whole, of_shards = {}, {}
    if one.needs_randomness:
        (u,) = (rng.uniform(size=s) for s in one.noise_shapes(whole).values())
        of_whole["noise"] = {"outputs": u}
        parts = (u[:, :first], u[:, first:])
        of_shards["noise"] = {f"outputs/{i}": part for i, part in enumerate(parts)}
    expected = statistics(one, drawn.params, whole, **of_whole)
    found = statistics(two, drawn.params, Split(whole, first), **of_shards)
    assert_states_close(found, expected)
    if one.needs_randomness:
        other = Split(whole, 1 + first)
        with pytest.raises(kc.errors.ShapeError, match="outputs/0: noise has shape"):
            statistics(two, drawn.params, other, **of_shards)


def test_towers_of_unlike_shapes_are_refused_in_exact_mode(rng):
    case = CASES["dense"]
    drawn = draw(case, rng, batch=6)
    split = Split(case.model.linearize(drawn.params, drawn.batch), 3)

    class Unlike(Split):
        @property
        def loss_inputs(self):
            inputs = super().loss_inputs
            return inputs | {"outputs/1": inputs["outputs/1"][:, :2]}

    estimator = FisherEstimator(
        split_collection(case.model, NORMAL), estimation_mode="exact"
    )
    with pytest.raises(
        kc.errors.ArgumentError, match=r"loss: its towers .*\(2,\), \(3,\)"
    ):
        statistics(estimator, drawn.params, Unlike(split.base, 3))


@dataclass(frozen=True)
class Shared:
    """A layer that is used three times: outputs are linear in those of each use."""

    inputs: tuple[np.ndarray, ...]
    maps: tuple[np.ndarray, ...]
    outputs: np.ndarray

    batch_size = 4

    @property
    def targets(self):
        return {}

    @property
    def masks(self):
        return {}

    @property
    def layer_inputs(self):
        return {f"use_{t}": x for t, x in enumerate(self.inputs)}

    @property
    def loss_inputs(self):
        return {"outputs": self.outputs}

    def output_gradients(self, vectors):
        return {f"use_{t}": vectors["outputs"] @ m.T for t, m in enumerate(self.maps)}


SHARED_SITES = ("use_0", "use_1", "use_2")


def shared(rng):
    made = Shared(
        tuple(rng.standard_normal((4, 2)) for _ in SHARED_SITES),
        tuple(rng.standard_normal((3, 2)) for _ in SHARED_SITES),
        rng.standard_normal((4, 2)),
    )
    params = {"w": np.zeros((2, 3)), "b": np.zeros(3)}
    return params, made


@pytest.mark.parametrize("approx", ["kron_indep", "kron_series_2"])
def test_the_uses_of_a_shared_layer_reach_its_block(rng, approx):
    params, linearization = shared(rng)

    def collection(sites):
        empty = kc.LayerCollection.of(params)
        layers = empty.register_fully_connected_multi(
            ("w", "b"), sites, approx=approx, name="shared"
        )
        return layers.register_loss_function(NORMAL, "outputs")

    estimator = FisherEstimator(collection(SHARED_SITES), estimation_mode="exact")
    found = statistics(estimator, params, linearization)
    block = estimator.blocks["shared"]
    columns = np.eye(2) / np.sqrt(NORMAL.var)
    sources = tuple(
        (Uses(tuple(np.tile(c @ m.T, (4, 1)) for m in linearization.maps)),)
        for c in columns
    )
    empty = block.init(like=params["w"])
    expected = block.update_covs(empty, (Uses(linearization.inputs),), sources, 0.0)
    assert_states_close(found.blocks["shared"], expected)
    assert float(found.blocks["shared"].uses.total) == 3
    # The order of the uses is that of time.
    turned = FisherEstimator(
        collection(tuple(reversed(SHARED_SITES))), estimation_mode="exact"
    )
    other = statistics(turned, params, linearization).blocks["shared"]
    if approx == "kron_series_2":
        first, second = (turned.blocks["shared"].input_factor,) * 2
        assert_differs(
            first.get_cov_dt1(other.input_factor),
            second.get_cov_dt1(found.blocks["shared"].input_factor),
        )
    else:
        assert_states_close(other, expected)


def test_a_missing_site_is_named(rng):
    params, linearization = shared(rng)
    collection = kc.LayerCollection.of(params).register_fully_connected_multi(
        ("w", "b"), ("use_0", "use_7"), name="shared"
    )
    collection = collection.register_loss_function(NORMAL, "outputs")
    estimator = FisherEstimator(collection, estimation_mode="exact")
    with pytest.raises(
        kc.errors.ArgumentError,
        match=r"shared: .* no layer_inputs for the sites \['use_7'\]",
    ):
        statistics(estimator, params, linearization)


def test_a_missing_loss_site_and_missing_targets_are_named(rng):
    params, linearization = shared(rng)
    layers = kc.LayerCollection.of(params).register_fully_connected_multi(
        ("w", "b"), SHARED_SITES
    )
    for site, mode, message in [
        ("logits", "exact", "the loss site 'logits'"),
        ("outputs", "empirical", "no targets for the loss site 'outputs'"),
    ]:
        collection = layers.register_loss_function(NORMAL, site, name="of all")
        estimator = FisherEstimator(collection, estimation_mode=mode)
        with pytest.raises(kc.errors.ArgumentError, match=f"of all: .*{message}"):
            statistics(estimator, params, linearization)
