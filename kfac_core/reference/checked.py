"""Checks of the arguments of a small network's layers, before each method.

A layer's own code is the mathematics alone: each method is wrapped when its class is
made, and checks its arguments first.
"""

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from numbers import Integral
from typing import Any, ClassVar

from kfac_core.arguments.arrays import backend_for, check_has_cases, check_shape
from kfac_core.errors import ArgumentError, DTypeError, ShapeError
from kfac_core.linalg.parameters import Shapes
from kfac_core.state import check_finite
from kfac_core.typing import Array

VERBS = (
    "init_from",
    "forward",
    "backward",
    "param_gradients",
    "case_gradients",
    "param_gradients_change",
    "backward_change",
    "push_forward",
    "multiply_derivative",
    "multiply_second_derivative",
)
OPTIONAL = ("dx", "dg")
"""Changes that may be None: zero."""


class Checked:
    """Base of the layers, whose methods check their arguments."""

    takes_ids: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Wrap the methods of the class."""
        super().__init_subclass__(**kwargs)
        for name in VERBS:
            member = vars(cls).get(name)
            if member and not getattr(member, "__isabstractmethod__", False):
                setattr(cls, name, _checked(member))

    @property
    def label(self) -> str:
        """Name for messages."""
        return type(self).__name__

    @property
    def param_shapes(self) -> Shapes:
        """Shapes of the parameters, ``(weights,)`` or ``(weights, bias)`` or none."""
        return ()

    @property
    def num_params(self) -> int:
        """Number of entries of all parameters."""
        return sum(math.prod(shape) for shape in self.param_shapes)

    def check_params(self, params: Any, argument: str = "params") -> None:
        """Check the number and the shapes of parameters, gradients or tangents.

        Args:
            params: A tuple of arrays.
            argument: Name of the argument, for the messages.

        Raises:
            BackendError: If a tensor is not an array.
            DTypeError: If a tensor does not hold real floating-point numbers.
            NotFiniteError: If a tensor holds NaN or infinity.
            ShapeError: If a shape differs from `param_shapes`.
        """
        shapes = self.param_shapes
        if not isinstance(params, tuple | list) or len(params) != len(shapes):
            number = f"{len(params)} " if isinstance(params, tuple | list) else ""
            msg = (
                f"{self.label}: {argument} are a {type(params).__name__} of {number}"
                f"parameters, expected {len(shapes)} of shapes {shapes}"
            )
            raise ShapeError(msg)
        for name, x, shape in zip(("weights", "bias"), params, shapes, strict=False):
            check_reals(x, f"{name} of {argument}", self.label)
            if tuple(x.shape) != tuple(shape):
                wanted = ", ".join(map(str, shape))
                msg = (
                    f"{self.label}: {name} has shape {tuple(x.shape)}, expected"
                    f" [{wanted}], in {argument}"
                )
                raise ShapeError(msg)

    def cached_inputs(self, cache: Any) -> Array:
        """Return the array of a cache that has the shape of the inputs."""
        backend_for(self.label, "cache", cache)
        inputs: Array = cache
        return inputs

    def output_shape(self, x: Array) -> tuple[int, ...]:
        """Return the shape of the outputs for inputs `x`; by default that of `x`."""
        return tuple(x.shape)

    def check_like_outputs(self, inputs: Array, g: Array, argument: str) -> None:
        """Check that an array has the shape of the outputs.

        Raises:
            ShapeError: If it has another shape.
        """
        check_shape(g, self.output_shape(inputs), argument, self.label)

    def check_arguments(self, given: Mapping[str, Any]) -> None:
        """Check the arguments of a method, by name."""
        arrays: dict[str, Any] = {}
        for name in ("params", "tangents"):
            if name in given:
                self.check_params(given[name], name)
                arrays |= {f"{name} {i}": x for i, x in enumerate(given[name])}
        for name in ("normals", "x", "g", "v", *OPTIONAL):
            x: Any = given.get(name)
            if name not in given or (x is None and name in OPTIONAL):
                continue
            called = "inputs" if name == "x" else name
            if name == "x" and self.takes_ids:
                backend_for(self.label, called, x)
            else:
                check_reals(x, called, self.label)
            check_has_cases(x, called, self.label)
            arrays[name] = x
        if "normals" in given:
            check_shape(given["normals"], (self.num_params,), "normals", self.label)
        if "cache" in given:
            inputs = self.cached_inputs(given["cache"])
            arrays["cache"] = inputs
            for name in ("dx", "v"):
                if name in arrays:
                    check_shape(arrays[name], tuple(inputs.shape), name, self.label)
            for name in ("g", "dg"):
                if name in arrays:
                    self.check_like_outputs(inputs, arrays[name], name)
        if "g" in arrays and "dg" in arrays:
            check_shape(arrays["dg"], tuple(arrays["g"].shape), "dg, as g", self.label)
        if arrays:
            backend_for(self.label, _listed(arrays), *arrays.values())


def check_reals(x: Any, argument: str, label: str) -> None:
    """Check that an array holds finite floating-point numbers, if it has values.

    Raises:
        BackendError: If it is not an array.
        DTypeError: If it does not hold real floating-point numbers.
        NotFiniteError: If it holds NaN or infinity.
    """
    backend = backend_for(label, argument, x)
    if not backend.isdtype(x.dtype, "real floating"):
        msg = f"{label}: {argument} has dtype {x.dtype}, expected real numbers"
        raise DTypeError(msg)
    check_finite(backend, x, argument, label)


def _listed(names: Iterable[str]) -> str:
    return ", ".join("inputs" if name == "x" else name for name in names)


def check_class(value: object, kind: type, argument: str, what: str) -> None:
    """Check that an argument is of a class.

    Args:
        value: The argument.
        kind: The class.
        argument: Name of the argument, for the message.
        what: Who takes it, for the message.

    Raises:
        ArgumentError: If it is of another class.
    """
    if not isinstance(value, kind):
        msg = (
            f"{what}: {argument} is a {type(value).__name__}, expected a"
            f" {kind.__name__}"
        )
        raise ArgumentError(msg)


def _checked(verb: Callable[..., Any]) -> Callable[..., Any]:
    """Return the method with a check of its arguments."""
    names = tuple(inspect.signature(verb).parameters)[1:]

    @wraps(verb)
    def checked_verb(self: Any, *args: Any, **kwargs: Any) -> Any:
        self.check_arguments(dict(zip(names, args, strict=False)) | kwargs)
        return verb(self, *args, **kwargs)

    return checked_verb


def check_layers(layers: object) -> None:
    """Check the layers of a network.

    Raises:
        ArgumentError: If `layers` is not a list of layers.
    """
    is_list = isinstance(layers, tuple | list)
    if not is_list or not all(isinstance(layer, Checked) for layer in layers):  # type: ignore[attr-defined]
        msg = f"Sequential: layers is {layers!r}, expected a tuple of layers"
        raise ArgumentError(msg)


def as_index(layer: object, count: int, what: str) -> int | None:
    """Return the index of a layer with parameters, or None for all.

    Args:
        layer: What the user gave.
        count: Number of layers with parameters.
        what: Who takes it, for the message.

    Returns:
        The index.

    Raises:
        ArgumentError: If there is no such layer.
    """
    if layer is None:
        return None
    is_integer = isinstance(layer, Integral) and not isinstance(layer, bool)
    if not is_integer or not -count <= int(layer) < count:  # type: ignore[call-overload]
        msg = (
            f"{what}: layer is {layer!r}, expected None or the index of one of the"
            f" {count} layers with parameters"
        )
        raise ArgumentError(msg)
    return int(layer)  # type: ignore[call-overload, no-any-return]
