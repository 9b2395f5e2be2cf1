"""Calls of convolutions from before `ConvolutionGeometry`, for one release.

A spec took filter shape, strides, padding, dilation and data format one by one, in
orders of its own. Such a call still makes the spec, and says what to write.
"""

import functools
import warnings
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

from kfac_core.errors import ArgumentError
from kfac_core.statistics.patches.geometry import ConvolutionGeometry

T = TypeVar("T", bound=type)
F = TypeVar("F", bound=Callable[..., Any])

DILATIONS = ("dilations", "dilation_rate", "rate")
"""The names that dilations had."""


PADDED = "ConvInputSUAKroneckerFactor"
"""The class that had a padding by default, ``"SAME"``."""

_KRONECKER = "filter_shape padding strides dilation_rate data_format extract_patches_fn"
_DIAGONAL = "filter_shape strides padding data_format dilations has_bias patch_mask"
_DEPTHWISE = "filter_shape strides padding rate data_format has_bias"
_GROUPED = "filter_shape num_groups padding strides dilation_rate data_format has_bias"
_TRANSPOSED = (
    "filter_shape padding strides output_padding dilation_rate num_groups data_format"
    " has_bias locations"
)

ORDERS = {
    "ConvInputKroneckerFactor": f"{_KRONECKER} has_bias",
    "ConvKFCBasicFB": f"{_KRONECKER} has_bias",
    "ConvInputMultiKF": f"{_KRONECKER} has_bias num_uses",
    "ConvKFCBasicMultiIndepFB": f"{_KRONECKER} has_bias num_uses",
    "ConvInputSUAKroneckerFactor": "filter_shape has_bias",
    "ConvDiagonalFactor": _DIAGONAL,
    "ConvDiagonalFB": _DIAGONAL,
    "DepthwiseConvDiagonalFactor": _DEPTHWISE,
    "DepthwiseConvDiagonalFB": _DEPTHWISE,
    "DepthwiseConvKFCBasicFB": _DEPTHWISE,
    "GroupedConvKFCBasicFB": _GROUPED,
    "TransposedConvKFCBasicFB": _TRANSPOSED,
}
"""The positional arguments of each class, as they were."""


def takes_older_calls(cls: T) -> T:
    """Let a class of specs be called as before; calls with a geometry are untouched."""
    make: Any = cls.__init__  # type: ignore[misc]
    order = ORDERS[cls.__name__].split()

    @functools.wraps(make)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        name = type(self).__name__
        named = {**dict(zip(order, args, strict=False)), **kwargs}
        # What lacks a padding was no call before either.
        if _is_older(args, kwargs) and (name == PADDED or "padding" in named):
            args, kwargs = (_geometry(name, named),), named
            msg = (
                f"{name}: give a kfac_core.ConvolutionGeometry in place of"
                " filter_shape, padding, strides, dilations, data_format and layout"
            )
            warnings.warn(msg, DeprecationWarning, stacklevel=2)
        make(self, *args, **kwargs)

    cls.__init__ = init  # type: ignore[misc]
    return cls


def takes_older_registrations(place: int, rank: int | None) -> Callable[[F], F]:
    """Return what lets a registration be called as before, for one release.

    Dilations were ``dilation_rate`` or ``rate``, None was one, strides could be of full
    rank, and three registrations took the padding first and strides by name.

    Args:
        place: The place of ``strides`` among the positional arguments.
        rank: Number of spatial axes; None: that of the weights.

    Returns:
        A decorator of a method.
    """

    def decorated(register: F) -> F:
        @functools.wraps(register)
        def called(self: Any, *args: Any, **kwargs: Any) -> Any:
            now = _registration(args, kwargs, place, rank)
            if now != (args, kwargs):
                msg = (
                    f"{register.__name__}: give strides before padding, both for the"
                    " spatial axes, and dilations by that name"
                )
                warnings.warn(msg, DeprecationWarning, stacklevel=2)
            args, kwargs = now
            return register(self, *args, **kwargs)

        return cast(F, called)

    return decorated


def _registration(
    args: tuple[Any, ...], given: dict[str, Any], place: int, rank: int | None
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of a registration as they are given now."""
    kwargs = dict(given)
    for name in DILATIONS[1:]:
        if name in kwargs:
            kwargs["dilations"] = kwargs.pop(name)
    if len(args) == place + 1 and "padding" not in kwargs:
        kwargs["padding"], args = args[place], args[:place]
    if len(args) <= place:
        kwargs.setdefault("strides", 1)
    is_first = str(kwargs.get("data_format")).startswith("NC")

    def spatial(steps: Any) -> Any:
        if steps is None:
            return 1
        return steps if rank is None else _spatial(steps, rank, is_first)

    if len(args) > place:
        args = (*args[:place], spatial(args[place]), *args[place + 1 :])
    for name in ("strides", "dilations"):
        if name in kwargs:
            kwargs[name] = spatial(kwargs[name])
    return args, kwargs


def _is_older(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    if "geometry" in kwargs:
        return False
    return "filter_shape" in kwargs or (
        bool(args) and isinstance(args[0], tuple | list)
    )


def _geometry(label: str, named: dict[str, Any]) -> ConvolutionGeometry:
    """Return the geometry of an older call, and take what it is made of away.

    Raises:
        ArgumentError: If patches were to be extracted as ``tf.contrib.kfac`` does.
    """
    if named.pop("extract_patches_fn", None) is not None:
        msg = (
            f"{label}: extract_patches_fn is an option of kfac_core.contrib alone;"
            " leave it out, patches are the same"
        )
        raise ArgumentError(msg)
    given = {name: named.pop(name) for name in DILATIONS if name in named}
    shape, data_format = named.pop("filter_shape"), named.pop("data_format", None)
    rank, is_first = len(shape) - 2, str(data_format).startswith("NC")
    steps = (named.pop("strides", None), *given.values(), None)
    strides, dilations = (_spatial(each, rank, is_first) for each in steps[:2])
    others = ("padding", "num_groups", "layout")
    options = {k: named.pop(k) for k in others if k in named}
    if label == PADDED:
        options.setdefault("padding", "SAME")
    return ConvolutionGeometry(
        shape,
        strides=strides,
        dilations=dilations,
        data_format=data_format,
        name=named.get("name", "") or label,
        **options,
    )


def _spatial(steps: Any, rank: int, is_first: bool) -> Sequence[int] | int:
    """Return steps for the spatial axes: None was one, and they may be of full rank."""
    if steps is None:
        return 1
    if not isinstance(steps, tuple | list) or len(steps) != rank + 2:
        found: Sequence[int] | int = steps
        return found
    others = (*steps[:2],) if is_first else (steps[0], steps[-1])
    inner = steps[2:] if is_first else steps[1:-1]
    # Steps between cases or channels are refused, as steps of a wrong number are.
    return tuple(inner) if others == (1, 1) else tuple(steps)
