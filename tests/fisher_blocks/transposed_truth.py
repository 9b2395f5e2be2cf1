"""Transposed convolutions by enumeration, in NumPy alone."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from grouped_truth import moment

import kfac_core as kc


@dataclass(frozen=True)
class TransposedCase:
    """A transposed convolution.

    Attributes:
        filter_shape: Shape of its weights.
        inputs: Spatial sizes of the inputs.
        outputs: Spatial sizes of the outputs.
        before: Outputs cut off in front, along each spatial axis.
        padding: What the spec says of them.
        strides: One for each spatial axis.
        dilation: One for each spatial axis.
        groups: Number of groups.
        data_format: As in the spec.
        has_bias: Whether there is a bias.
        locations: As in the spec.
        mirrored: As in the spec.
        uses: How often a case uses the layer; then data are ``[uses, cases, ...]``.
    """

    filter_shape: tuple[int, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    before: tuple[int, ...]
    padding: Any
    strides: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int = 1
    data_format: str | None = None
    has_bias: bool = False
    locations: str = "input"
    mirrored: bool = False
    uses: int = 1

    @property
    def channels(self):
        return self.filter_shape[-2]

    @property
    def out_channels(self):
        return self.filter_shape[-1] * self.groups

    @property
    def shapes(self):
        bias = ((self.out_channels,),) if self.has_bias else ()
        return (self.filter_shape, *bias)

    @property
    def size(self):
        return sum(int(np.prod(shape)) for shape in self.shapes)

    def block(self, **options):
        make = kc.blocks.TransposedConvKFCBasicFB
        if self.uses > 1:
            make = kc.blocks.TransposedConvKFCBasicMultiIndepFB
        return make(
            kc.ConvolutionGeometry(
                self.filter_shape,
                num_groups=self.groups,
                padding=self.padding,
                strides=self.strides,
                dilations=self.dilation,
                data_format=self.data_format,
            ),
            has_bias=self.has_bias,
            locations=self.locations,
            mirrored=self.mirrored,
            **options,
        )

    def draw(self, rng, n):
        cases = (n,) if self.uses == 1 else (self.uses, n)
        x = rng.normal(size=(*cases, *self.inputs, self.channels))
        g = rng.normal(size=(*cases, *self.outputs, self.out_channels))
        return self.placed(x), self.placed(g)

    @property
    def first(self):
        return self.data_format is not None and self.data_format.startswith("NC")

    def placed(self, x):
        return np.moveaxis(x, -1, 1).copy() if self.first else x

    def last(self, x):
        return np.moveaxis(x, 1, -1) if self.first else x

    def meetings(self):
        """Yield every input location, tap and output location that meet, as indices."""
        kernel = self.filter_shape[:-2]
        for u in np.ndindex(*self.inputs):
            for o in np.ndindex(*kernel):
                at = [k - 1 - i for k, i in zip(kernel, o, strict=True)]
                steps = at if self.mirrored else o
                t = tuple(
                    s * i + d * j - p
                    for s, i, d, j, p in zip(
                        self.strides, u, self.dilation, steps, self.before, strict=True
                    )
                )
                if all(0 <= i < n for i, n in zip(t, self.outputs, strict=True)):
                    yield u, o, t

    def flat(self, x, sizes):
        return x.reshape(len(x), int(np.prod(sizes)), -1)

    def sides(self, x, g):
        """Return the rows ``[batch, locations, n]`` of each group's two sides."""
        x, g = self.last(x), self.last(g)
        kernel = self.filter_shape[:-2]
        taps, places = int(np.prod(kernel)), int(np.prod(self.outputs))
        cells = int(np.prod(self.inputs))
        q = np.zeros((len(x), cells, taps, self.out_channels))
        p = np.zeros((len(x), places, taps, self.channels))
        for u, o, t in self.meetings():
            i = np.ravel_multi_index(u, self.inputs)
            j = np.ravel_multi_index(o, kernel)
            k = np.ravel_multi_index(t, self.outputs)
            q[:, i, j] = g[(slice(None), *t)]
            p[:, k, j] = x[(slice(None), *u)]
        a, b = self.channels // self.groups, self.filter_shape[-1]
        x, g = self.flat(x, self.inputs), self.flat(g, self.outputs)
        found = []
        for i in range(self.groups):
            of_in, of_out = slice(i * a, i * a + a), slice(i * b, i * b + b)
            if self.locations == "input":
                patches = q[..., of_out].reshape(len(x), cells, -1)
                found.append((x[..., of_in], patches))
                continue
            patches = p[..., of_in].reshape(len(x), places, -1)
            if self.has_bias:
                ones = np.ones((len(x), places, 1))
                patches = np.concatenate([patches, ones], axis=-1)
            found.append((patches, g[..., of_out]))
        return found

    def places(self, i):
        """Return where the entries of a group's matrix are in the parameters."""
        *_, channels, outputs = self.filter_shape
        a = channels // self.groups
        order = np.arange(self.size)
        count = int(np.prod(self.filter_shape))
        weights = order[:count].reshape(-1, channels, outputs)[:, i * a : i * a + a]
        if self.locations == "input":
            return weights.transpose(1, 0, 2).ravel()
        own = weights.reshape(-1, outputs)
        if self.has_bias:
            bias = order[count:][None, i * outputs : (i + 1) * outputs]
            own = np.concatenate([own, bias])
        return own.ravel()

    def fisher(self, x, g, damping=0.0, damping_type="pi", power=1.0):
        """Return the block, dense."""
        dense = np.zeros((self.size, self.size))
        by_use = g if self.uses > 1 else g[None]
        if self.uses > 1:
            x, g = (own.reshape(-1, *own.shape[2:]) for own in (x, g))
        for i, (rows, columns) in enumerate(self.sides(x, g)):
            count = rows.shape[1] * self.uses
            a, s = moment(rows), moment(columns)
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
        if self.has_bias and self.locations == "input":
            rows = sum(self.flat(self.last(own), self.outputs).sum(1) for own in by_use)
            bias = rows.T @ rows / len(rows) + damping * np.eye(self.out_channels)
            dense[-self.out_channels :, -self.out_channels :] = bias
        return dense


CASES = {
    "strided": TransposedCase(
        (3, 2, 2, 2),
        (2, 2),
        (4, 5),
        (1, 0),
        ((1, 0), (0, 0)),
        (2, 3),
        (1, 1),
        has_bias=True,
    ),
    "channels-first": TransposedCase(
        (2, 2, 3), (3,), (5,), (1,), 1, (2,), (2,), data_format="NCW", has_bias=True
    ),
    "groups": TransposedCase(
        (2, 4, 1), (3,), (4,), (0,), "VALID", (1,), (1,), 2, has_bias=True
    ),
    "output-strided": TransposedCase(
        (3, 2, 2, 2),
        (2, 2),
        (4, 5),
        (1, 0),
        ((1, 0), (0, 0)),
        (2, 3),
        (1, 1),
        has_bias=True,
        locations="output",
    ),
    "output-groups": TransposedCase(
        (2, 4, 2),
        (3,),
        (6,),
        (0,),
        "SAME",
        (2,),
        (1,),
        2,
        "NCW",
        True,
        "output",
    ),
}

SHARED = {
    name: replace(CASES[name], uses=3)
    for name in ("strided", "groups", "output-strided", "output-groups")
}
"""Some of them, of several uses."""
