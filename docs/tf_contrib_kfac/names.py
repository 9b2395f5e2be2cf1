"""Every name of ``tf.contrib.kfac``, and what it is called here.

Declared once, in the modules beside this one:
`docs/from_tf_contrib_kfac.md` prints the tables, ``tests/docs`` checks that no
documented name is missing and that every name here exists. In a terminal:
``python -m tf_contrib_kfac.names`` in ``docs``.
"""

from collections.abc import Iterable

from tf_contrib_kfac.blocks import BLOCK_MEMBERS, BLOCKS
from tf_contrib_kfac.collection import COLLECTION, LAYER_FUNCTIONS, LOSS_FUNCTIONS
from tf_contrib_kfac.factors import FACTOR_MEMBERS, FACTORS, SERIES_MEMBERS
from tf_contrib_kfac.losses import LOSS_MEMBERS, LOSSES
from tf_contrib_kfac.others import ABSENT, CONSTANTS, HELPERS
from tf_contrib_kfac.tables import Name, Original, brief_rows_of, rows_of, table
from tf_contrib_kfac.training import ESTIMATOR, OPTIMIZER, PERIODIC, PRODUCTS, TRAINING

MEMBERS = {
    "fisher_factors": {**FACTOR_MEMBERS, **SERIES_MEMBERS},
    "fisher_blocks": BLOCK_MEMBERS,
    "loss_functions": LOSS_MEMBERS,
}
"""For each module of `kfac_core.contrib` the members of its classes."""

CLASSES = {
    "fisher_factors": FACTORS,
    "fisher_blocks": BLOCKS,
    "loss_functions": LOSSES,
}
"""For each module of `kfac_core.contrib` its classes."""

CORE_ALONE = (COLLECTION, *LAYER_FUNCTIONS, *LOSS_FUNCTIONS, *TRAINING)
"""What is in the functional core alone."""


def constructors() -> str:
    """Return the table of factors and blocks, and their constructors' arguments."""
    return arguments((*FACTORS, *BLOCKS))


def members(module: str) -> str:
    """Return the table of the members of the classes of a module."""
    return table("method or property", brief_rows_of(MEMBERS[module]))


def losses() -> str:
    """Return the table of losses, and their constructors' arguments."""
    return arguments(LOSSES)


def collection() -> str:
    """Return the table of the members of a collection but those that register."""
    return _with_members(COLLECTION)


def registrations() -> str:
    """Return the table of the functions that register layers and losses."""
    return arguments((*LAYER_FUNCTIONS, *LOSS_FUNCTIONS), "function and arguments")


def estimator() -> str:
    """Return the table of the estimator."""
    return _with_members(ESTIMATOR)


def products() -> str:
    """Return the table of the exact products."""
    return _with_members(PRODUCTS)


def optimizers() -> str:
    """Return the table of the optimisers' options, then their members."""
    return "\n\n".join([_with_members(OPTIMIZER), _with_members(PERIODIC)])


def constants() -> str:
    """Return the table of the global constants of ``tf.contrib.kfac``."""
    return table("constant", rows_of(CONSTANTS))


def helpers() -> str:
    """Return the table of functions and helpers."""
    return table("function or class", rows_of(HELPERS))


def absent() -> str:
    """Return the list of what has no counterpart, and why."""
    items = [
        f"- {group.reason} ({', '.join(f'`{name}`' for name in group.names)})"
        for group in ABSENT
    ]
    return "\n".join(items)


def arguments(originals: Iterable[Original], first: str = "class and arguments") -> str:
    """Return the table of classes or functions and their arguments."""
    rows = []
    for original in originals:
        rows += [_heading(original), *brief_rows_of(original.arguments)]
    return table(first, rows)


def _with_members(original: Original) -> str:
    """Return the table of a class's arguments, then of its members."""
    rows = [_heading(original), *brief_rows_of(original.arguments)]
    rows += ["| *methods and properties* | | |", *brief_rows_of(original.members)]
    return table("arguments, then members", rows)


def _heading(original: Original) -> str:
    other = original.core.rpartition(".")[2] not in {"", original.name}
    core = f"`{original.core}`" if other else ""
    return f"| **{original.name}** ({original.release}) | {core} | {original.note} |"


def everything() -> str:
    """Return all tables."""
    parts = [
        constructors(),
        *map(members, MEMBERS),
        losses(),
        collection(),
        registrations(),
        estimator(),
        products(),
        optimizers(),
        constants(),
        helpers(),
        absent(),
    ]
    return "\n\n".join(parts)


__all__ = ["CLASSES", "CORE_ALONE", "MEMBERS", "Name", "Original"]


if __name__ == "__main__":
    print(everything())
