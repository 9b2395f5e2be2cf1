"""Inverses, and the products with them."""

import itertools
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

import kfac_core as kc
from benchmarks.cases import Case, Rivals, agree, as_numpy, normal, rng
from benchmarks.libraries import Library
from benchmarks.libraries.lapack import potri
from benchmarks.measuring import Call
from benchmarks.peers import kfac_pytorch_style as style
from kfac_core.linalg.orthogonal_iteration import orthogonal_step
from kfac_core.reference import Dense, Sequential, SequentialModel

GROUP = "Inverses"
DAMPING = 0.1


def cases(library: Library, *, quick: bool) -> Iterator[Case]:
    """Return the cases: one large factor, its products, and many small factors.

    Args:
        library: The library.
        quick: Whether sizes are to be small.

    Yields:
        The cases.
    """
    for size in (16, 64) if quick else (256, 1024):
        name = f"update_inverses, {size}"
        yield Case(GROUP, name, partial(_refresh, library, size))
        name = f"multiply_inverse, {size}×{size}"
        yield Case(GROUP, name, partial(_multiply, library, size))
        name = f"eigenbasis, one step from the last, {size}"
        yield Case(GROUP, name, partial(_followed, library, size))
    count, least, most = (8, 6, 8) if quick else (64, 48, 64)
    name = f"update_inverses, {count} factors of {most}"
    yield Case(GROUP, name, partial(_many, library, [most] * (count // 2 + 1)))
    name = f"update_inverses, {count} factors of {least} to {most}"
    sizes = rng().integers(least, most + 1, count // 2 + 1)
    yield Case(GROUP, name, partial(_many, library, sizes.tolist()))


def _potri(covs: Sequence[Any], damping: float) -> Call:
    """Return LAPACK's inverses of matrices, through SciPy for every library."""
    copies = [np.array(as_numpy(a)) for a in covs]
    if not damping:
        return lambda: [potri(a) for a in copies]
    return lambda: [potri(style.damped(np, a, damping)) for a in copies]


def _refresh(library: Library, size: int) -> Rivals:
    x = library.array(normal(4 * size, size))
    xp = kc.backend_of(x).xp
    factor = kc.blocks.FullyConnectedKFACBasicFB(size, 1).input_factor
    state = library.once(factor.update_cov, factor.init(like=x), x, 0.95)
    cov = factor.get_cov(state)

    def on_damped(function: Any) -> Any:
        return library.call(lambda a: function(style.damped(xp, a, DAMPING)), cov)

    ours = library.call(lambda s: factor.update_inverses(s, DAMPING), state)
    inverse = on_damped(library.inverse)
    others = {"inv": inverse}
    for name, function in library.cholesky_inverses.items():
        others[name] = on_damped(function)
    for name, other in others.items():
        agree(name, factor.get_inverse(ours()).to_dense(), other())
    others["eigh"] = on_damped(library.eigh)
    return Rivals(ours, {"Cholesky, potri": _potri([cov], DAMPING)}, others)


def _multiply(library: Library, size: int) -> Rivals:
    x = library.array(normal(2 * size, size))
    block = kc.blocks.FullyConnectedKFACBasicFB(size, size)
    state = library.once(block.update_covs, block.init(like=x), x, x, 0.95)
    state = library.once(block.update_inverses, state, DAMPING)
    v = library.array(normal(size, size))
    a = block.input_factor.get_inverse(state.input_factor).to_dense()
    g = block.output_factor.get_inverse(state.output_factor).to_dense()
    ours = library.call(block.multiply_inverse, state, v)
    products = library.call(lambda a, v, g: a @ v @ g, a, v, g)
    agree("a @ v @ g", ours(), products())
    return Rivals(ours, {"a @ v @ g": products}, {})


def _followed(library: Library, size: int) -> Rivals:
    """Measure one step of orthogonal iteration, as ``basis="qr"`` takes it."""
    x = library.array(normal(4 * size, size))
    backend = kc.backend_of(x)
    cov = backend.gram(x) / (4 * size)
    vectors = library.once(library.eigh, cov)[1]
    step = library.call(lambda a, v: orthogonal_step(backend, a, v), cov, vectors)
    product = library.call(lambda a, v: a @ v, cov, vectors)
    return Rivals(step, {"a @ v": product}, {"eigh": library.call(library.eigh, cov)})


def _many(library: Library, sizes: Sequence[int]) -> Rivals:
    layers = tuple(Dense(*pair, has_bias=False) for pair in itertools.pairwise(sizes))
    model = SequentialModel(Sequential(layers))
    collection = model.layer_collection(kc.losses.NormalMeanNegativeLogProbLoss())
    estimator = kc.FisherEstimator(collection)
    x = library.array(normal(4 * max(sizes), max(sizes)))
    xp = kc.backend_of(x).xp
    state = estimator.init(
        {name: x[: shape[0], : shape[1]] for name, shape in collection.variables}
    )
    blocks: dict[str, Any] = {
        name: block.update_covs(
            state.blocks[name], *[x[:, : own.dimension] for own in block._sides], 0.95
        )
        for name, block in estimator.blocks.items()
    }
    state = state._replace(blocks=blocks)
    covs = []
    for name, block in estimator.blocks.items():
        for factor, of_factor in block.factors(state.blocks[name]).values():
            covs.append(style.damped(xp, factor.get_cov(of_factor), DAMPING))

    def one_by_one(function: Any) -> Call:
        return library.call(lambda covs: [function(a) for a in covs], covs)

    ours = library.call(lambda s: estimator.update_inverses(s, DAMPING), state)
    alone = {
        name: partial(block.update_inverses, damping=DAMPING)
        for name, block in estimator.blocks.items()
    }
    others = {
        "ours, layer by layer": library.call(
            lambda s: {name: alone[name](own) for name, own in s.items()}, state.blocks
        )
    }
    if len({*sizes}) == 1:
        others["inv of a stack"] = library.call(library.inverse, xp.stack(covs))
    others["inv"] = one_by_one(library.inverse)
    for name, function in library.cholesky_inverses.items():
        others[name] = one_by_one(function)
    return Rivals(ours, {"Cholesky, potri": _potri(covs, 0.0)}, others)
