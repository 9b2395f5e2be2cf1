"""One Kronecker product in place of a sum of several.

A parameter that unlike layers share has a block ``F = sum_k c_k kron(A_k, G_k)``, with
one term for each use. A sum of Kronecker products has no cheap inverse; one product
does. There are three ways to make one:

| name | ``A`` and ``G`` |
|---|---|
| ``marginal`` | the partial traces of ``F``, so that the trace is kept |
| ``nearest`` | the product that is nearest to ``F`` in the Frobenius norm |
| ``mean`` | the means of all ``A_k`` and of all ``G_k``, weighted by ``c_k`` |

Let ``f_k = c_k tr A_k tr G_k`` be the trace of a term, and ``p_k = f_k / sum f``. Then
``marginal`` is ``(sum f) kron(sum_k p_k A_k / tr A_k, sum_k p_k G_k / tr G_k)``. It is
the product to which ``F`` has the least relative entropy, and the first step, from the
identity, of the power iteration that finds ``nearest``. Both are exact where ``F`` is a
Kronecker product, as with one use, or where all uses agree on a side. Neither depends
on how a term's scale is divided between its sides. ``mean`` does depend on it, and
contains terms of one use's ``A_k`` and another use's ``G_l``: it is for uses that are
alike.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from kfac_core.backend import Backend
from kfac_core.typing import Array

Pooling = Literal["marginal", "nearest", "mean"]
"""Name of a way to make one Kronecker product of several."""

POOLINGS = ("marginal", "nearest", "mean")

ITERATIONS = 24
"""Steps of the power iteration for the nearest product."""


class Term(NamedTuple):
    """A term ``c kron(A, G) / w``.

    Attributes:
        uses: 0-d, ``c``.
        a: ``[n, n]``, or its diagonal ``[n]``.
        g: ``[m, m]``, or its diagonal ``[m]``.
        weight: 0-d, ``w``: the mean weight of rows, which both matrices contain as a
            factor. None means one; so does zero, where both matrices are zero.
    """

    uses: Array
    a: Array
    g: Array
    weight: Array | None = None


def pooled(backend: Backend, terms: Sequence[Term], kind: Pooling) -> Term:
    """Return one term in place of several.

    Args:
        backend: Backend of the arrays.
        terms: At least one; all matrices of a side, or all diagonals.
        kind: Name of the way.

    Returns:
        The term; its ``c`` is the sum of all, and it has a weight if the terms do.

    Example:
        >>> import numpy as np
        >>> from kfac_core.registry import backend_of
        >>> one, a, b = np.asarray(1.0), np.asarray([1.0, 0.0]), np.asarray([0.0, 3.0])
        >>> terms = [Term(one, a, a), Term(one, b, b)]
        >>> term = pooled(backend_of(one), terms, "marginal")
        >>> round(float(term.uses * np.sum(term.a) * np.sum(term.g)), 12)  # 1 + 9
        10.0
    """
    total = _summed([term.uses for term in terms])
    if kind == "mean":
        shares = [term.uses / total for term in terms]
        a = _mixed([term.a for term in terms], shares)
        g = _mixed([term.g for term in terms], shares)
        # The means of all rows that count, whatever term they are of.
        own = [term.weight for term in terms if term.weight is not None]
        mean = _or_one(backend, _mixed(own, shares)) if own else None
        return Term(total, a, g, mean)
    if terms[0].weight is not None:
        bare = [
            Term(term.uses / _or_one(backend, term.weight), term.a, term.g)
            for term in terms
            if term.weight is not None
        ]
        term = pooled(backend, bare, kind)
        return term._replace(uses=total, weight=total / term.uses)
    xp = backend.xp
    traces = [(_trace(backend, term.a), _trace(backend, term.g)) for term in terms]
    shares = _shares(backend, terms, traces)
    one = xp.ones_like(total)
    unit = [
        Term(
            term.uses,
            term.a / xp.where(of_a > 0, of_a, one),
            term.g / xp.where(of_g > 0, of_g, one),
        )
        for term, (of_a, of_g) in zip(terms, traces, strict=True)
    ]
    of_a, of_g = shares, shares
    if kind == "nearest":
        of_a, of_g = _nearest(backend, unit, shares)
    # The trace of the sum, as that of A times the mean trace of G.
    mean_g = _mixed([g for _, g in traces], shares)
    safe = xp.where(mean_g > 0, mean_g, one)
    mean_a = _summed(
        [
            term.uses / total * a * (g / safe)
            for term, (a, g) in zip(terms, traces, strict=True)
        ]
    )
    return Term(
        total,
        _mixed([term.a for term in unit], of_a) * mean_a,
        _mixed([term.g for term in unit], of_g) * mean_g,
    )


def _shares(
    backend: Backend, terms: Sequence[Term], traces: Sequence[tuple[Array, Array]]
) -> list[Array]:
    """Return the share of the trace that each term has; equal shares of zero.

    Logarithms are used, as the traces of two sides may differ by more than the range of
    a dtype.
    """
    xp = backend.xp
    one = xp.ones_like(terms[0].uses)
    logs, there = [], []
    for term, (a, g) in zip(terms, traces, strict=True):
        some = (a > 0) & (g > 0) & (term.uses > 0)
        log = sum((xp.log(xp.where(some, x, one)) for x in (term.uses, a, g)), one * 0)
        logs.append(log)
        there.append(some)
    any_there = there[0]
    for some in there[1:]:
        any_there = any_there | some
    low = one * float("-inf")
    largest = low
    for log, some in zip(logs, there, strict=True):
        largest = xp.maximum(largest, xp.where(some, log, low))
    largest = xp.where(any_there, largest, one * 0)
    parts = [
        xp.where(some, xp.exp(xp.where(some, log - largest, one * 0)), one * 0)
        for log, some in zip(logs, there, strict=True)
    ]
    parts = [xp.where(any_there, part, one) for part in parts]
    total = _summed(parts)
    return [part / total for part in parts]


def _nearest(
    backend: Backend, unit: Sequence[Term], shares: Sequence[Array]
) -> tuple[list[Array], list[Array]]:
    """Return the coefficients of the nearest product, for terms of unit trace.

    This is the power iteration of ``sum_k p_k vec(A_k) vec(G_k)'`` in the span of its
    terms. Their inner products are not negative, and so neither are the coefficients.
    """
    xp, places = backend.xp, range(len(unit))
    a = [[_inner(backend, unit[i].a, unit[j].a) for j in places] for i in places]
    g = [[_inner(backend, unit[i].g, unit[j].g) for j in places] for i in places]
    of_a, of_g = list(shares), list(shares)
    for _ in range(ITERATIONS):
        of_g = [shares[k] * _mixed(a[k], of_a) for k in places]
        of_a = [shares[k] * _mixed(g[k], of_g) for k in places]
        size = _summed(of_a)
        size = xp.where(size > 0, size, xp.ones_like(size))
        of_a = [part / size for part in of_a]
    square = _summed([of_a[k] * _mixed(a[k], of_a) for k in places])
    square = xp.where(square > 0, square, xp.ones_like(square))
    return of_a, [shares[k] * _mixed(a[k], of_a) / square for k in places]


def _or_one(backend: Backend, x: Array) -> Array:
    """Return `x`, or one where it is zero."""
    xp = backend.xp
    positive: Array = xp.where(x > 0, x, xp.ones_like(x))
    return positive


def _trace(backend: Backend, x: Array) -> Array:
    xp = backend.xp
    return xp.sum(x) if x.ndim == 1 else xp.linalg.trace(x)


def _inner(backend: Backend, x: Array, y: Array) -> Array:
    return backend.xp.sum(x * y)


def _mixed(parts: Sequence[Array], shares: Sequence[Array]) -> Array:
    return _summed([part * share for part, share in zip(parts, shares, strict=True)])


def _summed(parts: Sequence[Array]) -> Array:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total
