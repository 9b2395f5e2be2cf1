"""K-FAC of captured functions over eight devices, which XLA makes of one processor.

`test_jax_places.py` runs it in a process of its own, since JAX counts its devices once.
It prints the name of each claim that holds.
"""

import os
import sys
import traceback
from functools import partial

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from jax_places_model import (
    ALL,
    AUTO,
    CAPTURED,
    CASES,
    EXPLICIT,
    LOSS,
    OPTIONS,
    PARAMS,
    RATE,
    SHARDS,
    SPLIT,
    START,
    WEIGHTS,
    WHOLE,
    X,
    Y,
    assert_close,
    itself,
    mapped,
    matrices,
    mean_loss,
    network,
    one_device,
    over_places,
    run,
    step,
)

import kfac_core as kc
from kfac_adapters.jax import Batch, Curvature, Kfac, capture


def check_run(found):
    for leaf in jax.tree.leaves(found):
        assert leaf.sharding.is_fully_replicated
    assert_close(matrices(found[0]), matrices(EXPECTED[0]), 1e-12)
    assert_close(found[1], EXPECTED[1], 1e-10)
    assert_close(found[2], EXPECTED[2], 1e-8)


def sharded(mesh):
    """Under jit, a batch in shards is the batch."""

    def put(x, *spec):
        return jax.device_put(x, NamedSharding(mesh, P(*spec)))

    params = jax.tree.map(put, PARAMS)
    batch = put(X, "data"), put(Y, "data")
    check_run(run(jax.jit(partial(step, WHOLE, itself, itself)), params, *batch))


def mean_in_loss(loss):
    return jax.lax.pmean(loss, "data")


def within_shard_map(check_vma):
    """Within shard_map, statistics are those of all places."""
    # Without the check, the derivative of `pmean` is that of one place.
    means = (over_places, itself) if check_vma else (itself, over_places)
    check_run(run(mapped(partial(step, SHARDS, *means), SPLIT, check_vma), *ALL))


def folding(curvature, **names):
    """Return a function that folds a batch in; `names` are of further arguments."""

    def fold(state, params, x, y, *others):
        given = dict(zip(names, others, strict=True))
        return curvature.update_curvature(state, params, (x,), targets=y, **given)

    return fold


def within_pmap_and_vmap():
    """Axes of pmap and vmap are named axes as well."""
    axes = (None, None, 0, 0)
    own = [x.reshape(8, 3, *x.shape[1:]) for x in (X, Y)]
    for mapping in (jax.pmap, lambda *a, **k: jax.jit(jax.vmap(*a, **k))):
        fold = mapping(folding(SHARDS), axis_name="data", in_axes=axes)
        state = fold(START, PARAMS, *own)
        for place in (0, 7):
            at_place = jax.tree.map(lambda x, place=place: x[place], state)
            assert_close(matrices(at_place), matrices(EXPECTED[0]), 1e-12)


def unequal_weights():
    """Positions that are ignored or weighed count as in the whole batch."""
    given = (START, *ALL, jnp.asarray(WEIGHTS))
    expected = jax.jit(folding(WHOLE, weights=0))(*given)
    found = mapped(folding(SHARDS, weights=0), (*SPLIT, P("data")))(*given)
    assert_close(matrices(found), matrices(expected), 1e-12)


def own_targets():
    """Each place draws targets of its own."""
    alone, shards = (
        folding(Curvature(CAPTURED, damping=0.1, axis_name=name), key=0)
        for name in (None, "data")
    )
    key = jax.random.key(0)
    found = mapped(shards, (*SPLIT, P()))(START, *ALL, key)
    alone, total = jax.jit(alone), None
    for place in range(8):
        shard = (x[3 * place : 3 * place + 3] for x in ALL[1:])
        state = alone(START, PARAMS, *shard, jax.random.fold_in(key, place))
        parts = {name: x / 8 for name, x in matrices(state).items()}
        total = {n: x + total[n] for n, x in parts.items()} if total else parts
    assert_close(matrices(found), total, 1e-12)


def refused_at_one_place():
    """What is not finite at one place is taken at none."""
    fold = mapped(folding(SHARDS, weights=0), (*SPLIT, P("data")))
    ones = jnp.ones(CASES)
    good = fold(START, *ALL, ones)
    assert good.estimator.ok
    bad = fold(good, *ALL, ones.at[-1].set(jnp.nan))
    assert not bad.estimator.ok
    assert int(bad.estimator.cases) == int(good.estimator.cases) == CASES
    assert_close(matrices(bad), matrices(good), 0)
    assert fold(bad, *ALL, ones).estimator.ok


def assert_refused(words, function, *given):
    with pytest.raises(kc.errors.ArgumentError) as raised:
        jax.eval_shape(function, *given)
    for word in words:
        assert word in str(raised.value)


def differing(x):
    return jax.lax.pcast(x, "data", to="varying")


def refusals():
    """What would be wrong in silence has an error that says so."""

    def of_one_place(state, params, *batch):
        gradients = jax.grad(mean_loss)(differing(params), *batch)
        return SHARDS.precondition(state, gradients)

    def whole_optimizer(state, params, x, y):
        return optimizer.step(state, params, Batch((x,), y))

    def with_gradient(state, params, x, y):
        gradient = jax.grad(mean_loss)(differing(params), x, y)
        return at_places.step(state, params, Batch((x,), y), gradient=gradient)

    given, fold = (START, *ALL), folding(SHARDS)
    both = jax.make_mesh((4, 2), ("data", "model"), axis_types=(AxisType.Auto,) * 2)
    optimizer = Kfac(CAPTURED, momentum_type="qmodel", damping=0.1)
    at_places = Kfac(CAPTURED, momentum_type="qmodel", damping=0.1, axis_name="data")
    chain = {"structure": "block_tridiagonal", "axis_name": "data"}
    chain["momentum_type"] = "qmodel"
    plain = {"first": PARAMS["w"], "last": PARAMS["v"]}
    dense = capture(
        lambda p, x: jnp.tanh(x @ p["first"]) @ p["last"], plain, X[:, 0], loss=LOSS
    )
    with pytest.raises(kc.errors.UnsupportedError, match="one inverse together"):
        Kfac(dense, damping=0.1, **chain)
    inverses = jax.jit(folding(WHOLE))(*given)
    assert_refused(("gradients[", "pmean"), mapped(of_one_place, SPLIT), inverses, *ALL)
    assert_refused(
        ("params['b']", "PartitionSpec()"),
        mapped(lambda s, p, *batch: fold(s, differing(p), *batch), SPLIT),
        *given,
    )
    assert_refused(
        ("state.", "PartitionSpec()"),
        mapped(lambda s, *others: fold(differing(s), *others), SPLIT),
        *given,
    )
    assert_refused(
        ("over ['data']", "axis_name=('data',)"), mapped(folding(WHOLE), SPLIT), *given
    )
    assert_refused(
        ("over ['model']", "('data', 'model')"),
        mapped(fold, SPLIT, mesh=both),
        *given,
    )
    assert_refused(
        ("over ['data']", "Curvature"),
        mapped(whole_optimizer, SPLIT),
        *(optimizer.init(PARAMS), *ALL),
    )
    assert_refused(
        ("gradient[", "pmean"),
        mapped(with_gradient, SPLIT),
        *(at_places.init(PARAMS), *ALL),
    )
    assert_refused(("axis_name has 'data'", "jax.jit"), fold, *given)


def computed_once(curvature, fold, *given):
    """Return the state, where each layer is inverted once, by the place it is of."""
    ran, estimator = [], curvature.estimator
    update = type(estimator).update_inverses

    def counting(self, state, damping, *, layers=None, **options):
        for name in layers:
            told = partial(ran.append, name)
            jax.debug.callback(told)
        return update(self, state, damping, layers=layers, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(estimator), "update_inverses", counting)
        state = jax.block_until_ready(fold(*given))
        jax.effects_barrier()
    assert sorted(ran) == sorted(estimator.blocks)
    return state


def shared_inverses():
    """Places share the inverses: each is computed once, and all have the same."""
    expected = WHOLE.precondition(jax.jit(folding(WHOLE))(START, *ALL), PARAMS)
    own = Curvature(CAPTURED, **OPTIONS, share_inverses=EXPLICIT)
    put = partial(jax.device_put, device=NamedSharding(EXPLICIT, P()))
    batch = [jax.device_put(x, NamedSharding(EXPLICIT, P("data"))) for x in ALL[1:]]
    given = *jax.tree.map(put, (START, PARAMS)), *batch
    found = computed_once(own, jax.jit(folding(own)), *given)
    assert_close(WHOLE.precondition(found, PARAMS), expected, 1e-10)
    own = Curvature(CAPTURED, **OPTIONS, axis_name="data", share_inverses=True)
    fold = mapped(folding(own, damping=0), (*SPLIT, P()), check_vma=False)
    found = computed_once(own, fold, START, *ALL, jnp.asarray(0.1))
    assert_close(WHOLE.precondition(found, PARAMS), expected, 1e-10)
    assert not fold(START, *ALL, jnp.asarray(jnp.nan)).estimator.ok
    for wrong in ({"share_inverses": True}, {"share_inverses": 2}):
        with pytest.raises(kc.errors.ArgumentError, match="share_inverses is"):
            Curvature(CAPTURED, damping=0.1, **wrong)


FORMS = {
    "adapted": {"adapt_damping": True, "damping_adaptation_interval": 2},
    "qmodel": {"momentum_type": "qmodel", "adapt_damping": True},
    "fixedmu": {"momentum_type": "qmodel_fixedmu"},
    "bounded": {"norm_constraint": 1e-2},
    "adam": {"momentum_type": "adam", "weigh_batches": "equally"},
    "staggered": {"stagger_inverses": True, "inverse_tolerance": 0.05},
    "ekfac": {"default": "ekfac", "momentum_type": "qmodel"},
}
SHARED = {"adapted", "staggered", "ekfac"}
"""Forms whose places share the inverses."""

IS_NIGHTLY = os.environ.get("HYPOTHESIS_PROFILE") == "nightly"
PMAPPED = {"adapted", "ekfac"} if IS_NIGHTLY else set()
TRIED = (*FORMS,) if IS_NIGHTLY else ("adapted", "qmodel")


def trained(optimizer, step, params, x, y, **more):
    """Return the parameters after a few steps, and numbers of the last."""
    state = optimizer.init(params)
    for _ in range(6):
        state, params, told = step(state, params, x, y)
    return {**params, "damping": state.damping, "loss": told.loss, "rho": told.rho}


def whole_optimizer(*names):
    """The optimiser steps as on one device, within shard_map, and pmap."""
    for name in names:
        form = {"damping": 0.5, "estimation_mode": "exact", "invert_every": 2}
        form |= {"cov_update_every": 1, **FORMS[name]}
        captured = CAPTURED
        if approx := form.pop("default", None):
            captured = capture(network, PARAMS, X, loss=LOSS, approximations=approx)
        if not form.get("momentum_type", "").startswith("qmodel"):
            form["learning_rate"] = RATE
        one = Kfac(captured, **form)
        many = Kfac(captured, axis_name="data", share_inverses=name in SHARED, **form)

        def step(state, params, x, y, optimizer=one):
            return optimizer.step(state, params, Batch((x,), y))

        expected = trained(one, jax.jit(step), *ALL)
        for check_vma in (True, False) if IS_NIGHTLY else (name != "adapted",):
            fold = mapped(partial(step, optimizer=many), SPLIT, check_vma)
            assert_close(trained(many, fold, *ALL), expected, 1e-10)
        if name in PMAPPED:
            own = [jnp.reshape(x, (8, 3, *x.shape[1:])) for x in ALL[1:]]
            fold = jax.pmap(
                partial(step, optimizer=many),
                axis_name="data",
                in_axes=(None, None, 0, 0),
                out_axes=None,
            )
            assert_close(trained(many, fold, PARAMS, *own), expected, 1e-10)


EXPECTED = one_device()
CLAIMS = {
    "an auto mesh": lambda: sharded(AUTO),
    "an explicit mesh": lambda: sharded(EXPLICIT),
    "within shard_map, checked": lambda: within_shard_map(True),
    "within shard_map, unchecked": lambda: within_shard_map(False),
    "within pmap and vmap": within_pmap_and_vmap,
    "unequal weights": unequal_weights,
    "own targets": own_targets,
    "refused at one place": refused_at_one_place,
    "refusals": refusals,
    "shared inverses": shared_inverses,
    **{f"optimiser, {name}": partial(whole_optimizer, name) for name in TRIED},
}

for claim, check in CLAIMS.items():
    if sys.argv[1:] and claim not in sys.argv[1:]:
        continue
    try:
        check()
    except Exception:
        print(f"{claim} does not hold:", flush=True)
        traceback.print_exc()
    else:
        print(f"holds: {claim}", flush=True)
