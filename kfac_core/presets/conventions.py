"""The conventions of other libraries, as measured at the versions that are named."""

from collections.abc import Mapping
from fractions import Fraction

from kfac_core.arguments.powers import shown
from kfac_core.errors import ArgumentError
from kfac_core.presets.monomial import Monomial
from kfac_core.presets.scaling import Convention, Kind, Scaling

_m = Monomial  # powers of N, T, C and two


def _once(gradients: Monomial | None) -> Scaling:
    return Scaling(_m(-1), gradients)


def _mean(gradients: Monomial | None, block: Monomial | None = None) -> Scaling:
    """Return the scaling of a library whose ``A`` is a mean over positions."""
    return Scaling(_m(-1, -1), gradients, block or _m())


def _everywhere(gradients: Monomial | None) -> dict[Kind, Scaling]:
    """Return one gradient factor for all kinds, ``A`` being a mean over rows."""
    return {
        "linear": _once(gradients),
        "tokens": _mean(gradients),
        "images": _mean(gradients),
    }


_OURS: dict[Kind, Scaling] = {
    "linear": Scaling(_m(-1), _m(1), _m(t=-1)),  # T is one, or the mean weight
    "tokens": _mean(_m(1, -1), _m(t=1)),
    "images": _mean(_m(1, -1), _m(t=1)),
    "reduce": _once(_m(1)),
}
_SHARED: tuple[Kind, ...] = ("tokens", "images")
_HALF = Fraction(1, 2)

_ALL = (
    Convention(
        "kfac_core",
        "this library",
        _OURS,
        channels_first=False,
        outputs_first=False,
        damping="pi",
        per_scale=True,
    ),
    Convention(
        "kfac_core, forward-only",
        "this library, ForwardOnlyFB",
        {"linear": _once(None), **dict.fromkeys(_SHARED, _mean(None, _m(t=1)))},
        channels_first=False,
        outputs_first=False,
        damping="exact",
    ),
    Convention(
        "tf.contrib.kfac",
        "r1.10",
        {"linear": _once(_m(1)), "tokens": _OURS["tokens"], "images": _OURS["images"]},
        channels_first=False,
        outputs_first=False,
        damping="pi",
        per_scale=True,
    ),
    Convention(
        "KFC paper",
        "Grosse & Martens (2016)",
        {"linear": _once(_m(1)), "images": Scaling(_m(-1), _m(1, -1))},
        channels_first=False,
        damping="pi",
    ),
    Convention(
        "curvlinops",
        "3.0.1, mean loss",
        {**_everywhere(_m(1, c=1)), "reduce": _once(_m(1, c=1))},
        damping="constant",
    ),
    Convention(
        "curvlinops, sum",
        "3.0.1, sum loss",
        {**_everywhere(_m(2, c=2)), "reduce": _once(_m(2, c=2))},
        damping="constant",
    ),
    Convention(
        "curvlinops, type-2",
        "3.0.1, mean loss, exact curvature",
        {**_everywhere(_m(1)), "reduce": _once(_m(1))},
        damping="constant",
    ),
    Convention(
        "curvlinops, forward-only",
        "3.0.1",
        {**_everywhere(None), "reduce": _once(None)},
        damping="constant",
    ),
    Convention(
        "kfac-jax",
        "0.0.8, fisher_empirical",
        {
            "linear": _once(_m()),
            "tokens": Scaling(_m(-1), _m(), _m(t=-1)),
            "images": _mean(_m(t=-1), _m(t=1)),
        },
        channels_first=False,
        outputs_first=False,
        damping="pi",
        per_scale=True,
    ),
    Convention(
        "kfac-pytorch",
        "its repository, raw gradients",
        {
            "linear": _once(_m(-1)),
            "tokens": _mean(_m(-1, -1)),
            "images": Scaling(_m(-1, -3), _m(-1, -3)),
        },
        damping="exact",
    ),
    Convention(
        "alecwangcq",
        "KFAC-Pytorch, its repository",
        {"linear": _once(_m(1)), "images": Scaling(_m(-1, -2), _m(1, 1))},
        damping="exact",
    ),
    Convention(
        "lzhangbv",
        "kfac_pytorch, its repository",
        {
            "linear": _once(_m(1)),
            "images": Scaling(_m(-1, -2), _m(1, 1)),
            "reduce": _once(_m(1, -2)),  # of tokens: it averages gradients, too
        },
        damping="pi",
    ),
    Convention(
        "Thrandis",
        "EKFAC-pytorch, its repository",
        {"linear": _once(_m(1)), "images": _mean(_m(1, -1), _m(t=1))},
        damping="pi",
        per_scale=True,
    ),
    Convention(
        "nngeometry",
        "0.4, empirical",
        {"linear": _once(_m(1)), "images": Scaling(_m(-1), _m(1, -1))},
        damping="pi",
    ),
    Convention(
        "nngeometry, FIM",
        "0.4, FIM of a regression",
        {
            "linear": Scaling(_m(-1, c=_HALF), _m(1, c=-_HALF)),
            "images": Scaling(_m(-1, c=_HALF), _m(1, -1, -_HALF)),
        },
        damping="pi",
    ),
    Convention(
        "nngeometry, repository",
        "after 0.4, FIM, layers of tokens, of which 0.4 has none",
        {"tokens": Scaling(_m(-1, c=_HALF), _m(1, c=-_HALF))},
        damping="pi",
    ),
    Convention(
        "kronfluence, mean",
        "1.0.1, mean loss",
        {
            "linear": _once(_m(-1)),
            "tokens": _mean(_m(-1, -1)),
            "images": _mean(_m(-1, -1)),
        },
        damping="exact",
    ),
    Convention(
        "kronfluence",
        "1.0.1, sum loss",
        {
            "linear": _once(_m(1, c=2)),
            "tokens": _mean(_m(1, -1, 2)),
            "images": _mean(_m(1, -1, 2)),
        },
        damping="exact",
    ),
    Convention("dattri", "0.3.0", {"linear": _once(_m(1))}, damping="exact"),
    Convention("singd", '0.0.5, "batch"', _everywhere(_m(1))),
    Convention(
        "singd, sequence",
        '0.0.5, "batch+sequence"',
        {
            "linear": _once(_m(1)),
            "tokens": _mean(_m(1, 1)),
            "images": _mean(_m(1, 1)),
        },
    ),
    Convention("singd, none", "0.0.5, None", _everywhere(_m())),
    Convention(
        "asdl",
        "asdfghjkl 0.1a5",
        {
            "linear": _once(_m(1, c=2)),
            "tokens": _once(_m(1, c=2)),
            "images": _mean(_m(1, c=2)),
        },
        bias="own",
        damping="pi",
    ),
    Convention(
        "laplace-torch",
        "0.3, CurvlinopsEF",
        {
            "linear": Scaling(_m(-1, two=-_HALF), _m(2, c=2, two=-_HALF)),
            "tokens": Scaling(_m(-1, -1, two=-_HALF), _m(2, c=2, two=-_HALF)),
            "images": Scaling(_m(-1, -1, two=-_HALF), _m(2, c=2, two=-_HALF)),
        },
        bias="own",
        damping="exact",
    ),
    Convention(
        "laplace-torch, GGN",
        "0.3, CurvlinopsGGN, its default",
        {
            "linear": Scaling(_m(-1, two=-_HALF), _m(2, two=_HALF)),
            "tokens": Scaling(_m(-1, -1, two=-_HALF), _m(2, two=_HALF)),
            "images": Scaling(_m(-1, -1, two=-_HALF), _m(2, two=_HALF)),
        },
        bias="own",
        damping="exact",
    ),
    Convention(
        "laplace-torch, asdl",
        "0.3, AsdlEF",
        {"tokens": Scaling(_m(-1, two=-_HALF), _m(2, c=2, two=-_HALF))},
        bias="own",
        damping="exact",
    ),
    Convention(
        "backpack",
        "1.7.1, KFLR",
        {"linear": _once(_m(1)), "images": _once(_m(1))},
        bias="own",
    ),
    Convention(
        "mlx-kfac",
        "0.4.0, mean loss",
        {
            "linear": _once(_m(1)),
            "tokens": _mean(_m(1, -1), _m(t=1)),
            "images": _mean(_m(1, -1), _m(t=1)),
        },
        channels_first=False,
        damping="constant",
        per_scale=True,
    ),
    Convention(
        "mlx-kfac, sum",
        "0.4.0, its default, given a mean loss",
        {
            "linear": _once(_m(-1)),
            "tokens": _mean(_m(-1, -1), _m(t=1)),
            "images": _mean(_m(-1, -1), _m(t=1)),
        },
        channels_first=False,
        damping="constant",
        per_scale=True,
    ),
    Convention(
        "approxngd",
        "0.1.1, mean loss",
        {
            "linear": _once(_m(1)),
            "tokens": _mean(_m(1, -1)),
            "images": _mean(_m(-1, -1), _m(t=1)),
        },
        damping="pi",
        per_scale=True,
    ),
)

CONVENTIONS: Mapping[str, Convention] = {each.name: each for each in _ALL}
"""The conventions by name."""


def convention(name: object) -> Convention:
    """Return a convention by its name.

    Raises:
        ArgumentError: If there is none of this name.

    Example:
        >>> str(convention("curvlinops").scalings["images"].gradients)
        'N C'
    """
    if not isinstance(name, str) or name not in CONVENTIONS:
        msg = (
            f"presets: the convention is {shown(name)}, expected one of"
            f" {', '.join(map(repr, CONVENTIONS))}"
        )
        raise ArgumentError(msg)
    return CONVENTIONS[name]
