"""A batch in shards, at the places of named axes: `jax.shard_map`, `pmap`, `vmap`.

Each place folds its shard into the state, which is the same at all before, and the sums
of all are added: see `kfac_core.collectives.sharing`. Two things would be wrong in
silence. The derivative by what is the same at all places is a sum over them, where JAX
checks that (``check_vma``), so that derivatives are taken by what may differ. State,
parameters or a gradient that are not the same at all places give as many results.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from kfac_adapters.jax.named_axis import NamedAxis
from kfac_core import tree
from kfac_core.collectives.sharing import decayed, summed
from kfac_core.errors import ArgumentError
from kfac_core.estimator import EstimatorState, FisherEstimator
from kfac_core.linearization import Linearization
from kfac_core.registry import load_backend
from kfac_core.typing import Key, Scalar

AxisName = str | tuple[str, ...]
"""Name of an axis, or of several that a batch is sharded over."""


def names_of(axis_name: object, label: str) -> tuple[str, ...]:
    """Return the names of the axes; none of None.

    Raises:
        ArgumentError: If it is no name, and no tuple of names.
    """
    names = axis_name if isinstance(axis_name, tuple) else (axis_name,)
    if axis_name is None:
        return ()
    if not names or not all(isinstance(name, str) for name in names):
        msg = (
            f"{label}: axis_name is {axis_name!r}, expected the name of an axis, a"
            " tuple of names, or None"
        )
        raise ArgumentError(msg)
    return tuple(map(str, names))


def check_axes(names: tuple[str, ...]) -> None:
    """Check that the axes that are mapped over are those of the batch.

    Args:
        names: Names of the axes of the batch.

    Raises:
        ArgumentError: If there is another axis, or one of these is not there.
    """
    others = [name for name in _mapped_axes() if name not in names]
    if others:
        msg = (
            f"capture: within shard_map or pmap, over {others}, the statistics would"
            " be those of one place alone; name all axes that are mapped over, as"
            f" axis_name={(*names, *others)!r} of Curvature, kfac or Kfac, or give"
            " sharded arrays to a function under jax.jit, which takes the mean over all"
            " devices"
        )
        raise ArgumentError(msg)
    for name in names:
        try:
            NamedAxis(name).size  # noqa: B018
        except NameError as error:
            msg = (
                f"capture: axis_name has {name!r}, and no axis of that name is mapped"
                " over here; use it within jax.shard_map, jax.pmap or jax.vmap, and no"
                " axis_name for sharded arrays under jax.jit"
            )
            raise ArgumentError(msg) from error


def check_alike(arrays: Any, what: str, advice: str) -> None:
    """Check that arrays are the same at all places, as far as JAX knows.

    Args:
        arrays: A pytree.
        what: What they are, for the message.
        advice: What to do, for the message.

    Raises:
        ArgumentError: If one of them may differ. Without ``check_vma`` nobody knows.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(arrays):
        if found := _varying(leaf):
            msg = (
                f"capture: {what}{jax.tree_util.keystr(path)} may differ between the"
                f" places along {sorted(found)}, expected the same at all; {advice}"
            )
            raise ArgumentError(msg)


def differing(arrays: Any) -> Any:
    """Return arrays by which a derivative is that of one place, and no sum over all."""
    axes = _mapped_axes()
    if not axes:
        return arrays

    def cast(x: Any) -> Any:
        left = tuple(name for name in axes if name not in _varying(x))
        if not left:
            return x
        if hasattr(jax.lax, "pcast"):
            return jax.lax.pcast(x, left, to="varying")
        return jax.lax.pvary(x, left)  # before JAX 0.8

    return jax.tree.map(cast, arrays)


def folded(
    estimator: FisherEstimator,
    before: EstimatorState,
    linearization: Linearization,
    decay: Scalar,
    key: Key | None,
    names: tuple[str, ...],
    weight: Any = None,
    noise: Mapping[str, Any] | None = None,
) -> EstimatorState:
    """Return the state with the shards of all places folded in.

    Shards are of equal size, since all places run one program: each counts as its share
    of the batch. What one place refuses, none takes.

    Args:
        estimator: The estimator.
        before: The state, the same at all places.
        linearization: The function at the shard of this place.
        decay: What the weights of earlier batches are multiplied by.
        key: What targets are drawn from, for each place its own; None: nothing is.
        names: Names of the axes of the batch.
        weight: Weight of the batch; None: one. Or a mapping by the names of layers.
        noise: Random numbers in place of a key, for the cases of this place.

    Returns:
        The state, the same at all places.

    Raises:
        UnsupportedError: If the statistics of a block are no sums.
    """
    backend, axis = load_backend("jax"), NamedAxis(names)
    is_first = axis.rank == 0
    own_key = None if key is None else jax.random.fold_in(key, axis.rank)
    new = estimator.update_covs(
        differing(before),
        linearization,
        jnp.where(is_first, decay, 0.0),
        _share(weight, axis.size),
        key=own_key,
        noise=noise,
    )
    refused: Any = ~new.flag("cov_ok")
    ok = axis.all_reduce(refused.astype(jnp.int32)) == 0
    # The sum of these over all places is the state before.
    left = decayed(estimator, before, jnp.where(is_first, 1.0, 0.0))
    whole = summed(estimator, before, tree.where(backend, ok, new, left), axis)
    flagged = {
        name: own.with_flag("cov_ok", ok & ok) for name, own in whole.blocks.items()
    }
    return whole._replace(blocks=flagged)


def _share(weight: Any, size: int) -> Any:
    if isinstance(weight, Mapping):
        return {name: _share(own, size) for name, own in weight.items()}
    return (1.0 if weight is None else weight) / size


def _mapped_axes() -> tuple[str, ...]:
    """Return the axes that `jax.shard_map` and `jax.pmap` map over here."""
    mesh = jax.sharding.get_abstract_mesh()
    return tuple(getattr(mesh, "manual_axes", ()))


def _varying(x: Any) -> frozenset[str]:
    """Return the axes along which JAX knows that an array may differ."""
    kind: Any = jax.typeof(x)
    of_axes = getattr(kind, "manual_axis_type", None)
    found = getattr(kind, "vma", ()) if of_axes is None else of_axes.varying
    return frozenset(found or ())
