"""`Layer`: the uses of a parameter as one layer of the core."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from kfac_adapters.jax.charts import Chart
from kfac_adapters.jax.forms import Form
from kfac_adapters.jax.parts import Part
from kfac_adapters.jax.sites import Cases, Site, uses_per_case
from kfac_adapters.jax.uses.base import Use
from kfac_adapters.jax.uses.convolution import Convolution
from kfac_adapters.jax.uses.dense import Dense
from kfac_adapters.jax.uses.elementwise import Elementwise, Scale, Shift
from kfac_adapters.jax.uses.embedding import Embedding
from kfac_core.layer_collection import LayerCollection
from kfac_core.layer_collection.approximations import chosen_approximation
from kfac_core.statistics.patches.geometry import ConvolutionGeometry

Register: TypeAlias = Callable[[LayerCollection, Any], LayerCollection]
"""Registers a layer with the names of its parameters."""

Bias: TypeAlias = tuple[Part, tuple[Shift, ...]]
"""A bias, and the sums that add it, one for each use of its layer."""


@dataclass(frozen=True)
class Layer:
    """A layer.

    Attributes:
        params: Its parameters, the weights first.
        forms: The form of each.
        sites: Where its data come from.
        register: Registers it.
    """

    params: tuple[Part, ...]
    forms: tuple[Form, ...]
    sites: tuple[Site, ...]
    register: Register

    @property
    def chart(self) -> Chart | None:
        """What the weight is made of, if it is no parameter."""
        found: Chart | None = self.sites[0].uses[0].chart if self.sites else None
        return found


def layer_of(
    part: Part, uses: tuple[Use, ...], bias: Bias | None, cases: Cases
) -> Layer | str:
    """Return the layer of a parameter.

    Args:
        part: Which parameter, or part of one.
        uses: All its uses.
        bias: What is added to each of its outputs, if there is one.
        cases: The cases.

    Returns:
        The layer; or why there is none.
    """
    kinds = {use.kind for use in uses}
    if len({use.form for use in uses}) > 1:
        return f"uses by unlike layouts: {_listed(uses)}"
    if len({use.chart for use in uses}) > 1:
        return f"a direction, and used otherwise: {_listed(uses)}"
    if kinds == {"dense"} and len({_layout(use) for use in uses}) == 1:
        return _affine(part, uses, bias, cases)
    if kinds == {"embedding"} or kinds == {"expert"}:
        return _affine(part, uses, None, cases)
    if kinds <= {"dense", "embedding"}:
        return _tied(part, uses, bias, cases)
    if kinds == {"convolution"}:
        return _convolution(part, uses, bias, cases)
    if kinds == {"scale"}:
        return _scale(part, uses, bias, cases)
    if kinds == {"shift"}:
        return _shift(part, uses, cases)
    return f"uses by unlike operations: {_listed(uses)}"


def _affine(
    part: Part, uses: tuple[Use, ...], bias: Bias | None, cases: Cases
) -> Layer | str:
    each = uses_per_case([_rows(use) for use in uses], cases.size)
    name = uses[0].site
    kind = "embedding" if isinstance(uses[0], Embedding) else "fully_connected"
    layout = _layout(uses[0])
    options: dict[str, Any] = {}
    if any(isinstance(use, Embedding) and use.filled for use in uses):
        options["negative_ids_are_padding"] = True
    if isinstance(each, str):
        site = Site(name, uses, "joint")
        own = _of_joint_rows(kind, uses[0].form.shape, layout, name, options)
        return _with_bias(part, uses, bias, (site,), own)
    options["layout"] = layout
    if each > 1:
        kind += "_multi"
        options |= {"num_uses": each, "batch_first": True}

    def register(collection: LayerCollection, names: Any) -> LayerCollection:
        new: LayerCollection = getattr(collection, f"register_{kind}")(
            names, name, **options
        )
        return new

    return _with_bias(part, uses, bias, (Site(name, uses, "rows"),), register)


def _of_joint_rows(
    kind: str,
    shape: tuple[int, ...],
    layout: str,
    site: str,
    options: Mapping[str, Any],
) -> Register:
    """Return what registers a layer whose rows are no case's alone, of any number.

    They are uses of one case that alone reaches the layer: such as relative positions,
    of which there are as many for any batch.
    """
    made: dict[str, Any] = {"num_uses": None, "batch_first": True, **options}
    if kind == "embedding":
        made |= {"vocab_size": shape[0], "output_size": shape[1]}
    else:
        sizes = shape if layout == "in_out" else shape[::-1]
        made |= {"input_size": sizes[0], "output_size": sizes[1], "layout": layout}
    kind = f"{kind}_multi"

    def register(collection: LayerCollection, names: Any) -> LayerCollection:
        own = {} if "vocab_size" in made else {"has_bias": len(names) == 2}
        return _by_block(collection, names, kind, made | own, site)

    return register


def _by_block(
    collection: LayerCollection,
    names: Any,
    kind: str,
    made: dict[str, Any],
    sites: str | tuple[str, ...],
) -> LayerCollection:
    """Register a layer by its block, which any number of uses may come to."""
    label, approx = "+".join(names), dict(collection.defaults).get(kind)
    block = chosen_approximation(kind, approx, label).make(label, made, {})
    return collection.register_block(names, block, sites)


def _tied(
    part: Part, uses: tuple[Use, ...], bias: Bias | None, cases: Cases
) -> Layer | str:
    for use in uses:
        each = uses_per_case([_rows(use)], cases.size)
        if isinstance(each, str):
            return each
        if each == 1 and _rows(use) != cases.size:
            return f"tied, and used in {_rows(use)} rows, for {cases.size} cases"
    pairs = [(_tied_kind(use), use.site) for use in uses]
    sites = tuple(Site(use.site, (use,), "rows") for use in uses)

    def register(collection: LayerCollection, names: Any) -> LayerCollection:
        return collection.register_tied_weights(names, pairs)

    return _with_bias(part, uses, bias, sites, register)


def _convolution(
    part: Part, uses: tuple[Use, ...], bias: Bias | None, cases: Cases
) -> Layer | str:
    use = uses[0]
    assert isinstance(use, Convolution)
    each = uses_per_case([_rows(other) for other in uses], cases.size)
    if isinstance(each, str):
        return each
    if len({replace(other, site="", shape=()) for other in uses}) > 1:
        return f"convolutions of {len(uses)} unlike settings, as of padding"
    sized = len({other.shape for other in uses}) > 1
    if sized and any(_rows(other) != cases.size for other in uses):
        return "a convolution of images of unlike sizes, several of one for each case"
    # Images of one size are one array; of several, each use has a site.
    parts = tuple((other,) for other in uses) if sized else (uses,)
    sites = tuple(Site(own[0].site, own, "images") for own in parts)
    name: Any = tuple(site.name for site in sites) if sized else use.site
    options: dict[str, Any] = {
        "strides": use.strides,
        "padding": use.padding,
        "dilations": use.dilation,
        "layout": use.layout,
    }

    def register(collection: LayerCollection, names: Any) -> LayerCollection:
        uses_of_case = {"num_uses": each, "batch_first": True} if each > 1 else {}
        if use.is_transposed:
            padding, more = use.adjoint
            of_kind = "transposed_convolution" + ("_multi" if each > 1 else "")
            new: LayerCollection = getattr(collection, f"register_{of_kind}")(
                names,
                name,
                use.holes,
                padding,
                output_padding=more,
                dilations=use.dilation,
                layout=use.layout,
                mirrored=use.mirrored,
                **uses_of_case,
            )
            return new
        if each > 1:
            geometry = ConvolutionGeometry(
                collection.shapes[names[0]], num_groups=use.groups, **options
            )
            made = {"geometry": geometry, "has_bias": len(names) == 2, **uses_of_case}
            kind = "conv2d" if use.groups == 1 else "grouped_convolution"
            return _by_block(collection, names, f"{kind}_multi", made, name)
        if use.groups > 1:
            return collection.register_grouped_convolution(
                names, name, use.groups, **options
            )
        return collection.register_convolution(names, name, **options)

    return _with_bias(part, uses, bias, sites, register)


def _scale(
    part: Part, uses: tuple[Use, ...], bias: Bias | None, cases: Cases
) -> Layer | str:
    (use, *others) = uses
    assert isinstance(use, Scale)
    if others:
        return f"a scale that is used {len(uses)} times"
    fixed = use.fixed if bias is None else min(use.fixed, bias[1][0].fixed)
    fixed += use.lead
    sizes = _uses_of_cases(use, cases, fixed)
    if sizes is None:
        return _summed(part, uses, cases)
    shape = (*sizes, *use.shape[len(use.rows) :])

    def register(collection: LayerCollection, names: Any) -> LayerCollection:
        return collection.register_scale_and_shift(names, use.site, input_shape=shape)

    site = Site(use.site, uses, "cases")
    layer = _with_bias(part, uses, None, (site,), register)
    if bias is None:
        return layer
    other, (shift, *_) = bias
    forms = (use.form, shift.form)
    return replace(layer, params=(part, other), forms=forms)


def _shift(part: Part, uses: tuple[Use, ...], cases: Cases) -> Layer | str:
    for use in uses:
        assert isinstance(use, Shift)
        if _uses_of_cases(use, cases, len(use.rows)) is None:
            return _summed(part, uses, cases)
    sites = tuple(Site(use.site, (use,), "cases", takes_inputs=False) for use in uses)

    def register(collection: LayerCollection, names: Any) -> LayerCollection:
        return collection.register_bias(names[0], [site.name for site in sites])

    return _with_bias(part, uses, None, sites, register)


def _with_bias(
    part: Part,
    uses: tuple[Use, ...],
    bias: Bias | None,
    sites: tuple[Site, ...],
    register: Register,
) -> Layer:
    if bias is None or bias[1][0].bias_form is None:
        return Layer((part,), (uses[0].form,), sites, register)
    forms = (uses[0].form, bias[1][0].bias_form)
    return Layer((part, bias[0]), forms, sites, register)


def takes_bias(use: Use, layer: tuple[Use, ...]) -> bool:
    """Return whether a use may have a bias within its layer."""
    if use.kind not in ("embedding", "expert"):
        return not any(u.kind == "embedding" for u in layer) or (
            _layout(use) == "out_in"
        )
    return False


def _rows(use: Use) -> int:
    return math.prod(use.rows)


def _layout(use: Use) -> str:
    return use.layout if isinstance(use, Dense) else "in_out"


def _tied_kind(use: Use) -> str:
    if use.kind == "embedding":
        return "embedding"
    return "transposed" if _layout(use) == "out_in" else "fully_connected"


def _uses_of_cases(
    use: Elementwise, cases: Cases, fixed: int
) -> tuple[int, ...] | None:
    """Return the sizes of the leading axes beside those of cases.

    Args:
        use: The use.
        cases: The cases.
        fixed: How many leading axes may be of cases.

    Returns:
        The sizes; None if the cases have no leading axes.
    """
    order = cases.orders[use.site]
    within = all(digit is None for axis in order.axes[fixed:] for digit in axis)
    return order.use_sizes(use.rows, cases.shape) if within else None


def _summed(part: Part, uses: tuple[Use, ...], cases: Cases) -> Layer | str:
    """Return the layer of what has cases that cannot be told apart.

    A normalisation over the batch scales what has no axis of cases; and positions that
    are added to all sequences have one of sequences alone, where tokens are cases. The
    gradient of the whole batch then estimates the diagonal.
    """
    use = uses[0]
    if len(use.features) > 1 and use.kind != "shift":
        return (
            f"its output of shape {use.shape} has no leading axes of the"
            f" {cases.size} cases along which it is broadcast"
        )

    def register(collection: LayerCollection, names: Any) -> LayerCollection:
        return collection.register_generic(names[0], approx="diagonal")

    return Layer((part,), (use.form,), (), register)


def _listed(uses: tuple[Use, ...]) -> str:
    return ", ".join(f"{use.kind} at {use.site}" for use in uses)
