"""`Scan`: layers within `jax.lax.scan`.

A parameter that is scanned over is a stack: each slice is a layer of its own, and so is
each use of it. One that all iterations share is a layer that is used repeatedly.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp

from kfac_adapters.jax.alone import is_of
from kfac_adapters.jax.uses.base import Leaf, Output, Use
from kfac_adapters.jax.uses.elementwise import Shift


@dataclass(frozen=True)
class Scan:
    """One scan.

    Attributes:
        params: Parameters of the primitive.
        values: Its operands.
        tags: What is known of the arguments of its body.
        site: Its name.
        stacked: The parameters that are scanned over, by their leaves.
        escaped: Parameters that are used otherwise, and how.
    """

    params: Any
    values: Sequence[Any]
    tags: list[Any]
    site: str
    stacked: Mapping[int, Leaf]
    escaped: list[tuple[Any, str]]

    @classmethod
    def of(
        cls, params: Any, values: Sequence[Any], tags: Sequence[Any], site: str
    ) -> "Scan":
        """Return a scan of some operands, of which `tags` tells what is known."""
        fixed = params["num_consts"]
        first = fixed + params["num_carry"]
        own: list[Any] = [None if isinstance(t, Output) else t for t in tags]
        escaped = [(t, "the carry of scan") for t in own[fixed:first] if is_of(t)]
        own[fixed:first] = [None] * (first - fixed)
        stacked: dict[int, Leaf] = {}
        shared = {t.part.leaf for t in own[:fixed] if isinstance(t, Leaf)}
        for place in range(first, len(own)):
            leaf = own[place]
            if not isinstance(leaf, Leaf):
                if is_of(leaf):
                    escaped.append((leaf, "scan of what is made of it"))
                    own[place] = None
                continue
            # A slice of a slice is the same in each iteration of the scan around.
            is_plain = not (leaf.part.cut or any(jnp.ndim(x) for x in leaf.scales))
            slice_ = leaf.stacked() if is_plain else None
            twice = leaf.part.leaf in shared or leaf.part.leaf in stacked
            if slice_ is None or twice:
                escaped.append((leaf, "scan by parts, or twice"))
                slice_ = None
            else:
                stacked[leaf.part.leaf] = leaf
            own[place] = slice_
        return cls(params, values, own, site, stacked, escaped)

    def run(
        self, body: Callable[..., Any], zeros: Mapping[str, Any]
    ) -> tuple[list[Any], dict[str, Use], dict[str, Any]]:
        """Run the scan.

        Args:
            body: Takes the arguments of an iteration and its zeros; returns its outputs
                and what read it.
            zeros: All zeros that are to be added to outputs, by site.

        Returns:
            The outputs, the uses and the records of the scan, by site.
        """
        params = self.params
        fixed, carried, length = (
            params[name] for name in ("num_consts", "num_carry", "length")
        )
        consts, init = self.values[:fixed], self.values[fixed : fixed + carried]
        found: list[dict[str, Use]] = []

        def step(carry: Any, x: Any) -> Any:
            own, added = x
            outputs, reader = body([*consts, *carry, *own], added)
            found.append(reader.uses)
            return outputs[:carried], (outputs[carried:], reader.records)

        last, (ys, records) = jax.lax.scan(
            step,
            list(init),
            (list(self.values[fixed + carried :]), self._inner_zeros(zeros)),
            length=length,
            reverse=params["reverse"],
            unroll=params["unroll"],
        )
        uses: dict[str, Use] = {}
        data: dict[str, Any] = {}
        inner = found[-1]
        for site, use in inner.items():
            if use.leaf.leaf not in self.stacked:
                uses[site] = self._alone(use, inner).repeated(length)
                if site in records:
                    data[site] = records[site]
                continue
            for number in range(length):
                own = self._numbered(site, number)
                uses[own] = self._slice(use, inner, own, number)
                if site in records:
                    data[own] = records[site][number]
        return [*last, *ys], uses, data

    def _inner_zeros(self, zeros: Mapping[str, Any]) -> dict[str, Any]:
        """Return the zeros for the body, each with an axis of iterations."""
        inner = {k: v for k, v in zeros.items() if k.startswith(f"{self.site}/")}
        start = f"{self.site}[0]/"
        for name in [k for k in zeros if k.startswith(start)]:
            site = f"{self.site}/{name.removeprefix(start)}"
            numbers = range(self.params["length"])
            inner[site] = jnp.stack([zeros[self._numbered(site, i)] for i in numbers])
        return inner

    def _numbered(self, site: str, number: int) -> str:
        return site.replace(f"{self.site}/", f"{self.site}[{number}]/", 1)

    def _slice(self, use: Use, inner: Mapping[str, Use], site: str, number: int) -> Use:
        """Return a use of a stack as one of a slice of it."""
        use = self._alone(use, inner)
        new = replace(use, site=site)
        stack = self.stacked[use.leaf.leaf].stacked(number)
        if stack is not None and stack.part.cut:  # else a stack of one
            ((axis, start, stop),) = stack.part.cut
            rest = tuple(own for own in use.leaf.cut if own[0] != axis)
            cut = tuple(sorted([(axis, start, stop), *rest]))
            new = replace(new, leaf=use.leaf._replace(cut=cut))
        if isinstance(new, Shift) and new.after is not None:
            new = replace(new, after=self._numbered(new.after, number))
        return new

    def _alone(self, use: Use, inner: Mapping[str, Use]) -> Use:
        """Return a shift as no bias, if what it is added to is repeated otherwise."""
        if isinstance(use, Shift) and use.after is not None:
            before = inner[use.after]
            is_stacked = [own.leaf.leaf in self.stacked for own in (use, before)]
            if is_stacked[0] != is_stacked[1]:
                return replace(use, after=None, bias_form=None)
        return use
