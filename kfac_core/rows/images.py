"""Images of a layer that every case uses several times, each use as a case of its own.

Its factors see the same as those of a layer with ``T`` times as many cases.
"""

from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

from kfac_core.arguments.arrays import as_sources, as_towers, backend_for, check_paired
from kfac_core.backend import Backend
from kfac_core.errors import ArgumentError
from kfac_core.rows.sizes import (
    Places,
    check_same_cases,
    folded_by_size,
    places_of,
    weights_by_size,
)
from kfac_core.rows.uses import MultiTowers, arrays_of, in_parts
from kfac_core.rows.weights import UseWeights, check_same_towers
from kfac_core.typing import Array, Sources, Towers, Uses


class SharedLayer(NamedTuple):
    """What is known of the layer.

    Attributes:
        label: Its name, for messages.
        rank: Number of axes of one use's array, including the axis of the cases.
        num_uses: ``T``; None where the data say it.
        batch_first: Whether the cases of an array come before their uses.
    """

    label: str
    rank: int
    num_uses: int | None
    batch_first: bool


class SharedImages(NamedTuple):
    """The data of all uses.

    Attributes:
        inputs: For each tower, and each size of its images, ``[T * N, ...]``.
        gradients: For each source an array beside each of `inputs`.
        counts: For each of `inputs` the number of its uses.
        uses: ``T``: the number of uses of a tower, of all sizes.
        places: For each tower, which uses are of one size.
    """

    inputs: tuple[Array, ...]
    gradients: tuple[tuple[Array, ...], ...]
    counts: tuple[int, ...]
    uses: int
    places: tuple[Places, ...]

    @property
    def of_towers(self) -> list[slice]:
        """For each tower, where its arrays are."""
        ends = [0, *accumulate(len(own or (0,)) for own in self.places)]
        return [slice(*pair) for pair in pairwise(ends)]

    def weights(
        self,
        backend: Backend,
        weights: Any,
        shapes: Sequence[tuple[int, ...]],
        like: Array,
        layer: SharedLayer,
    ) -> tuple[UseWeights, ...] | None:
        """Return the weights beside each array of inputs; None for None.

        Args:
            backend: Backend of the data.
            weights: None, or for each tower as in `weights_by_size`.
            shapes: For each array ``(T * N, ..locations..)``.
            like: Array that gives dtype and device of the result.
            layer: What is known of the layer.

        Raises:
            KfacError: As `weights_by_size`.
        """
        if weights is None:
            return None
        towers = as_towers(weights)
        check_same_towers(towers, self.places, layer.label)
        each = zip(towers, self.places, self.of_towers, strict=True)
        return tuple(
            own
            for w, places, here in each
            for own in weights_by_size(
                backend,
                w,
                places,
                shapes[here],
                self.counts[here],
                like,
                layer.label,
                batch_first=layer.batch_first,
            )
        )

    def by_use(
        self, backend: Backend, arrays: Sequence[Array], *, batch_first: bool
    ) -> tuple[Uses, ...]:
        """Return arrays beside those of inputs use by use, tower by tower.

        Args:
            backend: Backend of the arrays.
            arrays: For each of `inputs` ``[T * N, ...]``.
            batch_first: Whether all rows of a case follow one another in them.
        """
        xp, towers = backend.xp, []
        for here in self.of_towers:
            uses = []
            for x, count in zip(arrays[here], self.counts[here], strict=True):
                cases = x.shape[0] // count
                axes = (cases, count) if batch_first else (count, cases)
                split = xp.reshape(x, (*axes, *x.shape[1:]))
                uses += [
                    split[:, i, ...] if batch_first else split[i, ...]
                    for i in range(count)
                ]
            towers.append(Uses(tuple(uses)))
        return tuple(towers)


def backend_of_uses(
    layer: str, like: Array, inputs: Towers, outputs_grads: Sources
) -> Backend:
    """Return the backend of a state and of all data.

    Raises:
        BackendError: If they are of several.
    """
    all_data = (as_towers(inputs), *as_sources(outputs_grads))
    arrays = (x for data in all_data for tower in data for x in arrays_of(tower))
    return backend_for(layer, "state, inputs, outputs_grads", like, *arrays)


def shared_images(
    backend: Backend,
    inputs: Towers,
    outputs_grads: Sources,
    layer: SharedLayer,
    check_pair: Callable[[Array, Array], None],
) -> SharedImages:
    """Return inputs and gradients as arrays of all rows, checked.

    Args:
        backend: Backend of the data.
        inputs: One tower, or a tuple of these, in the forms of `kfac_core.rows.uses`.
        outputs_grads: One tower, a tuple of these, or a tuple over sources.
        layer: What is known of the layer.
        check_pair: Checks the shapes of inputs and gradients of the same rows.

    Returns:
        The data.

    Raises:
        KfacError: As `folded_by_size`, and what `check_pair` raises.
        ArgumentError: If gradients have another number of uses, or towers have.
    """
    towers = as_towers(inputs)
    places = tuple(map(places_of, towers))
    x, counts, uses = _folded(backend, towers, places, "inputs", layer)
    gradients = []
    for source in as_sources(outputs_grads):
        # A source of another number of towers is refused below, as such.
        own = (*places, *(None for _ in source[len(places) :]))[: len(source)]
        g, _, found = _folded(backend, source, own, "outputs_grads", layer)
        if found != uses:
            msg = (
                f"{layer.label}: the inputs have {uses} uses and outputs_grads"
                f" {found}; give both for the same uses"
            )
            raise ArgumentError(msg)
        check_paired(x, g, layer.label)
        for pair in zip(x, g, strict=True):
            check_pair(*pair)
        gradients.append(g)
    return SharedImages(x, tuple(gradients), counts, uses, places)


def count_cases(inputs: MultiTowers, layer: SharedLayer) -> int:
    """Return the number of cases in all towers, each counted once.

    Args:
        inputs: As in `shared_images`.
        layer: What is known of the layer.

    Raises:
        KfacError: As `folded_by_size`.
    """
    towers = as_towers(inputs)
    arrays = (x for tower in towers for x in arrays_of(tower))
    backend = backend_for(layer.label, "inputs", *arrays)
    cases = 0
    for tower in towers:
        if places_of(tower) is not None:
            each = [x.shape[0] if x.shape else 0 for x in arrays_of(tower)]
            check_same_cases(each, "inputs", layer.label)
            cases += each[0]
            continue
        parts, uses = in_parts(
            backend,
            tower,
            layer.rank,
            layer.num_uses,
            "inputs",
            layer.label,
            batch_first=layer.batch_first,
            in_order=False,
        )
        cases += sum(x.shape[0] for x in parts) // uses
    return cases


def _folded(
    backend: Backend,
    towers: Sequence[Any],
    places: Sequence[Places],
    argument: str,
    layer: SharedLayer,
) -> tuple[tuple[Array, ...], tuple[int, ...], int]:
    """Return the towers as arrays of all rows, their uses, and ``T``."""
    arrays: list[Array] = []
    counts: list[int] = []
    totals = []
    for tower, own in zip(towers, places, strict=True):
        found, uses = folded_by_size(
            backend,
            tower,
            own,
            layer.rank,
            layer.num_uses,
            argument,
            layer.label,
            batch_first=layer.batch_first,
        )
        arrays, counts = [*arrays, *found], [*counts, *uses]
        totals.append(sum(uses))
    if len(set(totals)) != 1:
        msg = (
            f"{layer.label}: the towers of {argument} have {totals} uses, expected at"
            " least one tower, and as many uses in each"
        )
        raise ArgumentError(msg)
    return tuple(arrays), tuple(counts), totals[0]
