"""Cases of blocks whose data a `BlockCase` does not give as they are taken."""

from functools import partial

from block_case import DAMPING_TYPES, BlockCase

from kfac_core import Pair, Uses, blocks

BOTH = ("embedding", "transposed")


def normal(*shapes):
    return lambda rng, n: tuple(
        rng.normal(size=(*shape[:-1], n, shape[-1])) for shape in shapes
    )


def tied(rng, cases):
    ids = rng.integers(0, 4, (cases, 3))
    return ids, *(rng.normal(size=(cases, 3, n)) for n in (2, 2, 4))


def other(make, draw, shapes, kinds=DAMPING_TYPES, **options):
    return BlockCase(make, draw, shapes, None, kinds, **options)


SPLIT = DAMPING_TYPES[:3]
BILINEAR = (normal((2,), (3,), (2,)), ((2, 3, 2), (2,)))
OTHERS = {
    "bilinear": other(partial(blocks.BilinearKFACFB, 2, 3, 2, True), *BILINEAR),
    "three factors": other(
        partial(blocks.BilinearKFACFB, 2, 3, 2, False, True),
        BILINEAR[0],
        ((2, 3, 2),),
        SPLIT,
    ),
    "tied": other(partial(blocks.TiedWeightsKFACFB, 4, 2, BOTH), tied, ((4, 2),)),
    "tied, nearest": other(
        partial(blocks.TiedWeightsKFACFB, 4, 2, BOTH, pooling="nearest"),
        tied,
        ((4, 2),),
    ),
    "partial bias": other(
        partial(blocks.FullyConnectedMultiPartialBiasFB, 3, 2, (True, False)),
        normal((2, 3), (2, 2)),
        ((3, 2), (2,)),
    ),
    "low rank": other(
        partial(
            blocks.FullyConnectedKFACBasicFB, 3, 2, input_max_rows=8, output_max_rows=8
        ),
        normal((3,), (2,)),
        ((3, 2),),
        SPLIT,
        powers_alone=True,
    ),
}


def packed(name, case, arrays):
    """Return the data of a batch as `update_covs` takes them."""
    if name.startswith("tied"):
        return Uses(arrays[:2]), Uses(arrays[2:])
    if name in {"bilinear", "three factors"}:
        return Pair(*arrays[:2]), arrays[2]
    return arrays if case.made(case.kinds[0]).takes_inputs else arrays[1:]
