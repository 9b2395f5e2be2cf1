"""A step is taken whole or not at all: under a trace as without one."""

import numpy as np
import pytest
from optimizer_cases import SHALLOW, flat, optimizer_of, problem

from kfac_core import KfacError, tree
from kfac_core.errors import ArgumentError, NotFiniteError
from kfac_core.loss_functions import NormalMeanNegativeLogProbLoss
from kfac_core.reference import Batch

NORMAL = NormalMeanNegativeLogProbLoss(var=0.5)

KINDS = {
    "regular": {"weight_decay_coeff": 0.01},
    "adam": {"invert_every": 2, "stagger_inverses": True},
    "qmodel": {"adapt_damping": True, "damping_adaptation_interval": 1},
    "burn-in": {"num_burnin_steps": 5},
}


def of_kind(kind, model=SHALLOW, **options):
    name = "regular" if kind == "burn-in" else kind
    merged = {"momentum_type": name, **KINDS[kind], **options}
    return optimizer_of(model, NORMAL, **merged)


def spoiled(library, tensor, value):
    entries = library.to_numpy(tensor).copy()
    entries.flat[entries.size // 2] = value
    return library.asarray(entries)


def poisoned(library, params, batch, where, value):
    """Return arguments of a step, one entry of one of them spoiled."""
    if where == "inputs":
        return params, batch._replace(inputs=spoiled(library, batch.inputs, value)), {}
    if where == "targets":
        bad = spoiled(library, batch.targets, value)
        return params, batch._replace(targets=bad), {}
    if where in params:
        return {**params, where: spoiled(library, params[where], value)}, batch, {}
    number = library.asarray(np.asarray(value))
    if where == "gradient":
        name = "dense_0/bias"
        return (
            params,
            batch,
            {where: {**params, name: spoiled(library, params[name], value)}},
        )
    return params, batch, {where: number}


# Where, what, and in which kinds of steps it can be refused.
TRAINING = ("regular", "adam", "qmodel")
POISONS = [
    ("inputs", np.nan, ("adam",)),
    ("inputs", 1e200, ("regular", "qmodel", "burn-in")),  # its square is not finite
    ("targets", 1e200, ("adam", "qmodel")),
    ("targets", np.inf, ("adam",)),
    ("dense_0/weights", np.inf, TRAINING),
    ("dense_0/bias", 1e200, ("qmodel",)),
    ("loss", np.nan, ("regular", "burn-in")),
    ("gradient", np.nan, ("qmodel",)),
    ("momentum", 1.5, ("regular",)),
    ("learning_rate", -1.0, ("regular",)),
    ("weight_decay_coeff", np.nan, ("qmodel",)),
    ("norm_constraint", np.inf, ("adam",)),
    ("damping", -0.1, ("burn-in",)),
    ("damping", np.nan, ("qmodel",)),
]
CASES = [
    pytest.param(kind, where, value, id=f"{kind}-{where.replace('/', '_')}-{value}")
    for where, value, kinds in POISONS
    for kind in kinds
]


@pytest.mark.parametrize(("kind", "where", "value"), CASES)
def test_what_is_refused_is_an_error_that_names_it(kind, where, value):
    params, batch = problem(InNumPy, NORMAL, model=SHALLOW)
    optimizer = of_kind(kind)
    state, params, _ = optimizer.step(optimizer.init(params), params, batch)
    arguments = poisoned(InNumPy, params, batch, where, value)
    with (
        np.errstate(all="ignore"),
        pytest.raises(KfacError, match=where if where in NUMBERS else None),
    ):
        optimizer.step(state, *arguments[:2], **arguments[2])


class InNumPy:
    asarray = staticmethod(np.asarray)
    to_numpy = staticmethod(np.asarray)


NUMBERS = ("momentum", "learning_rate", "weight_decay_coeff", "norm_constraint")


GIVEN = {
    "regular": ("loss", "momentum", "learning_rate"),
    "adam": ("norm_constraint",),
    "qmodel": ("gradient", "weight_decay_coeff", "damping"),
    "burn-in": ("loss", "damping"),
}


@pytest.fixture(scope="module")
def compiled():
    """Return one compiled step of each kind, for all that may be given to it."""
    known = {}

    def step(jax, kind):
        if kind not in known:
            optimizer = of_kind(kind)
            run = jax.jit(
                lambda state, params, batch, given: optimizer.step(
                    state, params, batch, **given
                )
            )
            known[kind] = optimizer, run
        return known[kind]

    return step


@pytest.mark.parametrize(("kind", "where", "value"), CASES)
def test_under_jit_the_state_is_that_of_before_bit_for_bit(
    kind, where, value, jax, compiled
):
    class InJAX:
        asarray = staticmethod(jax.numpy.asarray)
        to_numpy = staticmethod(np.asarray)

    params, batch = problem(InJAX, NORMAL, model=SHALLOW)
    optimizer, step = compiled(jax, kind)
    good = {
        name: params if name == "gradient" else jax.numpy.asarray(0.5)
        for name in GIVEN[kind]
    }
    state, params, told = step(optimizer.init(params), params, batch, good)
    assert bool(told.ok)
    bad_params, bad_batch, bad = poisoned(InJAX, params, batch, where, value)
    kept, same, told = step(state, bad_params, bad_batch, {**good, **bad})
    assert not bool(told.ok)
    assert_equal(kept, state)
    assert_equal(same, dict(bad_params))
    assert_equal(told.damping, state.damping)
    # It is as if nothing had been.
    after, moved, told = step(kept, params, batch, good)
    assert bool(told.ok)
    expected = step(state, params, batch, good)
    assert_equal((after, moved), expected[:2])


def assert_equal(found, expected):
    def compare(x, y):
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y))

    tree.map(compare, found, expected)


@pytest.mark.parametrize("kind", ["regular", "qmodel"])
def test_a_singular_first_step_changes_nothing(kind, jax):
    class InJAX:
        asarray = staticmethod(jax.numpy.asarray)
        to_numpy = staticmethod(np.asarray)

    optimizer = of_kind(kind, damping=0.0)
    params, batch = problem(InJAX, NORMAL, model=SHALLOW)
    # One input that is always 0: a pivot is 0 however it is rounded, where that of a
    # matrix of two cases may come out as a small positive number.
    few = batch._replace(inputs=batch.inputs.at[:, 0].set(0.0))
    state = optimizer.init(params)
    kept, same, told = jax.jit(optimizer.step)(state, params, few)
    assert not bool(told.ok)
    assert_equal((kept, same), (state, params))
    with pytest.raises(KfacError):
        optimizer.step(state, params, few)


def test_what_was_refused_elsewhere_does_not_stop_a_step(jax):
    """Flags of an update that is not this step's do not count."""

    class InJAX:
        asarray = staticmethod(jax.numpy.asarray)

    params, batch = problem(InJAX, NORMAL, model=SHALLOW)
    optimizer = of_kind("regular", SHALLOW, cov_update_every=2)
    state, params, _ = optimizer.step(optimizer.init(params), params, batch)

    @jax.jit
    def update(state, batch):
        linearization = optimizer.model.linearize(params, batch)
        return optimizer.estimator.update_covs(state, linearization, 0.9)

    refused = update(state.estimator, Batch(batch.inputs * np.nan, batch.targets))
    assert not bool(refused.ok)
    state = state._replace(estimator=refused)
    new, _, told = jax.jit(optimizer.step)(state, params, batch)
    assert bool(told.ok)
    assert int(new.counter) == 2


def test_pytorch_compiled_keeps_it_too(torch):
    class InTorch:
        asarray = staticmethod(torch.as_tensor)
        to_numpy = staticmethod(np.asarray)

    optimizer = of_kind("regular", SHALLOW)
    params, batch = problem(InTorch, NORMAL, model=SHALLOW)
    torch._dynamo.reset()
    step = torch.compile(optimizer.step, fullgraph=True, backend="aot_eager")
    state, params, told = step(optimizer.init(params), params, batch)
    assert bool(told.ok)
    big = batch._replace(inputs=spoiled(InTorch, batch.inputs, 1e200))
    kept, same, told = step(state, params, big)
    torch._dynamo.reset()
    assert not bool(told.ok)
    assert_equal((kept, same), (state, params))


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("source", ["loss", "loss_fn"])
def test_a_loss_that_is_not_finite_is_named(source, value, plain_library):
    library = plain_library
    params, batch = problem(library, NORMAL)
    bad = library.asarray(np.asarray(value))
    options, given = {}, {}
    if source == "loss":
        given["loss"] = bad
    else:
        options["loss_fn"] = lambda p, b: bad
    optimizer = optimizer_of(loss=NORMAL, **options)
    state = optimizer.init(params)
    with pytest.raises(NotFiniteError, match=f"the loss is {value}"):
        optimizer.step(state, params, batch, **given)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("momentum", 1.5),
        ("momentum", -0.1),
        ("learning_rate", -0.1),
        ("learning_rate", np.inf),
        ("weight_decay_coeff", -0.1),
        ("norm_constraint", np.nan),
        ("damping", -1.0),
    ],
)
def test_numbers_of_a_step_have_the_ranges_of_the_options(name, value, library):
    params, batch = problem(library)
    optimizer = optimizer_of()
    state = optimizer.init(params)
    before = flat(library, params)
    for given in (value, library.asarray(np.asarray(value))):
        with pytest.raises(ArgumentError, match=f"{name} is {value}"):
            optimizer.step(state, params, batch, **{name: given})
    np.testing.assert_array_equal(flat(library, params), before)
