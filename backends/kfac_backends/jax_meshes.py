"""JAX: arrays whose sharding is part of their type, along axes that are *explicit*.

`jax.make_mesh` makes such axes. A product, a reshape or a scatter of an array that is
sharded along one is an error, unless it says how its result is sharded. A verb is many
of these, and knows that of its results alone. So its arguments get axes of the kind
*auto*, on the same devices, where the compiler places what lies between; and its
results get explicit axes again.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from kfac_core import tree
from kfac_core.typing import Array


def on_auto_axes(verb: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Return what a verb returns, computed with axes that the compiler shards.

    Args:
        verb: A function of trees of arrays.
        *args: Its arguments, arrays among them.
        **kwargs: Further ones.

    Returns:
        The result. What has the form of an argument, as a state or a vector has, is
        sharded as that; of anything else each device has a copy.

    Raises:
        TypeError: If two arrays are sharded over meshes of other axes.
    """
    given = [*args, *kwargs.values()]
    arrays = tree.leaves(_as_tuples(given))
    meshes = [x for x in map(explicit_mesh, arrays) if x is not None]
    if not meshes:
        return verb(*args, **kwargs)
    mesh = meshes[0]
    for other in meshes[1:]:
        if other is not mesh and dict(other.shape) != dict(mesh.shape):
            msg = (
                f"{getattr(args[0], 'label', 'arrays')}: sharded over two meshes in one"
                f" call, of the axes {dict(mesh.shape)} and {dict(other.shape)}. Put"
                " them on one mesh first, with jax.device_put; nothing is moved"
                " silently."
            )
            raise TypeError(msg)
    if any(isinstance(x, jax.core.Tracer) for x in arrays):
        change, mesh = jax.sharding.reshard, mesh.abstract_mesh
    else:
        change = jax.device_put
    auto = _with_auto_axes(mesh)

    def within(x: Any) -> Any:
        if explicit_mesh(x) is None:
            return x
        # The type of a traced array says nothing of axes that are auto.
        known = PartitionSpec() if change is jax.sharding.reshard else spec_of(x)
        return change(x, NamedSharding(auto, known))

    with jax.sharding.use_abstract_mesh(auto.abstract_mesh):
        found = verb(
            *_map(within, args), **{name: _map(within, x) for name, x in kwargs.items()}
        )
    specs = _specs_like(found, given)

    def back(x: Any) -> Any:
        of_mesh = _mesh_of(x)
        if of_mesh is None:
            # JAX may move it. A state lies on the mesh, all of it.
            if change is not jax.device_put or not isinstance(x, jax.Array):
                return x
        elif of_mesh.abstract_mesh != auto.abstract_mesh:
            return x
        return change(x, NamedSharding(mesh, specs.get(id(x), PartitionSpec())))

    return _map(back, found)


def explicit_mesh(x: Any) -> Any:
    """Return the mesh of an array that has explicit axes; None of any other."""
    mesh = _mesh_of(x)
    return None if mesh is None or not mesh.explicit_axes else mesh


def spec_of(x: Any) -> PartitionSpec:
    """Return along which axes of its mesh an array is sharded."""
    sharding = _sharding_of(x)
    named = isinstance(sharding, NamedSharding)
    return sharding.spec if named else PartitionSpec()


def product(a: Any, b: Any, precision: str | None) -> Array:
    """Return ``a @ b``, where axes are explicit sharded as `_of_product` says.

    Args:
        a: ``[..., n, k]``.
        b: ``[..., k, m]``.
        precision: As in `jax.numpy.matmul`.

    Returns:
        ``[..., n, m]``.
    """
    of_both = [m for m in map(explicit_mesh, (a, b)) if m is not None]
    sharding = _of_product(a, b, of_both[0]) if of_both else None
    found: Array = jnp.matmul(a, b, precision=precision, out_sharding=sharding)
    return found


def _of_product(a: Any, b: Any, mesh: Any) -> NamedSharding:
    """Return the sharding of the rows of `a` and the columns of `b`."""
    rank = max(a.ndim, b.ndim)
    rows, columns = (
        [None] * (rank - x.ndim) + [*spec_of(x)] + [None] * (x.ndim - len(spec_of(x)))
        for x in (a, b)
    )
    wanted = [*(rows if a.ndim == rank else columns)[:-2], rows[-2], columns[-1]]
    taken: set[Any] = set()
    for place, names in enumerate(wanted):
        each = {*names} if isinstance(names, tuple) else {names} - {None}
        if each & taken:
            wanted[place] = None
        taken |= each
    return NamedSharding(mesh, PartitionSpec(*wanted))


def _sharding_of(x: Any) -> Any:
    if isinstance(x, jax.core.Tracer):
        return jax.typeof(x).sharding
    return x.sharding if isinstance(x, jax.Array) else None


def _mesh_of(x: Any) -> Any:
    sharding = _sharding_of(x)
    return sharding.mesh if isinstance(sharding, NamedSharding) else None


def _with_auto_axes(mesh: Any) -> Any:
    """Return the mesh with axes that the compiler shards, in the place of explicit."""
    if isinstance(mesh, jax.sharding.AbstractMesh):
        return mesh.update_axis_types(dict.fromkeys(mesh.explicit_axes, AxisType.Auto))
    kinds = [
        AxisType.Auto if kind == AxisType.Explicit else kind for kind in mesh.axis_types
    ]
    return jax.sharding.Mesh(mesh.devices, mesh.axis_names, axis_types=tuple(kinds))


def _specs_like(found: Any, given: list[Any]) -> dict[int, PartitionSpec]:
    """Return the specs of the first argument that has the form of the result."""
    own = tree.leaves(_as_tuples(found))
    for argument in given:
        others = tree.leaves(_as_tuples(argument))
        if len(own) == len(others) and all(
            hasattr(y, "shape") and x.shape == y.shape
            for x, y in zip(own, others, strict=True)
            if hasattr(x, "shape")
        ):
            return {id(x): spec_of(y) for x, y in zip(own, others, strict=True)}
    return {}


def _map(function: Callable[[Any], Any], given: Any) -> Any:
    """Apply a function to each array of a tree, which may have lists."""
    if isinstance(given, list):
        return [_map(function, part) for part in given]
    return tree.map(
        lambda x: _map(function, x) if isinstance(x, list) else function(x), given
    )


def _as_tuples(given: Any) -> Any:
    """Return a tree with tuples in the place of lists."""
    if isinstance(given, list):
        return tuple(map(_as_tuples, given))
    return tree.map(lambda x: _as_tuples(x) if isinstance(x, list) else x, given)
