"""Sources: the vectors at the loss inputs from which a curvature matrix is estimated.

A *source* has a vector at every loss site. The model pulls it back to gradients at the
layers. The outer products of these gradients, summed over sources, estimate the matrix:

| mode | sources | vector at a loss site | estimates |
|---|---|---|---|
| ``gradients`` | samples | gradient for targets drawn from the model | Fisher |
| ``empirical`` | 1 | gradient for the targets of the data | empirical Fisher |
| ``curvature_prop`` | samples | ``B r``, the signs ``r`` drawn at random | Fisher |
| ``exact`` | columns of all ``B`` | one column, zero at the other losses | Fisher |
| ``curvature_prop_GGN`` | samples | as above, ``B B'`` the GGN of the loss | GGN |
| ``exact_GGN`` | columns of all ``B`` | one column, zero at the other losses | GGN |

Each vector carries the root of its loss's coefficient and mask, so that the estimate is
linear in coefficient and mask (``tf.contrib.kfac`` squares the coefficients of
``empirical``). If there are several losses, products of the vectors of two losses have
mean zero; only in ``empirical`` they do not vanish. The same holds for the vectors of
two positions of a case, even if positions are flattened into the batch (several rows of
a loss for each case, in either order). ``curvature_prop`` is from Martens, Sutskever &
Swersky (2012); see also Grosse & Martens (2016), section 2.3.
"""

import math
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Literal

from kfac_core.arguments.arrays import backend_for, check_shape, statistics_dtype
from kfac_core.arguments.random_keys import drawn
from kfac_core.errors import ArgumentError, ShapeError
from kfac_core.layer_collection import LayerCollection
from kfac_core.linalg.named import as_named
from kfac_core.linearization import Linearization, NamedLossInputs
from kfac_core.linearization.checked import check_is_collection, checked
from kfac_core.loss_functions.positions import input_arrays, like_inputs
from kfac_core.registered_losses import (
    LossAt,
    VerbOf,
    batch_size_of,
    half_gradient,
    losses_at,
    scaled_inputs,
    target,
)
from kfac_core.registry import backend_of
from kfac_core.typing import Array, Key, LossInputs

EstimationMode = Literal[
    "gradients",
    "empirical",
    "curvature_prop",
    "exact",
    "curvature_prop_GGN",
    "exact_GGN",
]
"""Name of a way to estimate a curvature matrix."""

ESTIMATION_MODES: tuple[EstimationMode, ...] = (
    "gradients",
    "empirical",
    "curvature_prop",
    "exact",
    "curvature_prop_GGN",
    "exact_GGN",
)

RANDOM_MODES = frozenset({"gradients", "curvature_prop", "curvature_prop_GGN"})
"""The modes that draw random numbers."""

LABEL = "FisherEstimator"

MatrixType = Literal["Fisher", "Empirical_Fisher", "GGN"]
"""Name of a curvature matrix."""


def matrix_type(mode: EstimationMode) -> MatrixType:
    """Return which matrix a mode estimates.

    Example:
        >>> matrix_type("exact"), matrix_type("exact_GGN")
        ('Fisher', 'GGN')
    """
    if mode == "empirical":
        return "Empirical_Fisher"
    return "GGN" if mode.endswith("_GGN") else "Fisher"


def noise_shapes(
    collection: LayerCollection, linearization: Linearization, mode: EstimationMode
) -> dict[str, tuple[int, ...]]:
    """Return for each loss site the shape of the random numbers of one sample."""
    if mode not in RANDOM_MODES:
        return {}
    losses = losses_at(collection, linearization)
    if mode == "gradients":
        return {at.site: at.loss.noise_shape(at.inputs) for at in losses}
    return {at.site: _inner_shape(at, mode) for at in losses}


def sources(
    collection: LayerCollection,
    linearization: Linearization,
    mode: EstimationMode,
    noise: Mapping[str, Array],
    verb_of: VerbOf = getattr,
) -> Iterator[NamedLossInputs]:
    """Yield the sources of a mode.

    Args:
        collection: Where the losses are registered.
        linearization: The model at its parameters and a batch.
        mode: Name of the mode.
        noise: What `noise_for` returns for each loss site; empty where nothing is
            random.
        verb_of: Gives a verb of a loss, by its name.

    Yields:
        For each source a vector at every loss site.

    Raises:
        KfacError: In an exact mode, if the rows of a case cannot be told apart; and
            what the losses raise.
    """
    check_is_collection(collection, "collection", LABEL)
    check_mode(mode, LABEL)
    linearization = checked(collection, linearization)
    losses = list(losses_at(collection, linearization))
    if mode == "empirical":
        given = [(at, target(linearization, at)) for at in losses]
        yield {at.site: half_gradient(at, own, verb_of) for at, own in given}
    elif mode in RANDOM_MODES:
        check_noise(noise, noise_shapes(collection, linearization, mode), None)
        count = min(draws.shape[0] for draws in noise.values())
        scale = 1 / math.sqrt(count)
        for sample in range(count):
            draws = [(at, noise[at.site][sample, ...]) for at in losses]
            found = {at.site: _drawn(at, mode, own, verb_of) for at, own in draws}
            yield {site: scaled_inputs(scale, own) for site, own in found.items()}
    else:
        yield from _columns(losses, mode, batch_size_of(linearization))


def noise_for(
    collection: LayerCollection,
    linearization: Linearization,
    mode: EstimationMode,
    num_samples: int,
    key: Key | None,
    noise: Mapping[str, Array] | None,
) -> Mapping[str, Array]:
    """Return uniform random numbers for a mode: those given, or drawn.

    Args:
        collection: Where the losses are registered.
        linearization: The model at its parameters and a batch.
        mode: Name of the mode.
        num_samples: Number of samples.
        key: What the array library draws from.
        noise: The numbers themselves, uniform on [0, 1): for each loss site
            ``[num_samples, ...]``.

    Returns:
        For each loss site ``[num_samples, ...]``; empty where nothing is random.

    Raises:
        ArgumentError: If numbers are needed, and neither or both of `key` and `noise`
            are given.
        ShapeError: If the noise has another shape.
    """
    shapes = noise_shapes(collection, linearization, mode)
    if not shapes:
        return {}
    if (key is None) == (noise is None):
        msg = (
            f"{LABEL}: the estimation mode {mode!r} draws random numbers: give it"
            " either a key or noise (uniform numbers for each loss site), and not both"
        )
        raise ArgumentError(msg)
    if noise is not None:
        check_noise(noise, shapes, num_samples)
        return noise
    given = linearization.loss_inputs
    likes = {site: input_arrays(given[site])[0] for site in shapes}
    backend = backend_of(*likes.values())

    def draw(key: Key) -> dict[str, Array]:
        keys = backend.split(key, len(shapes))
        return {
            site: backend.uniform(
                own,
                (num_samples, *shape),
                likes[site].dtype,
                backend.creation_device(likes[site]),
            )
            for own, (site, shape) in zip(keys, shapes.items(), strict=True)
        }

    return drawn(backend, key, LABEL, draw)


def check_mode(mode: object, label: str) -> None:
    """Check the name of a mode.

    Raises:
        ArgumentError: If there is no mode of this name.
    """
    if not isinstance(mode, str) or mode not in ESTIMATION_MODES:
        msg = (
            f"{label}: estimation_mode is {mode!r}, expected one of"
            f" {', '.join(ESTIMATION_MODES)}"
        )
        raise ArgumentError(msg)


def check_noise(
    noise: object, shapes: Mapping[str, tuple[int, ...]], num_samples: int | None
) -> None:
    """Check that there are random numbers for each loss site.

    Args:
        noise: What was given.
        shapes: For each loss site the shape of one sample.
        num_samples: Number of samples; None: any.

    Raises:
        ArgumentError: If `noise` is not a mapping, or lacks a site.
        BackendError: If the noise of a site is not an array.
        DTypeError: If it is not real.
        ShapeError: If it has another shape.
    """
    given = as_named(noise, "noise", LABEL)
    count = "num_samples" if num_samples is None else num_samples
    for site, shape in shapes.items():
        if site not in given:
            msg = (
                f"{LABEL}: noise has nothing for the loss site {site!r}, only for"
                f" {list(given)}"
            )
            raise ArgumentError(msg)
        backend = backend_for(site, "noise", given[site])
        check_shape(given[site], (count, *shape), "noise", site)
        statistics_dtype(backend, given[site], "noise", site)
        if not given[site].shape[0]:
            msg = f"{site}: noise has no samples, expected one at least"
            raise ShapeError(msg)


def _drawn(
    at: LossAt, mode: EstimationMode, numbers: Array, verb_of: VerbOf
) -> LossInputs:
    if mode == "gradients":
        targets = verb_of(at.loss, "sample_from")(numbers, at.inputs, at.mask)
        return half_gradient(at, targets, verb_of)
    xp = backend_of(numbers).xp
    ones = xp.ones_like(numbers)
    signs = xp.where(numbers < 0.5, -ones, ones)
    multiply = (
        at.loss.multiply_ggn_factor
        if mode == "curvature_prop_GGN"
        else at.loss.multiply_fisher_factor
    )
    return scaled_inputs(at.root, multiply(at.inputs, signs, at.mask))


def _columns(
    losses: list[LossAt], mode: EstimationMode, size: int
) -> Iterator[NamedLossInputs]:
    """Yield one source for each loss and each column of its factor, at all its towers.

    A source has only one column for each case: if it had two, their product with each
    other would count, too.

    Raises:
        ArgumentError: If the towers of a loss have inputs of unlike shapes.
        ShapeError: If several sites hold more rows than there are cases.
    """
    zeros = {at.site: _zeros_like(at.inputs) for at in losses}
    for name in dict.fromkeys(at.name for at in losses):
        towers = [at for at in losses if at.name == name]
        shapes = {_inner_shape(at, mode)[1:] for at in towers}
        if len(shapes) > 1:
            msg = (
                f"{name}: its towers have inputs of the shapes {sorted(shapes)} (but"
                " for the batch), expected one shape; register them as losses apart"
            )
            raise ArgumentError(msg)
        rows = sum(input_arrays(at.inputs)[0].shape[0] for at in towers)
        if rows > size and len(towers) > 1:
            msg = (
                f"{name}: its sites {[at.site for at in towers]} hold {rows} rows, but"
                f" the linearization's batch_size is {size}. Towers are shards of the"
                f" batch; in the mode {mode!r} the rows of a case must be told apart:"
                " register what the same cases give at several sites as losses of"
                " different names, or give it at one, [batch, positions, n]"
            )
            raise ShapeError(msg)
        for index in product(*map(range, shapes.pop())):
            columns = {at.site: _column(at, mode, index) for at in towers}
            if rows <= size:
                yield zeros | columns
                continue
            ((site, column),) = columns.items()
            for part in _one_row_a_case(column, rows, size):
                yield zeros | {site: part}


def _column(at: LossAt, mode: EstimationMode, index: tuple[int, ...]) -> LossInputs:
    multiply = (
        at.loss.multiply_ggn_factor_replicated_one_hot
        if mode == "exact_GGN"
        else at.loss.multiply_fisher_factor_replicated_one_hot
    )
    return scaled_inputs(at.root, multiply(at.inputs, index, at.mask))


def _one_row_a_case(column: LossInputs, rows: int, size: int) -> Iterator[LossInputs]:
    """Yield parts of a column whose rows are positions flattened into the batch.

    A part has one row of each case, whether cases or positions come first. Row ``i`` is
    in part ``(i + i // lcm(N, T)) mod T`` of ``T`` parts; no part has two rows with the
    same ``i mod N``, or with the same ``i // T``.
    """
    first = input_arrays(column)[0]
    backend = backend_of(first)
    xp, each = backend.xp, rows // size
    places = xp.arange(rows, device=backend.creation_device(first))
    shape = (rows, *(1 for _ in first.shape[1:]))
    period = xp.full_like(places, math.lcm(size, each))
    shifted = places + xp.floor_divide(places, period)
    part = xp.reshape(xp.remainder(shifted, xp.full_like(places, each)), shape)
    for number in range(each):
        is_in = xp.equal(part, xp.full_like(part, number))
        parts: LossInputs = like_inputs(
            column, [xp.where(is_in, x, xp.zeros_like(x)) for x in input_arrays(column)]
        )
        yield parts


def _inner_shape(at: LossAt, mode: EstimationMode) -> tuple[int, ...]:
    if mode.endswith("_GGN"):
        return at.loss.ggn_factor_inner_shape(at.inputs)
    return at.loss.fisher_factor_inner_shape(at.inputs)


def _zeros_like(inputs: LossInputs) -> LossInputs:
    zeros: LossInputs = like_inputs(
        inputs, [backend_of(part).xp.zeros_like(part) for part in input_arrays(inputs)]
    )
    return zeros
