"""Sites as users give them, and whether they are a first tower or a further one."""

from collections.abc import Iterable, Sequence
from typing import Any, Literal, TypeAlias

from kfac_core.arguments.sizes import as_size
from kfac_core.errors import ArgumentError

Names: TypeAlias = str | Sequence[str]
"""One name, or several."""

Sites: TypeAlias = Names | None
"""A site, the sites of a tower's uses in their order, or none."""

Tower: TypeAlias = tuple[str, ...]
"""The sites of the uses of one tower."""

Reuse: TypeAlias = bool | Literal["auto"]
"""Whether a layer or loss must be new, must exist, or may be either."""


def check_reuse(reuse: object, label: str) -> None:
    """Check the argument `reuse`.

    Raises:
        ArgumentError: If its value is not allowed.
    """
    text = reuse if isinstance(reuse, str) else ""
    if not isinstance(reuse, bool) and text != "auto":
        msg = f"{label}: reuse is {reuse!r}, expected False, True or 'auto'"
        raise ArgumentError(msg)


def as_names(given: object) -> tuple[Any, ...]:
    """Return one name or several as a tuple; an empty one for anything else."""
    if isinstance(given, str):
        return (given,)
    is_list = isinstance(given, Sequence) and not isinstance(given, bytes | bytearray)
    return tuple(given) if is_list else ()  # type: ignore[arg-type]


def check_name(name: object, what: str) -> None:
    """Check the name that a user gives to a layer or a loss.

    Raises:
        ArgumentError: If the name is neither None nor a string.
    """
    if name is not None and not isinstance(name, str):
        msg = f"{what}: name is {name!r}, expected a string, or None"
        raise ArgumentError(msg)


def as_sites(site: Any, label: str) -> Tower:
    """Return the sites of a tower; no sites for None.

    Raises:
        ArgumentError: If `site` is not a site or several, or a site comes twice.
    """
    if site is None:
        return ()
    sites = as_names(site)
    texts = all(isinstance(name, str) and name for name in sites)
    if not sites or not texts or len(set(sites)) != len(sites):
        msg = (
            f"{label}: site is {site!r}, expected the name of a site, or a tuple of the"
            " names of a tower's uses, each once"
        )
        raise ArgumentError(msg)
    return sites


def as_use(site: Any, label: str) -> Tower:
    """Return the tower of a layer that a case uses once.

    Raises:
        ArgumentError: If there are several sites.
    """
    if not isinstance(site, str):
        msg = (
            f"{label}: site is {site!r}, expected the name of one; a layer that a case"
            " uses several times is registered by a function whose name ends in _multi"
        )
        raise ArgumentError(msg)
    return as_sites(site, label)


def as_uses(site: Names, num_uses: int | None, label: str) -> tuple[Tower, int]:
    """Return the tower of a layer that a case uses several times, and their number.

    Raises:
        ArgumentError: If the number is unknown, or differs from that of the sites.
    """
    tower = as_sites(site, label)
    if num_uses is not None:
        num_uses = as_size(num_uses, "num_uses", label, optional=True)
    if not tower:
        msg = f"{label}: site is None, expected a site, or a tuple of those of all uses"
        raise ArgumentError(msg)
    if isinstance(site, str):
        if num_uses is None:
            msg = (
                f"{label}: {site!r} is one site for all uses of a case; say their"
                " number by num_uses, or give a tuple of their sites"
            )
            raise ArgumentError(msg)
        return tower, num_uses
    if num_uses not in {None, len(tower)}:
        msg = f"{label}: num_uses is {num_uses}, but there are {len(tower)} sites"
        raise ArgumentError(msg)
    return tower, len(tower)


def listed(names: Iterable[object]) -> str:
    """Return names for a message."""
    return ", ".join(map(repr, names)) or "(none)"
