"""The rows of the tables of names in ``tf.contrib.kfac``, and how they are printed."""

import inspect
import pkgutil
from collections.abc import Mapping
from itertools import groupby
from operator import attrgetter, itemgetter
from types import ModuleType
from typing import Any, NamedTuple

import kfac_core


class Name(NamedTuple):
    """What a name of ``tf.contrib.kfac`` becomes in the functional core.

    Attributes:
        core: A method, ``method(argument)``, a property or field of the class, or an
            argument of the function; with dots a name below `kfac_core`. Empty if
            nothing takes its place, which `note` then explains.
        note: What is different.
    """

    core: str
    note: str = ""


class Original(NamedTuple):
    """A class or a function of ``tf.contrib.kfac``.

    Attributes:
        name: Its name.
        release: The release whose manual documents it, or where its source is.
        arguments: Arguments of its constructor, or of the function.
        members: Its methods and properties.
        core: What is here instead, as a dotted name below `kfac_core`; empty: what has
            the same name.
        note: What is different.
    """

    name: str
    release: str
    arguments: Mapping[str, Name] = {}
    members: Mapping[str, Name] = {}
    core: str = ""
    note: str = ""

    @property
    def target(self) -> Any:
        """The class or function that is here instead."""
        return meant(self.core or self.name)


def of_geometry(**names: str) -> dict[str, Name]:
    """Return names that became fields of a convolution's geometry."""
    return {
        name: Name(f"ConvolutionGeometry.{field}", "of the field `geometry`")
        for name, field in names.items()
    }


GEOMETRY = of_geometry(
    padding="padding",
    strides="strides",
    dilation_rate="dilations",
    data_format="data_format",
)
"""The names of most convolutions."""

PATCH_FUNCTION = {
    "extract_patches_fn": Name(
        "contrib.patch_functions.geometry_for(extract_patches_fn)",
        "the core takes spatial strides alone",
    )
}


def same(*names: str) -> dict[str, Name]:
    """Return names that are the same here."""
    return {name: Name(name) for name in names}


def meant(name: str) -> Any:
    """Return what a name means: of a block, a factor, a loss, or below `kfac_core`."""
    first = name.partition(".")[0]
    for module in (kfac_core.blocks, kfac_core.factors, kfac_core.losses):
        if first in module.__all__:
            return attrgetter(name)(module)
    return pkgutil.resolve_name(f"kfac_core.{name}")


def resolve(owner: Any, name: str) -> Any:
    """Return the method, property, argument or field that `Name.core` means.

    Raises:
        AttributeError: If there is no such member.
        KeyError: If there is no such argument.
    """
    path, _, argument = name.removesuffix(")").partition("(")
    holder, _, member = path.rpartition(".")
    if owner is kfac_core and not holder:
        return meant(member)
    if holder:
        owner = meant(holder)
    if not isinstance(owner, type | ModuleType):
        return inspect.signature(owner).parameters[member]
    fields = getattr(owner, "__dataclass_fields__", {})
    found = fields.get(member) or getattr(owner, member)
    return inspect.signature(found).parameters[argument] if argument else found


def table(first: str, rows: list[str]) -> str:
    """Return a table of three columns, whose second is the functional core's."""
    return "\n".join([f"| {first} | functional core | |", "|---|---|---|", *rows])


def row(original: str, name: Name) -> str:
    """Return the row of a name."""
    core = f"`{name.core}`" if name.core else ""
    return f"| {original} | {core} | {name.note} |"


def rows_of(names: Mapping[str, Name]) -> list[str]:
    """Return a row for each name."""
    return [row(f"`{original}`", name) for original, name in names.items()]


def brief_rows_of(names: Mapping[str, Name]) -> list[str]:
    """Return a row for all names that are the same here, then one for each other.

    Neighbours that become one thing share a row.
    """
    kept = [
        f"`{original}`" for original, name in names.items() if name == Name(original)
    ]
    others = (
        (original, name) for original, name in names.items() if name != Name(original)
    )
    rows = [f"| {', '.join(kept)} | the same | |"] if kept else []
    for name, group in groupby(others, key=itemgetter(1)):
        rows.append(row(", ".join(f"`{original}`" for original, _ in group), name))
    return rows
