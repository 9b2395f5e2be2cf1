"""What a factor is asked to serve, and how it averages: the fields of every factor."""

from dataclasses import dataclass, field, replace
from numbers import Integral
from typing import Any, Literal, NamedTuple, Self

from kfac_core.errors import ArgumentError
from kfac_core.exponents import (
    as_damping_ids,
    as_exponent,
    as_powers,
    check_damping_id,
    shown,
)
from kfac_core.options import check_options
from kfac_core.signed import Signed
from kfac_core.typing import DampingId, Precision

DEFAULT_DAMPING_ID = "damping"
"""The damping id of whatever is registered without one."""

InverseDType = Literal["float64"]
"""Name of a dtype to compute inverses in."""


class Served(NamedTuple):
    """What a spec serves, found once since every call asks for it.

    Attributes:
        damping_ids: As `Registration.damping_ids`.
        stored_matpowers: As `Registration.stored_matpowers`.
        places: As `Registration.places`.
    """

    damping_ids: tuple[DampingId, ...]
    stored_matpowers: tuple[tuple[float, DampingId], ...]
    places: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Registration(Signed):
    """Options that all factors share, and the verbs that register more to serve.

    Two powers of one factor may be damped differently: each has a damping id, and
    `FisherFactor.update_inverses` takes a damping for each id.

    Attributes:
        name: Name for messages; the name of the class if empty.
        matpowers: Powers of the damped matrix to serve: exponents, or pairs of an
            exponent and a damping id.
        cholesky: Damping ids for which to serve the Cholesky factor.
        cholesky_inverse: Damping ids for which to serve the inverse Cholesky factor.
        eigendecomposition: Whether to keep the eigendecomposition.
        zero_debias: Whether the moving average is a true weighted mean. If not, the
            initial value counts as one sample (``tf.contrib.kfac`` before May 2018).
        init_covariances_at_zero: The initial value without debiasing: zero, or the
            identity.
        precision: Precision of the products that statistics are made of: ``"highest"``
            is full; with ``"default"`` it is what the library is set to, such as TF32
            on a GPU, or less. What `update_inverses` computes is in full precision.
        newton_steps: Number of Newton-Schulz steps that compute an inverse from the
            last one, from the second time on, where the result can be verified to be as
            good as a Cholesky factorisation's; elsewhere the factorisation is used. See
            `kfac_core.linalg.newton_schulz`. The steps are for accelerators, where
            products are fast and factorisations are slow; on a CPU the default 0, which
            always factorises, is faster. They need a spec that serves nothing but
            inverses and the power 1. Diagonal factors ignore the option.
        inverse_dtype: ``"float64"``: `update_inverses` computes in float64, and rounds
            what it derives to the dtype of the statistics; None: it computes in the
            dtype of the statistics.
    """

    matpowers: tuple[Any, ...] = ()
    cholesky: tuple[DampingId, ...] = ()
    cholesky_inverse: tuple[DampingId, ...] = ()
    eigendecomposition: bool = False
    zero_debias: bool = True
    init_covariances_at_zero: bool = True
    precision: Precision = "highest"
    newton_steps: int = 0
    inverse_dtype: InverseDType | None = None
    _found: Served = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Store sizes as integers, and powers as pairs of exponent and damping id.

        Raises:
            ArgumentError: If an option's value is unknown, or does not go with what is
                served.
        """
        check_options(self)
        powers = as_powers(self.matpowers, DEFAULT_DAMPING_ID, self.label)
        object.__setattr__(self, "matpowers", powers)
        self._write_ids("cholesky", "cholesky_inverse")
        object.__setattr__(self, "_found", self._find())
        self.sign()
        self._check_inverting()

    def _write_ids(self, *options: str) -> None:
        """Write damping ids as tuples."""
        for option in options:
            ids = as_damping_ids(getattr(self, option), option, self.label)
            object.__setattr__(self, option, ids)

    def _check_inverting(self) -> None:
        steps: object = self.newton_steps
        if isinstance(steps, bool) or not isinstance(steps, Integral) or int(steps) < 0:
            msg = (
                f"{self.label}: newton_steps is {shown(steps)}, expected an integer,"
                " not negative"
            )
            raise ArgumentError(msg)
        others = (*self.cholesky, *self.cholesky_inverse, *self._more_damping_ids())
        powers = {exp for exp, _ in self.stored_matpowers}
        if steps and (others or self.eigendecomposition or powers - {-1.0}):
            msg = (
                f"{self.label}: newton_steps is {steps}, but products give the inverse"
                f" alone, and no factorisation; served are {self.served}. Serve no"
                " power but -1 and 1 (no damping_type 'exact'), or leave newton_steps"
                " at 0"
            )
            raise ArgumentError(msg)

    @property
    def damping_ids(self) -> tuple[DampingId, ...]:
        """The distinct damping ids of all that is registered, in order."""
        return self._found.damping_ids

    def _more_damping_ids(self) -> tuple[DampingId, ...]:
        """Return the damping ids of what this kind of factor alone serves."""
        return ()

    @property
    def stored_matpowers(self) -> tuple[tuple[float, DampingId], ...]:
        """The registered powers that are stored: all but 1, which is fresh."""
        return self._found.stored_matpowers

    @property
    def places(self) -> tuple[int, ...]:
        """Number of arrays that each field of a state's ``derived`` holds."""
        return self._found.places

    def _find(self) -> Served:
        ids = [damping_id for _, damping_id in self.matpowers]
        others = (*self.cholesky, *self.cholesky_inverse, *self._more_damping_ids())
        distinct = tuple(dict.fromkeys([*ids, *others]))
        stored = tuple(power for power in self.matpowers if power[0] != 1)
        places = (
            len(distinct),
            len(stored),
            len(self.cholesky),
            len(self.cholesky_inverse),
            int(self.eigendecomposition),
        )
        return Served(distinct, stored, places)

    @property
    def served(self) -> str:
        """What is served, in words, for messages."""
        return (
            f"the powers {list(self.matpowers)}, cholesky {list(self.cholesky)},"
            f" cholesky_inverse {list(self.cholesky_inverse)}, eigendecomposition"
            f" {self.eigendecomposition}"
        )

    def register_matpower(
        self, exp: float, damping_id: DampingId = DEFAULT_DAMPING_ID
    ) -> Self:
        """Return a spec that serves ``(C + damping I)^exp`` too.

        Bring a state along with `init_inverses`.
        """
        check_damping_id(damping_id, "damping_id", self.label)
        power = (as_exponent(exp, self.label, "exp"), damping_id)
        return replace(self, matpowers=(*self.matpowers, power))

    def register_inverse(self, damping_id: DampingId = DEFAULT_DAMPING_ID) -> Self:
        """Return a spec that serves the damped inverse too."""
        return self.register_matpower(-1, damping_id)

    def register_cholesky(self, damping_id: DampingId = DEFAULT_DAMPING_ID) -> Self:
        """Return a spec that serves the damped lower Cholesky factor too."""
        return replace(self, cholesky=self._with(self.cholesky, damping_id))

    def register_cholesky_inverse(
        self, damping_id: DampingId = DEFAULT_DAMPING_ID
    ) -> Self:
        """Return a spec that serves the inverse of the Cholesky factor too."""
        ids = self._with(self.cholesky_inverse, damping_id)
        return replace(self, cholesky_inverse=ids)

    def _with(
        self, ids: tuple[DampingId, ...], damping_id: DampingId
    ) -> tuple[DampingId, ...]:
        """Return distinct ids, with one more."""
        check_damping_id(damping_id, "damping_id", self.label)
        return tuple(dict.fromkeys([*ids, damping_id]))
