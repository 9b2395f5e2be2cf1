"""A block of weights in a layout: the block of the weights in the library's, permuted.

What is true of the weights as the library has them is true of them as a framework has
them: a product is the product, transposed as the weights are.
"""

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from block_case import NumPy, asarrays, flat, leaves
from block_cases import BLOCKS
from hypothesis import given
from hypothesis import strategies as st

from kfac_core import ConvolutionGeometry, blocks

MADE = {name: case.make() for name, case in BLOCKS.items()}
WITH = [n for n, b in MADE.items() if hasattr(b, "layout") or hasattr(b, "geometry")]
"""Names of cases whose weights may lie in several ways."""

TERMS = 64
"""At least as many terms as any entry of a product of these cases is a sum of."""


def axes_of(name, rank):
    """Return for each axis in the library's order its place, by the names of axes."""
    if name == "out_in":
        return (1, 0)
    kernel = "DHW"[2 - rank :]
    written = name.replace("HW", kernel)
    return tuple(written.index(axis) for axis in f"{kernel}IO")


def laid(x, axes):
    """Return an array in the library's order as it lies in a layout."""
    return np.transpose(x, np.argsort(axes))


def in_layout(block, layout, shape):
    """Return the block of the same layer, its weights in a layout; and their axes."""
    if layout == "out_in":
        return replace(block, layout=layout), (1, 0)
    axes = axes_of(layout, len(shape))
    if isinstance(
        block, blocks.DepthwiseConvKFCBasicFB | blocks.DepthwiseConvDiagonalFB
    ):
        *kernel, channels, multiplier = shape
        shape = (*kernel, 1, channels * multiplier)
        options = {"multiplier": multiplier}
    else:
        options = {}
    lies = tuple(shape[i] for i in np.argsort(axes))
    geometry = replace(block.geometry, layout=layout, filter_shape=lies)
    return replace(block, geometry=geometry, **options), axes


def layouts_of(name):
    block = BLOCKS[name].make()
    return ["OIHW"] if hasattr(block, "geometry") else ["out_in"]


def pair(library, name, layout, rng, **options):
    """Return a block and its twin in a layout, both updated, and the twin's axes."""
    case = BLOCKS[name]
    data = case.draw(rng, 6)
    plain = case.made(case.kinds[0], (-1, 0.5), **options)
    twin, axes = in_layout(plain, layout, case.shapes[0])
    blocks = []
    for block in (plain, twin):
        state = case.updated(library, block, data)
        blocks.append((block, library.compiled(block.update_inverses)(state, 0.3)))
    return case, blocks, axes


def as_laid(case, vector, twin, axes):
    """Return the parameters of a case as the twin has them."""
    tensors = vector if isinstance(vector, tuple) else (vector,)
    weights = tensors[0]
    if hasattr(twin, "geometry"):
        weights = weights.reshape(twin.geometry.shape)
    found = (laid(weights, axes), *tensors[1:])
    return found if isinstance(vector, tuple) else found[0]


def order_of(case, twin, axes):
    """Return the place in the library's order of each entry of the parameters."""
    sizes = [int(np.prod(shape)) for shape in case.shapes]
    places = np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])
    tensors = tuple(p.reshape(s) for p, s in zip(places, case.shapes, strict=True))
    return flat(NumPy, as_laid(case, tensors, twin, axes))


@pytest.mark.parametrize(
    ("name", "layout"), [(name, x) for name in WITH for x in layouts_of(name)]
)
def test_products_are_taken_and_given_in_the_layout(library, name, layout, rng):
    case, ((plain, state), (twin, of_twin)), axes = pair(library, name, layout, rng)
    vector = case.vector(rng)
    lying = as_laid(case, vector, twin, axes)
    products = case.products(plain, 1, -1, 0.5)
    for what, multiply in case.products(twin, 1, -1, 0.5).items():
        wanted = products[what](state, asarrays(library, vector))
        wanted = tuple(library.to_numpy(x) for x in leaves(wanted))
        found = multiply(of_twin, asarrays(library, lying))
        assert isinstance(found, tuple) == isinstance(vector, tuple)
        for x, y in zip(leaves(found), as_laid(case, wanted, twin, axes), strict=True):
            # A library may add the terms in another order where axes lie otherwise.
            atol = TERMS * np.finfo(y.dtype).eps * np.abs(y).max(initial=0)
            np.testing.assert_allclose(library.to_numpy(x), y, rtol=0, atol=atol)


@pytest.mark.parametrize(
    ("name", "layout"), [(name, x) for name in WITH for x in layouts_of(name)]
)
def test_the_dense_block_is_on_the_parameters_as_they_lie(
    plain_library, name, layout, rng
):
    case, ((plain, state), (twin, of_twin)), axes = pair(
        plain_library, name, layout, rng
    )
    order = order_of(case, twin, axes)
    wanted = plain_library.to_numpy(plain.full_fisher_block(state))[order][:, order]
    found = plain_library.to_numpy(twin.full_fisher_block(of_twin))
    np.testing.assert_array_equal(found, wanted)


def test_the_block_of_a_transposed_matrix_is_the_dense_truth(rng):
    """As `F = kron(A, G)` is of ``[in, out]``, ``kron(G, A)`` is of ``[out, in]``."""
    block = blocks.FullyConnectedKFACBasicFB(3, 2, layout="out_in")
    x, g = rng.normal(size=(5, 3)), rng.normal(size=(5, 2))
    state = block.update_covs(block.init(like=x), x, g, ema_decay=0.0)
    wanted = np.kron(g.T @ g / 5, x.T @ x / 5)
    np.testing.assert_allclose(block.full_fisher_block(state), wanted, atol=1e-14)


def test_the_mean_of_per_case_gradients_as_pytorch_has_them(torch, rng):
    """One case: the block is exact, and its vectors are PyTorch's own gradients."""
    layer = torch.nn.Linear(3, 3, dtype=torch.float64)
    convolution = torch.nn.Conv2d(2, 2, 2, dtype=torch.float64)
    for module, shape, block in (
        (layer, (1, 3), blocks.FullyConnectedKFACBasicFB(3, 3, True, layout="out_in")),
        (
            convolution,
            (1, 2, 2, 2),
            blocks.ConvKFCBasicFB(
                ConvolutionGeometry(
                    tuple(convolution.weight.shape),
                    padding="VALID",
                    data_format="NCHW",
                    layout="OIHW",
                ),
                has_bias=True,
            ),
        ),
    ):
        x = torch.from_numpy(rng.normal(size=shape))
        y = module(x)
        y.retain_grad()
        (y**2).sum().backward()
        gradient = tuple(parameter.grad for parameter in module.parameters())
        state = block.update_covs(block.init(like=x), x.detach(), y.grad, ema_decay=0.0)
        flattened = torch.cat([part.reshape(-1) for part in gradient])
        wanted = torch.outer(flattened, flattened).numpy()
        dense = block.full_fisher_block(state).numpy()
        np.testing.assert_allclose(
            dense, wanted, rtol=0, atol=1e-12 * abs(wanted).max()
        )


@given(st.integers(1, 5), st.integers(1, 5), st.booleans(), st.integers(0, 2**32 - 1))
def test_any_sizes_square_or_not(inputs, outputs, has_bias, seed):
    rng = np.random.default_rng(seed)
    plain = blocks.FullyConnectedKFACBasicFB(inputs, outputs, has_bias)
    twin = replace(plain, layout="out_in")
    x, g = rng.normal(size=(7, inputs)), rng.normal(size=(7, outputs))
    weights, bias = rng.normal(size=(inputs, outputs)), rng.normal(size=outputs)
    found = []
    for block, own in ((plain, weights), (twin, weights.T)):
        state = block.update_covs(block.init(like=x), x, g, ema_decay=0.0)
        state = block.update_inverses(state, 0.1)
        product = block.multiply_inverse(state, (own, bias) if has_bias else own)
        found.append(product if has_bias else (product,))
    np.testing.assert_array_equal(found[0][0].T, found[1][0])
    np.testing.assert_array_equal(found[0][1:], found[1][1:])


@given(
    st.lists(st.integers(1, 3), min_size=1, max_size=3),
    st.integers(1, 3),
    st.integers(1, 3),
    st.permutations(["HW", "I", "O"]),
    st.integers(0, 2**32 - 1),
)
def test_any_kernel_and_channels_equal_or_not(kernel, inputs, outputs, order, seed):
    rng = np.random.default_rng(seed)
    shape, name = (*kernel, inputs, outputs), "".join(order)
    plain = blocks.ConvKFCBasicFB(ConvolutionGeometry(shape, padding="SAME"))
    twin, axes = in_layout(plain, name, shape)
    x, g = (rng.normal(size=(2, *kernel, n)) for n in (inputs, outputs))
    weights = rng.normal(size=shape)
    found = []
    for block, own in ((plain, weights), (twin, laid(weights, axes))):
        state = block.update_covs(block.init(like=x), x, g, ema_decay=0.0)
        state = block.update_inverses(state, 0.1)
        found.append((block.multiply_inverse(state, own), block, state))
    (wanted, _, state), (product, _, of_twin) = found
    np.testing.assert_array_equal(product, laid(wanted, axes))
    flat = product.ravel()
    dense = twin.full_fisher_block(of_twin)
    other = plain.full_fisher_block(state)
    np.testing.assert_allclose(
        dense @ flat,
        laid((other @ wanted.ravel()).reshape(shape), axes).ravel(),
        rtol=0,
        atol=1e-11 * (1 + np.abs(dense).max() * np.abs(flat).max()),
    )


@pytest.mark.parametrize("name", ["dense", "conv"])
def test_a_square_weight_in_the_wrong_layout_gives_another_step(name, rng):
    wrong = {"dense": ("out_in", (3, 3)), "conv": ("OIHW", (2, 2, 2, 2))}[name]
    if name == "dense":
        plain = blocks.FullyConnectedKFACBasicFB(3, 3)
        x, g, weights = (rng.normal(size=(4, 3)) for _ in range(3))
        weights = weights[:3]
    else:
        plain = blocks.ConvKFCBasicFB(
            ConvolutionGeometry((2, 2, 2, 2), padding="VALID")
        )
        x, g = rng.normal(size=(4, 3, 3, 2)), rng.normal(size=(4, 2, 2, 2))
        weights = rng.normal(size=(2, 2, 2, 2))
    steps = []
    for block in (plain, in_layout(plain, *wrong)[0]):
        state = block.update_covs(block.init(like=x), x, g, ema_decay=0.0)
        state = block.update_inverses(state, 0.1)
        steps.append(block.multiply_inverse(state, weights))
    assert np.linalg.norm(steps[0] - steps[1]) > 0.1 * np.linalg.norm(steps[0])


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_every_order_of_kernel_inputs_and_outputs(rank, rng):
    kernel = "DHW"[3 - rank :]
    names = ["".join(order) for order in permutations((kernel, "I", "O"))]
    names += [] if rank == 2 else [name.replace(kernel, "HW") for name in names]
    shape = (*(2, 3, 1)[:rank], 2, 3)
    plain = blocks.ConvDiagonalFB(ConvolutionGeometry(shape, padding="SAME"))
    x, g = (rng.normal(size=(3, *(4,) * rank, n)) for n in (2, 3))
    weights = rng.normal(size=shape)
    state = plain.update_covs(plain.init(like=x), x, g, ema_decay=0.0)
    wanted = plain.multiply_inverse(plain.update_inverses(state, 0.1), weights)
    for name in names:
        twin, axes = in_layout(plain, name, shape)
        state = twin.update_covs(twin.init(like=x), x, g, ema_decay=0.0)
        found = twin.multiply_inverse(
            twin.update_inverses(state, 0.1), laid(weights, axes)
        )
        np.testing.assert_array_equal(found, laid(wanted, axes))


def test_rows_of_a_transposed_embedding_are_its_columns(rng):
    block = blocks.EmbeddingKFACFB(5, 2, layout="out_in")
    ids, g = np.asarray([0, 2, 2, 3]), rng.normal(size=(4, 2))
    state = block.update_covs(block.init(like=g), ids, g, ema_decay=0.0)
    state = block.update_inverses(state, 0.1)
    gradient = np.zeros((2, 5))
    gradient[:, [0, 3]] = rng.normal(size=(2, 2))
    some, of_some = block.restricted(state, np.asarray([0, 3]))
    np.testing.assert_allclose(
        some.multiply_inverse(of_some, gradient[:, [0, 3]]),
        block.multiply_inverse(state, gradient)[:, [0, 3]],
        rtol=1e-13,
    )


COMPILED = {
    "dense": (
        blocks.FullyConnectedKFACBasicFB(3, 2, True, layout="out_in"),
        ((4, 3), (4, 2)),
        ((2, 3), (2,)),
    ),
    "conv": (
        blocks.ConvKFCBasicFB(
            ConvolutionGeometry((2, 1, 2), padding="VALID", layout="OIHW")
        ),
        ((4, 3, 1), (4, 2, 2)),
        ((2, 1, 2),),
    ),
}


@pytest.mark.parametrize("name", COMPILED)
@pytest.mark.parametrize("compiler", ["jax", "torch"])
def test_a_compiled_step_is_the_eager_one(name, compiler, rng, request):
    library = request.getfixturevalue(compiler)
    block, data, shapes = COMPILED[name]

    def step(state, x, g, vector, damping):
        state = block.update_covs(state, x, g, ema_decay=0.5)
        state = block.update_inverses(state, damping)
        return block.multiply_inverse(state, vector)

    asarray = library.numpy.asarray if compiler == "jax" else library.from_numpy
    x, g = (asarray(rng.normal(size=shape)) for shape in data)
    vector = tuple(asarray(rng.normal(size=shape)) for shape in shapes)
    compiled = (
        library.jit(step)
        if compiler == "jax"
        else library.compile(step, fullgraph=True, backend="eager")
    )
    state, damping = block.init(like=x), asarray(np.asarray(0.1))
    for found, wanted in zip(
        compiled(state, x, g, vector, damping),
        step(state, x, g, vector, damping),
        strict=True,
    ):
        assert found.shape == wanted.shape
        np.testing.assert_allclose(np.asarray(found), np.asarray(wanted), rtol=1e-12)
