"""Claims on ranks that adapt a damping, or find a length; see `torch_ranks_program`."""

import os

from ranks_and_shards import (
    STEPS,
    backward,
    batches,
    everywhere,
    far,
    made,
    options,
    shard,
    spread,
)

from kfac_adapters.torch import KFAC

IS_NIGHTLY = os.environ.get("HYPOTHESIS_PROFILE") == "nightly"
FORMS = {
    "adapted": {"adapt_damping": True, "adapt_every": 3},
    "adam": {"momentum_type": "adam", "weight_decay": 0.01},
    "qmodel": {"momentum_type": "qmodel", "adapt_damping": True, "lr": None},
    "qmodel_fixedmu": {"momentum_type": "qmodel_fixedmu", "lr": 0.5},
    "options": {"options": {"precon_damping_mult": 2.0, "inverse_tolerance": 0.05}},
}
EKFAC = {"approx": "ekfac", "adapt_damping": True, "adapt_every": 3}


def closure_of(optimizer, net, x, y, **more):
    def closure():
        optimizer.zero_grad()
        return backward(net, x, y, **more)

    return closure


def compared(ranks, share, steps, **form):
    """Check that ranks on shards take the steps of one process on all cases."""
    model, alone = made(), made()
    net = spread(model, find_unused_parameters=True, gradient_as_bucket_view=True)
    form = options(invert_every=3, **form)
    optimizer = KFAC(net, gradient_worker_fraction=share, **form)
    expected = KFAC(alone, **form)
    dampings = set()
    for step, whole in enumerate(batches(steps)):
        leaves_out = step % 4 == 3
        for own, data, module in (
            (optimizer, shard(step, *whole), net),
            (expected, whole, alone),
        ):
            own.step(closure_of(own, module, *data, leaves_out=leaves_out))
            assert own.last_step.taken
        dampings.add(optimizer.param_groups[0]["damping"])
        everywhere(model.parameters(), ranks)
    assert far(model, alone) < 1e-8
    (found,), (wanted,) = optimizer.param_groups, expected.param_groups
    assert abs(found["damping"] - wanted["damping"]) < 1e-12
    assert (len(dampings) > 1) == form.get("adapt_damping", False)
    assert far(model, made()) > 1e-3


def adapt(ranks):
    """What is adapted or found is that of all cases, and the same on all ranks."""
    for number, form in enumerate(FORMS.values()):
        steps = STEPS if IS_NIGHTLY or form.get("adapt_damping") else 5
        for share in (0.0, 1.0) if IS_NIGHTLY else (number % 2,):
            compared(ranks, share, steps, **form)


def correct(ranks):
    """EKFAC's eigenvectors are on all ranks; the steps are those of one process."""
    compared(ranks, 0.0, STEPS if IS_NIGHTLY else 8, **EKFAC)
