"""`capture`: finds the layers of a function, and says which parameters are in none."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import jax

from kfac_adapters.coverage import (
    POLICIES,
    Coverage,
    Covered,
    Policy,
    check_all_covered,
    check_policy,
    given_approximations,
)
from kfac_adapters.jax.captured import Captured
from kfac_adapters.jax.claims import Claims, claims_of
from kfac_adapters.jax.evidence import evidence_of, guessed_orders
from kfac_adapters.jax.forms import same
from kfac_adapters.jax.function import Leaves, Program
from kfac_adapters.jax.losses import LABEL, Losses, losses_of
from kfac_adapters.jax.parts import Part
from kfac_adapters.jax.sites import Cases
from kfac_core.errors import ArgumentError
from kfac_core.layer_collection import LayerCollection
from kfac_core.loss_functions import LossFunction


def capture(
    function: Callable[..., Any],
    params: Any,
    *inputs: Any,
    loss: LossFunction | Mapping[str, LossFunction],
    unclaimed: Policy = "error",
    case_axes: int | None = None,
    approximations: Mapping[str, str] | str | None = None,
    verify: bool = True,
) -> Captured:
    """Find the layers of a function of parameters, by reading its jaxpr.

    A layer is a parameter in ``dot_general``, ``conv_general_dilated``, ``gather`` of
    rows, ``mul`` or ``add``, however it is transposed, reshaped, converted or broadcast
    before, within ``jit``, ``vmap``, ``scan``, ``checkpoint`` or a custom derivative.
    What is added to a product is its bias. A parameter that is used several times is
    one layer of several uses; a table that is also a decoder is tied. Nothing of the
    model is changed.

    Args:
        function: ``function(params, *inputs)`` returns what goes into the loss, such as
            logits ``[batch, ..., classes]``; a dictionary of these, if there are
            several losses.
        params: A pytree of arrays. Leaves that hold no floating-point numbers are
            constants.
        *inputs: The other arguments, pytrees of arrays: a first batch.
        loss: The loss of what the function returns; a dictionary by its names.
        unclaimed: What becomes of a parameter that no layer takes. ``"error"``: it is
            named in an error. ``"diagonal"``: its curvature is the diagonal that
            gradients of the batch give. ``"identity"``: its gradient is left as it is.
            ``"ignore"``: its update is zero.
        case_axes: How many leading axes of what the function returns count the cases.
            None: all but the last, as for a loss that is the mean over all positions.
            1: for one that is summed over positions, and is the mean over the batch.
        approximations: The name of one approximation, for all layers that have it; or
            by the kind of a layer the name of its own; see `kfac_core.LayerCollection`.
            ``scale_and_shift`` and ``bias`` are diagonal unless it says otherwise.
        verify: Whether to compare the gradient of each parameter with the sum over the
            rows of its layer, on this batch; what differs is treated as `unclaimed`
            says, with a warning. Without it arrays may be `jax.ShapeDtypeStruct`.

    Returns:
        What was found, without arrays.

    Raises:
        ArgumentError: If an argument is of another form.
        ShapeError: If what the function returns has no axis of cases.
        RegistrationError: If a parameter is in no layer, and `unclaimed` is
            ``"error"``.

    Example:
        >>> import jax.numpy as jnp
        >>> import kfac_core as kc
        >>> def network(params, x):
        ...     return x @ params["kernel"] + params["bias"]
        >>> params = {"kernel": jnp.ones((4, 3)), "bias": jnp.zeros(3)}
        >>> loss = kc.losses.CategoricalLogitsNegativeLogProbLoss()
        >>> print(capture(network, params, jnp.ones((8, 4)), loss=loss).coverage)
        parameters            block                      shapes  share
        ['kernel'], ['bias']  FullyConnectedKFACBasicFB  4x3, 3  100.0%
        in layers: 100.0% of 15 numbers
    """
    check_policy(unclaimed)
    named = given_approximations(approximations, "approximations")
    given: object = function
    if not callable(given):
        msg = (
            f"{LABEL}: function is a {type(given).__name__}, expected a function of the"
            " parameters and the inputs"
        )
        raise ArgumentError(msg)
    losses = losses_of(loss, case_axes)
    program = Program.of(function, params, inputs)
    found, leaves = program.discover(params, inputs), program.leaves
    losses.cases(found.outputs)
    shape = losses.case_shape(found.outputs)
    refused: dict[int, str] = {}
    separate: set[Part] = set()
    if verify:
        _check_concrete(params, inputs)
        shown = evidence_of(program, function, found, losses, params, inputs)
        cases = Cases(shape, shown.orders)
        found = found.without(shown.unreached)
        separate = {i for i, each in shown.of_biases.items() if each.is_real}
        refused = {
            part.leaf: _differs(each.error)
            for part, each in shown.of_rows.items()
            if each.is_real
        }
    else:
        cases = Cases(shape, guessed_orders(found.uses, shape))
        refused = {
            use.chart.direction: "a weight that verify=True alone can tell"
            for use in found.uses.values()
            if use.chart
        }
    claims = claims_of(found, leaves, cases, refused, separate)
    captured = _captured(function, leaves, losses, claims, cases, unclaimed, named)
    for index, why in refused.items():
        if unclaimed != "error" and claims.unclaimed.get(index) == why:
            warnings.warn(
                f"{LABEL}: {leaves.paths[index]}: {why}; it is treated as"
                f" {unclaimed!r}",
                stacklevel=2,
            )
    return captured


def _captured(
    function: Callable[..., Any],
    leaves: Leaves,
    losses: Losses,
    claims: Claims,
    cases: Cases,
    unclaimed: Policy,
    approximations: Mapping[str, str] | str,
) -> Captured:
    """Return what was found, registered.

    Raises:
        ArgumentError: If there is no kind of layer by a name in `approximations`.
        RegistrationError: If a parameter is in no layer, and that is an error.
    """
    left = {
        leaves.paths[i] or "params": f"{leaves.shapes[i]} {why}"
        for i, why in sorted(claims.unclaimed.items())
    }
    if unclaimed == "error":
        check_all_covered(left)
    forms = {
        part: form
        for layer in claims.layers
        for part, form in zip(layer.params, layer.forms, strict=True)
    }
    if unclaimed == "diagonal":
        forms |= {Part(i): same(leaves.shapes[i]) for i in claims.unclaimed}
    forms = {part: forms[part] for part in sorted(forms)}
    names = {part: part.name(leaves.paths[part.leaf]) for part in forms}
    collection = LayerCollection.of({names[i]: forms[i].shape for i in forms})
    chosen = {"scale_and_shift": "diagonal", "bias": "diagonal"}
    if isinstance(approximations, Mapping):
        chosen |= approximations
    for kind, approximation in chosen.items():
        setter = getattr(collection, f"set_default_{kind}_approximation", None)
        if setter is None:
            msg = f"{LABEL}: approximations has {kind!r}, which is no kind of layer"
            raise ArgumentError(msg)
        collection = setter(approximation)
    if not isinstance(approximations, Mapping):
        collection = collection.set_default_approximation(approximations)
    rows = []
    for layer in claims.layers:
        collection = layer.register(collection, tuple(names[i] for i in layer.params))
        block = type(collection.layers[-1].block).__name__
        made = (Part(layer.chart.length),) if layer.chart else ()
        rows.append(_row(leaves, (*layer.params, *made), block, ""))
    for i, why in sorted(claims.unclaimed.items()):
        if unclaimed == "diagonal":
            collection = collection.register_generic(names[Part(i)], approx="diagonal")
        rows.append(_row(leaves, (Part(i),), POLICIES[unclaimed], why))
    for site, loss in losses.functions:
        collection = collection.register_loss_function(loss, site)
    frozen = frozenset(claims.unclaimed) if unclaimed == "ignore" else frozenset()
    return Captured(
        function,
        collection,
        Coverage(tuple(rows)),
        losses,
        claims.layers,
        leaves,
        names,
        forms,
        frozen,
        cases.orders,
    )


def _row(leaves: Leaves, params: tuple[Part, ...], block: str, note: str) -> Covered:
    return Covered(
        tuple(part.name(leaves.paths[part.leaf]) for part in params),
        block,
        tuple(part.shape(leaves.shapes[part.leaf]) for part in params),
        note,
    )


def _differs(error: float) -> str:
    return (
        "its gradient is not the sum over the rows of its layer (by"
        f" {error:.1g} of what is summed), as where a custom derivative is another one"
    )


def _check_concrete(params: Any, inputs: Any) -> None:
    """Check that all arrays have values.

    Raises:
        ArgumentError: If one is a tracer, or a shape alone.
    """
    for leaf in jax.tree.leaves((params, inputs)):
        if isinstance(leaf, jax.core.Tracer | jax.ShapeDtypeStruct):
            msg = (
                f"{LABEL}: verify is True, but there is a {type(leaf).__name__} among"
                " params and inputs; capture outside of jit with a first batch, or give"
                " verify=False"
            )
            raise ArgumentError(msg)
