"""Grouped and depthwise convolutions by enumeration, in NumPy alone."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import kfac_core as kc

USES = 3


@dataclass(frozen=True)
class GroupedCase:
    """A layer in groups.

    Attributes:
        make: Class of its block.
        filter_shape: Shape of its weights.
        groups: Number of groups.
        spatial: Spatial sizes of the inputs.
        pads: Zeros before and after each spatial axis.
        strides: One for each spatial axis.
        dilation: One for each spatial axis.
        data_format: As in the spec.
        has_bias: Whether there is a bias.
        padding: The same as `pads`, as a user writes it.
        uses: How often a case uses the layer; then data are ``[uses, cases, ...]``.
    """

    make: Any
    filter_shape: tuple[int, ...]
    groups: int
    spatial: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    strides: tuple[int, ...]
    dilation: tuple[int, ...]
    data_format: str | None = None
    has_bias: bool = False
    padding: Any = None
    uses: int = 1

    @property
    def kernel(self):
        return self.filter_shape[:-2]

    @property
    def is_depthwise(self):
        return not issubclass(self.make, kc.blocks.GroupedConvKFCBasicFB)

    @property
    def channels(self):
        """Input channels of a group."""
        return 1 if self.is_depthwise else self.filter_shape[-2]

    @property
    def outputs(self):
        """Output channels of a group."""
        last = self.filter_shape[-1]
        return last if self.is_depthwise else last // self.groups

    @property
    def shapes(self):
        bias = ((self.groups * self.outputs,),) if self.has_bias else ()
        return (self.filter_shape, *bias)

    @property
    def size(self):
        return sum(int(np.prod(shape)) for shape in self.shapes)

    def block(self, **options):
        geometry = kc.ConvolutionGeometry(
            self.filter_shape,
            padding=self.pads if self.padding is None else self.padding,
            strides=self.strides,
            dilations=self.dilation,
            num_groups=1 if self.is_depthwise else self.groups,
            data_format=self.data_format,
        )
        return self.make(geometry, has_bias=self.has_bias, **options)

    def locations(self):
        return tuple(
            (n + a + b - (k - 1) * d - 1) // s + 1
            for n, (a, b), k, s, d in zip(
                self.spatial,
                self.pads,
                self.kernel,
                self.strides,
                self.dilation,
                strict=True,
            )
        )

    def draw(self, rng, n):
        """Draw inputs and output gradients, channels where the format has them."""
        cases = (n,) if self.uses == 1 else (self.uses, n)
        x = rng.normal(size=(*cases, *self.spatial, self.groups * self.channels))
        g = rng.normal(size=(*cases, *self.locations(), self.groups * self.outputs))
        return self.placed(x), self.placed(g)

    def placed(self, x):
        first = self.data_format is not None and self.data_format.startswith("NC")
        return np.moveaxis(x, -1, 1).copy() if first else x

    def last(self, x):
        first = self.data_format is not None and self.data_format.startswith("NC")
        return np.moveaxis(x, 1, -1) if first else x

    def vector(self, rng):
        tensors = tuple(rng.normal(size=shape) for shape in self.shapes)
        return tensors if len(tensors) > 1 else tensors[0]

    def rows(self, x, g):
        """Return the rows ``[batch, locations, n]`` of each group's two sides."""
        x, g = self.last(x), self.last(g)
        places = [*np.ndindex(*self.locations())]
        taps = [*np.ndindex(*self.kernel)]
        patches = np.zeros((len(x), len(places), len(taps), x.shape[-1]))
        for i, place in enumerate(places):
            for j, tap in enumerate(taps):
                at = tuple(
                    p * s + t * d - before
                    for p, s, t, d, (before, _) in zip(
                        place, self.strides, tap, self.dilation, self.pads, strict=True
                    )
                )
                if all(0 <= a < n for a, n in zip(at, self.spatial, strict=True)):
                    patches[:, i, j] = x[(slice(None), *at)]
        g = g.reshape(len(g), len(places), -1)
        sides = []
        for i in range(self.groups):
            p = patches[..., i * self.channels : (i + 1) * self.channels]
            p = p.reshape(len(x), len(places), -1)
            if self.has_bias:
                p = np.concatenate([p, np.ones((*p.shape[:2], 1))], axis=-1)
            sides.append((p, g[..., i * self.outputs : (i + 1) * self.outputs]))
        return sides

    def places(self, i):
        """Return where the parameters of a group are in the vector of all."""
        order = np.arange(self.size)
        weights = order[: np.prod(self.filter_shape)].reshape(self.filter_shape)
        mine = slice(i * self.outputs, (i + 1) * self.outputs)
        if self.is_depthwise:
            own = weights[..., i, :].reshape(-1, self.outputs)
        else:
            own = weights[..., mine].reshape(-1, self.outputs)
        if self.has_bias:
            bias = order[np.prod(self.filter_shape) :][None, mine]
            own = np.concatenate([own, bias])
        return own.ravel()

    def fisher(self, x, g, damping=0.0, damping_type="pi", power=1.0):
        """Return the block, dense, each group by the formulas of one convolution."""
        dense = np.zeros((self.size, self.size))
        if self.uses > 1:
            x, g = (own.reshape(-1, *own.shape[2:]) for own in (x, g))
        count = len(self.rows(x, g)[0][0][0]) * self.uses
        for i, (p, rows) in enumerate(self.rows(x, g)):
            a, s = moment(p), moment(rows)
            normal = damping / count**power
            pi = np.sqrt(np.trace(a) / len(a) / (np.trace(s) / len(s)))
            of_a, of_s = {
                "pi": (pi * np.sqrt(normal), np.sqrt(normal) / pi),
                "off": (np.sqrt(normal), np.sqrt(normal)),
                "constant": (normal, normal),
                "exact": (0.0, 0.0),
            }[damping_type]
            own = np.kron(a + of_a * np.eye(len(a)), s + of_s * np.eye(len(s))) * count
            if damping_type == "exact":
                own = own + damping * np.eye(len(own))
            dense[np.ix_(self.places(i), self.places(i))] = own
        return dense

    def case_gradients(self, x, g):
        """Return each case's gradient, ``[batch, parameters]``."""
        gradients = np.zeros((len(x), self.size))
        for i, (p, rows) in enumerate(self.rows(x, g)):
            own = np.einsum("blp,blo->bpo", p, rows)
            gradients[:, self.places(i)] = own.reshape(len(x), -1)
        return gradients


def moment(rows):
    flat = rows.reshape(-1, rows.shape[-1])
    return flat.T @ flat / len(flat)


CASES = {
    "grouped": GroupedCase(
        kc.blocks.GroupedConvKFCBasicFB,
        (2, 1, 2, 4),
        2,
        (3, 3),
        ((0, 0), (0, 0)),
        (1, 2),
        (1, 1),
        has_bias=True,
        padding="VALID",
    ),
    "grouped-channels-first": GroupedCase(
        kc.blocks.GroupedConvKFCBasicFB,
        (2, 1, 3),
        3,
        (4,),
        ((1, 1),),
        (1,),
        (2,),
        "NCW",
        padding="SAME",
    ),
    "depthwise": GroupedCase(
        kc.blocks.DepthwiseConvKFCBasicFB,
        (2, 2, 2, 2),
        2,
        (3, 3),
        ((0, 1), (1, 0)),
        (2, 1),
        (1, 1),
        has_bias=True,
    ),
    "depthwise-channels-first": GroupedCase(
        kc.blocks.DepthwiseConvKFCBasicFB,
        (2, 1, 3, 1),
        3,
        (3, 2),
        ((0, 0), (0, 0)),
        (1, 1),
        (2, 1),
        "NCHW",
        padding="VALID",
    ),
}


SHARED = replace(
    CASES["grouped"], make=kc.blocks.GroupedConvKFCBasicMultiIndepFB, uses=USES
)
"""The first of them, of several uses."""


def assert_close(found, expected, rtol=1e-10):
    atol = rtol * np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=atol)
