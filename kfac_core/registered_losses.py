"""The registered losses at a linearization: values, gradients, products.

All functions compute with the total loss ``sum_l coeff_l loss_l``, where each loss is a
sum over cases. The Fisher is multiplied by the coefficient, and so a vector whose
square estimates it (`half_gradient`) by the root of the coefficient.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from numbers import Integral
from typing import Any, NamedTuple, TypeAlias

from kfac_core.arguments.arrays import backend_for
from kfac_core.errors import ArgumentError, ShapeError
from kfac_core.layer_collection import LayerCollection
from kfac_core.linalg import named
from kfac_core.linearization import Linearization, NamedLossInputs
from kfac_core.linearization.checked import checked
from kfac_core.loss_functions import LossFunction
from kfac_core.loss_functions.positions import input_arrays, like_inputs
from kfac_core.typing import Array, LossInputs, Scalar

VerbOf: TypeAlias = Callable[[Any, str], Callable[..., Any]]
"""Gives a verb of a loss, or of another spec, by its name, as `getattr` does."""


class LossAt(NamedTuple):
    """One loss at one of its sites.

    Attributes:
        name: Name of the loss.
        site: Where the loss's inputs come from.
        loss: The spec; it ignores no target, since `mask` says what counts.
        coeff: What the loss is multiplied by.
        inputs: What the loss takes from the model.
        mask: A weight for each position, or None.
    """

    name: str
    site: str
    loss: LossFunction
    coeff: float
    inputs: LossInputs
    mask: Array | None

    @property
    def root(self) -> float:
        """The root of the coefficient."""
        return math.sqrt(self.coeff)


def losses_at(
    collection: LayerCollection, linearization: Linearization
) -> Iterator[LossAt]:
    """Yield every registered loss at each of its sites.

    Raises:
        ArgumentError: If the linearization has nothing for a site.
    """
    linearization = checked(collection, linearization)
    given = linearization.loss_inputs
    for registration in collection.losses:
        for site in registration.towers:
            if site not in given:
                msg = (
                    f"{registration.name}: the linearization has no inputs for the loss"
                    f" site {site!r}, only for {list(given)}"
                )
                raise ArgumentError(msg)
            _check_arrays(registration.name, site, input_arrays(given[site]))
            yield LossAt(
                registration.name,
                site,
                registration.counting_all,
                registration.coeff,
                given[site],
                _mask(registration.loss, linearization, site),
            )


def _check_arrays(loss: str, site: str, arrays: tuple[Any, ...]) -> None:
    """Check that a loss has arrays with columns; the loss checks the rest itself."""
    argument = f"loss_inputs of the site {site!r}"
    backend_for(loss, argument, *arrays)
    for x in arrays:
        if 0 in x.shape[1:]:
            msg = (
                f"{loss}: {argument} has shape {tuple(x.shape)}, expected [batch, ...,"
                " n] with at least one column"
            )
            raise ShapeError(msg)


def _mask(loss: LossFunction, linearization: Linearization, site: str) -> Array | None:
    """Return the mask of a site, with zeros also where targets are to be ignored.

    So targets of the data are ignored even where only the mask is used.
    """
    mask = linearization.masks.get(site)
    targets = linearization.targets.get(site)
    return mask if targets is None else loss.mask_for(targets, mask)


def batch_size_of(linearization: Linearization) -> int:
    """Return the number of cases, checked.

    Raises:
        ArgumentError: If it is not a positive integer.
    """
    size: object = linearization.batch_size
    # Within a trace of PyTorch the number may be symbolic, but is still an `int`.
    if not isinstance(size, int | Integral) or isinstance(size, bool) or size < 1:
        msg = (
            f"linearization: batch_size is {size!r}, expected a positive integer:"
            " the number of cases that the sum of the loss is divided by"
        )
        raise ArgumentError(msg)
    return linearization.batch_size


def loss_rows(losses: Iterable[LossAt], linearization: Linearization) -> int:
    """Check the rows of all losses against the number of cases.

    A loss has one row for each case, over all its towers together. It may have several
    rows, the same number for each case, such as positions that are flattened into the
    batch; or fewer, where some cases have no loss.

    Args:
        losses: What `losses_at` yields.
        linearization: The model at its parameters and a batch.

    Returns:
        The largest number of rows that a loss has.

    Raises:
        ArgumentError: If the number of cases is not a positive integer.
        ShapeError: If a loss has more rows than cases, and not as many for each.
    """
    size = batch_size_of(linearization)
    rows: dict[str, int] = {}
    for at in losses:
        # The loss itself refuses inputs that are not a batch of rows.
        shape = getattr(input_arrays(at.inputs)[0], "shape", ())
        rows[at.name] = rows.get(at.name, 0) + (shape[0] if shape else 0)
    for name, number in rows.items():
        if number > size and number % size:
            msg = (
                f"{name}: its inputs have {number} rows over all its sites, but the"
                f" linearization's batch_size is {size}, and {number} is no multiple of"
                " that; give the number of cases as batch_size, and as many rows for"
                " each case (a mask of zeros for those that do not count)"
            )
            raise ShapeError(msg)
    return max([0, *rows.values()])


def total_loss(collection: LayerCollection, linearization: Linearization) -> Array:
    """Return the sum of all losses over all cases, 0-d.

    Raises:
        ArgumentError: If a loss has no inputs or no targets.
    """
    linearization = checked(collection, linearization)
    values = [
        at.loss.evaluate(at.inputs, target(linearization, at), at.mask) * at.coeff
        for at in losses_at(collection, linearization)
    ]
    total, *others = values
    for value in others:
        total = total + value
    return total


def loss_gradient(
    collection: LayerCollection, linearization: Linearization
) -> NamedLossInputs:
    """Return the gradient of `total_loss` for the inputs of each loss.

    Raises:
        ArgumentError: If a loss has no inputs or no targets.
    """
    linearization = checked(collection, linearization)
    return {
        at.site: scaled_inputs(
            at.coeff,
            at.loss.gradient(at.inputs, target(linearization, at), at.mask),
        )
        for at in losses_at(collection, linearization)
    }


def mean_loss(collection: LayerCollection, linearization: Linearization) -> Array:
    """Return `total_loss` divided by the number of cases, 0-d.

    Raises:
        ArgumentError: If a loss has no inputs or no targets, or the number of cases is
            not a positive integer.
    """
    linearization = checked(collection, linearization)
    size = batch_size_of(linearization)
    return total_loss(collection, linearization) / size


def mean_gradient(
    collection: LayerCollection, linearization: Linearization
) -> dict[str, Array]:
    """Return the gradient of `mean_loss` for the parameters, by name.

    Raises:
        ArgumentError: If a loss has no inputs or no targets, or the number of cases is
            not a positive integer.
        ShapeError: If a loss has more rows than cases, and not as many for each.
    """
    linearization = checked(collection, linearization)
    loss_rows(losses_at(collection, linearization), linearization)
    at_losses = loss_gradient(collection, linearization)
    summed = linearization.param_gradients(at_losses)
    count = linearization.batch_size
    return named.map_named(lambda part: part / count, summed)


def half_gradient(at: LossAt, targets: Array, verb_of: VerbOf = getattr) -> LossInputs:
    """Return a gradient whose outer product has the loss's coefficient and mask.

    Args:
        at: The loss.
        targets: Targets of the data, or drawn from the model.
        verb_of: Gives a verb of the loss, by its name.

    Returns:
        ``sqrt(coeff mask)`` times the gradient of the loss of each position.
    """
    verb = verb_of(at.loss, "half_gradient")
    return scaled_inputs(at.root, verb(at.inputs, targets, at.mask))


def target(linearization: Linearization, at: LossAt) -> Array:
    """Return the targets of a loss.

    Raises:
        ArgumentError: If there are no targets.
    """
    if at.site not in linearization.targets:
        msg = (
            f"{at.name}: the linearization has no targets for the loss site"
            f" {at.site!r}; give them with the batch"
        )
        raise ArgumentError(msg)
    return linearization.targets[at.site]


def scaled_inputs(factor: Scalar, vector: LossInputs) -> LossInputs:
    """Return a vector at the inputs of a loss, times a number."""
    scaled_vector: LossInputs = like_inputs(
        vector, [part * factor for part in input_arrays(vector)]
    )
    return scaled_vector
