"""The data of each kind of layer in one form: cases, their positions, and features."""

from collections.abc import Sequence
from functools import singledispatch
from typing import Any

from kfac_core.arguments.arrays import as_sources, as_towers
from kfac_core.backend import Backend
from kfac_core.errors import UnsupportedError
from kfac_core.fisher_blocks.case_gradients.towers import (
    Cases,
    Data,
    as_statistics,
    at_each_id,
    floats,
    ids_of,
    joined,
    weights_of,
    with_one,
    zipped,
)
from kfac_core.fisher_blocks.convolution.grouped import GroupedKroneckerFB
from kfac_core.fisher_blocks.convolution.kronecker import ConvKFCBasicFB
from kfac_core.fisher_blocks.embedding.kronecker import EmbeddingKFACFB
from kfac_core.fisher_blocks.fully_connected import FullyConnectedKFACBasicFB
from kfac_core.fisher_blocks.shared.convolution import SharedConvolutionFB
from kfac_core.fisher_blocks.shared.embedding import EmbeddingKFACMultiIndepFB
from kfac_core.fisher_blocks.shared.fully_connected import FullyConnectedMultiIndepFB
from kfac_core.fisher_factors.convolution.spec import weighted_shape
from kfac_core.rows.counts import weights_by_use
from kfac_core.rows.images import SharedImages
from kfac_core.rows.uses import folded
from kfac_core.rows.weights import sides, weights_for
from kfac_core.statistics.patches.groups import grouped_gradients, grouped_patches
from kfac_core.statistics.patches.second_moment import patch_rows
from kfac_core.typing import Array, Uses


@singledispatch
def cases_of(block: Any, backend: Backend, data: Data) -> list[Cases]:
    """Return the towers of a block's data in a form that all kinds of layers share.

    Args:
        block: The block, which has checked the data.
        backend: Backend of the data.
        data: The data.

    Raises:
        _unsupported: If the block is of a kind that has none.
    """
    raise _unsupported(block, f"a {type(block).__name__}")


def check_gradients_known(block: Any) -> None:
    """Check that a block is of a kind whose case gradients are known.

    Raises:
        _unsupported: If it is not.
    """
    if cases_of.dispatch(type(block)) is cases_of.dispatch(object):
        raise _unsupported(block, f"a {type(block).__name__}")
    for option in ("patch_mask", "extract_patches_fn"):
        if getattr(block, option, None) is not None:
            raise _unsupported(block, f"a convolution with {option}")
    if getattr(block, "use_sua_approx_for_input_factor", False):
        raise _unsupported(block, "a convolution whose pixels are uncorrelated")


def _unsupported(block: Any, what: str) -> UnsupportedError:
    msg = (
        f"{block.label}: gradients of cases are known for fully connected layers,"
        f" embeddings and convolutions, shared or in groups, not for {what}: use the"
        " block as it is"
    )
    return UnsupportedError(msg)


@cases_of.register
def _dense(
    block: FullyConnectedKFACBasicFB, backend: Backend, data: Data
) -> list[Cases]:
    towers, sources = floats(backend, data)
    weights = weights_of(backend, data, [(x.shape[0],) for x in towers], block.label)
    inputs = [with_one(backend, x, block.has_bias)[:, None, :] for x in towers]
    gradients = [tuple(g[:, None, :] for g in source) for source in sources]
    return zipped(inputs, gradients, weights)


@cases_of.register
def _convolution(block: ConvKFCBasicFB, backend: Backend, data: Data) -> list[Cases]:
    towers, sources = floats(backend, data)
    window, xp = block.geometry.window, backend.xp
    shapes = [block._weighted_shape(x) for x in towers]
    weights = weights_of(backend, data, shapes, block.label)
    patches = [patch_rows(backend, x, window) for x in towers]

    def rows(g: Array, like: Array) -> Array:
        last = window.to_channels_last(backend, g)
        return xp.reshape(last, (*like.shape[:2], last.shape[-1]))

    gradients = [tuple(map(rows, source, patches)) for source in sources]
    inputs = [with_one(backend, x, block.has_bias) for x in patches]
    return zipped(inputs, gradients, weights)


@cases_of.register
def _in_groups(block: GroupedKroneckerFB, backend: Backend, data: Data) -> list[Cases]:
    towers, sources = floats(backend, data)
    window, groups = block.geometry.window, block.input_factor.num_groups
    shapes = [weighted_shape(window, x) for x in towers]
    weights = weights_of(backend, data, shapes, block.label)
    patches = [grouped_patches(backend, x, window, groups) for x in towers]
    inputs = [with_one(backend, x, block.input_factor.has_bias) for x in patches]
    gradients = [
        tuple(grouped_gradients(backend, g, window, groups) for g in source)
        for source in sources
    ]
    return zipped(inputs, gradients, weights)


@cases_of.register
def _shared_convolution(
    block: SharedConvolutionFB, backend: Backend, data: Data
) -> list[Cases]:
    images = block._images(backend, data.inputs, data.outputs_grads)
    flat = Data(images.inputs, images.gradients, None, data.like)
    of_one_use: Any = (
        _in_groups if isinstance(block, GroupedKroneckerFB) else _convolution
    )

    def located(x: Array, uses: int) -> Array:
        by_use = _by_case(backend, block, x, uses)
        cases, _, _, *rest = by_use.shape
        return backend.xp.reshape(by_use, (cases, -1, *rest))

    pairs = zip(of_one_use(block, backend, flat), images.counts, strict=True)
    cases = [
        Cases(located(own.inputs, uses), tuple(located(g, uses) for g in own.gradients))
        for own, uses in pairs
    ]
    towers = [joined(backend, cases[own]) for own in images.of_towers]
    weights = _weights_of_images(backend, block, data, images, cases)
    if weights is None:
        return towers
    return [own._replace(weights=w) for own, w in zip(towers, weights, strict=True)]


@cases_of.register
def _shared(
    block: FullyConnectedMultiIndepFB, backend: Backend, data: Data
) -> list[Cases]:
    return _of_uses(block, backend, data, has_bias=block.has_bias)


@cases_of.register
def _embedding(block: EmbeddingKFACFB, backend: Backend, data: Data) -> list[Cases]:
    towers = as_towers(data.inputs)
    sources = as_sources(data.outputs_grads)
    weights = weights_of(backend, data, [(x.shape[0],) for x in towers], block.label)
    ids = [ids_of(backend, block, x)[:, None, :] for x in towers]
    gradients = [
        tuple(as_statistics(backend, g, data.like)[:, None, :] for g in source)
        for source in sources
    ]
    return [at_each_id(backend, own) for own in zipped(ids, gradients, weights)]


@cases_of.register
def _shared_embedding(
    block: EmbeddingKFACMultiIndepFB, backend: Backend, data: Data
) -> list[Cases]:
    return [
        at_each_id(backend, own)
        for own in _of_uses(block, backend, data, has_bias=False)
    ]


def _of_uses(
    block: Any, backend: Backend, data: Data, *, has_bias: bool
) -> list[Cases]:
    """Return the towers of a shared layer without locations; its uses are positions."""
    towers, sources = as_towers(data.inputs), as_sources(data.outputs_grads)
    is_ids = isinstance(block, EmbeddingKFACMultiIndepFB)
    inputs, counts, shapes = [], [], []
    for tower in towers:
        rows, count = _folded(backend, block, tower, block._input_rank(tower))
        shapes.append((rows.shape[0],))
        if is_ids:
            rows = ids_of(backend, block, rows)
        else:
            rows = with_one(backend, as_statistics(backend, rows, data.like), has_bias)
        inputs.append(_by_case(backend, block, rows, count))
        counts.append(count)
    gradients = [
        tuple(
            _by_case(
                backend,
                block,
                as_statistics(backend, _folded(backend, block, g, 2)[0], data.like),
                count,
            )
            for g, count in zip(source, counts, strict=True)
        )
        for source in sources
    ]
    cases = [(x.shape[0],) for x in inputs]
    own = _weights_of_uses(backend, block, data, cases, shapes, counts[0])
    return zipped(inputs, gradients, own)


def _weights_of_uses(
    backend: Backend,
    block: Any,
    data: Data,
    cases: Sequence[tuple[int, ...]],
    rows: Sequence[tuple[int, ...]],
    uses: int,
) -> Sequence[Array] | None:
    """Return the weights of each tower, ``[N]`` if they are of cases, else ``[N, T]``.

    A case that counts twice has twice the square of its gradient, and not four times.
    """
    _, weights = sides(data.weights)
    if weights is None:
        return None
    like, label, first = data.like, block.label, block.batch_first
    if _are_of_cases(weights, cases):
        return weights_for(backend, weights, cases, like, label)
    by_use = weights_by_use(
        backend, weights, rows, uses, like, label, batch_first=first
    )
    return None if by_use is None else [own.by_use.mT for own in by_use]


def _weights_of_images(
    backend: Backend,
    block: SharedConvolutionFB,
    data: Data,
    images: SharedImages,
    cases: Sequence[Cases],
) -> Sequence[Array] | None:
    """Return the weights of each tower, ``[N]`` if of cases, else of all positions.

    Args:
        backend: Backend of the data.
        block: The block.
        data: The data, with weights.
        images: The data, each use a case of its own.
        cases: For each array of `images` its cases and positions.
    """
    _, weights = sides(data.weights)
    if weights is None:
        return None
    numbers = [(cases[own.start].inputs.shape[0],) for own in images.of_towers]
    if _are_of_cases(weights, numbers):
        return weights_for(backend, weights, numbers, data.like, block.label)
    xp, shapes = backend.xp, [block._weighted_shape(x) for x in images.inputs]
    found = images.weights(backend, weights, shapes, data.like, block._layer_of_uses)
    by_case = []
    for own, known, uses in zip(found or (), cases, images.counts, strict=True):
        number, positions = known.inputs.shape[:2]
        w = xp.reshape(own.by_use, (uses, number, -1))
        each = xp.broadcast_to(w, (uses, number, positions // uses))
        by_case.append(xp.reshape(xp.permute_dims(each, (1, 0, 2)), (number, -1)))
    return [xp.concat(by_case[own], axis=1) for own in images.of_towers]


def _are_of_cases(weights: Any, shapes: Sequence[tuple[int, ...]]) -> bool:
    """Return whether all towers have a weight for each case."""
    towers = as_towers(weights)
    return all(
        not isinstance(own, Uses) and tuple(own.shape) == shape
        for own, shape in zip(towers, shapes, strict=True)
    )


def _folded(backend: Backend, block: Any, tower: Any, rank: int) -> tuple[Array, int]:
    """Return the rows of all uses of a tower as one array, and ``T``."""
    return folded(
        backend,
        tower,
        rank,
        block.num_uses,
        "data",
        block.label,
        batch_first=block.batch_first,
    )


def _by_case(backend: Backend, block: Any, x: Array, uses: int) -> Array:
    """Return ``[T * N, ...]`` as ``[N, T, ...]``."""
    xp, rest = backend.xp, tuple(x.shape[1:])
    cases = x.shape[0] // uses
    if block.batch_first:
        x = xp.reshape(x, (cases, uses, *rest))
    else:
        x = xp.reshape(x, (uses, cases, *rest))
        x = xp.permute_dims(x, (1, 0, *range(2, x.ndim)))
    return x
