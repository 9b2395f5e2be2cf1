"""What a factor is asked to serve, and how it averages: the fields of every factor."""

from dataclasses import dataclass, replace
from typing import Any, Self

from kfac_core.typing import DampingId

DEFAULT_DAMPING_ID = "damping"
"""The damping id of whatever is registered without one."""


@dataclass(frozen=True, kw_only=True)
class Registration:
    """Options that all factors share, and the verbs that register more to serve.

    Two powers of one factor may be damped differently: each goes by a damping id, and
    `FisherFactor.update_inverses` takes a damping for each id.

    Attributes:
        name: Name for messages; that of the class if empty.
        matpowers: Powers of the damped matrix to serve: exponents, or pairs of an
            exponent and a damping id.
        cholesky: Damping ids for which to serve the Cholesky factor.
        cholesky_inverse: Damping ids for which to serve its inverse.
        eigendecomposition: Whether to keep the eigendecomposition.
        zero_debias: Whether the moving average is a true weighted mean. If not, the
            initial value counts as one sample (the original before May 2018).
        init_covariances_at_zero: The initial value without debiasing: zero, or the
            identity.
    """

    name: str = ""
    matpowers: tuple[Any, ...] = ()
    cholesky: tuple[DampingId, ...] = ()
    cholesky_inverse: tuple[DampingId, ...] = ()
    eigendecomposition: bool = False
    zero_debias: bool = True
    init_covariances_at_zero: bool = True

    def __post_init__(self) -> None:
        """Write every power as a pair of an exponent and a damping id, once."""
        pairs = (
            (float(power[0]), power[1])
            if isinstance(power, tuple | list)
            else (float(power), DEFAULT_DAMPING_ID)
            for power in self.matpowers
        )
        object.__setattr__(self, "matpowers", tuple(dict.fromkeys(pairs)))

    @property
    def label(self) -> str:
        """Name for messages."""
        return self.name or type(self).__name__

    @property
    def damping_ids(self) -> tuple[DampingId, ...]:
        """The distinct damping ids of all that is registered, in order."""
        ids = [damping_id for _, damping_id in self.matpowers]
        others = (*self.cholesky, *self.cholesky_inverse, *self._more_damping_ids())
        return tuple(dict.fromkeys([*ids, *others]))

    def _more_damping_ids(self) -> tuple[DampingId, ...]:
        """Return the damping ids of what a kind of factor serves beyond the others."""
        return ()

    @property
    def stored_matpowers(self) -> tuple[tuple[float, DampingId], ...]:
        """The registered powers that are stored: all but the first, which is fresh."""
        return tuple(power for power in self.matpowers if power[0] != 1)

    @property
    def places(self) -> tuple[int, ...]:
        """Number of arrays that each field of a state's ``derived`` holds."""
        return (
            len(self.damping_ids),
            len(self.stored_matpowers),
            len(self.cholesky),
            len(self.cholesky_inverse),
            int(self.eigendecomposition),
        )

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
        return replace(self, matpowers=(*self.matpowers, (exp, damping_id)))

    def register_inverse(self, damping_id: DampingId = DEFAULT_DAMPING_ID) -> Self:
        """Return a spec that serves the damped inverse too."""
        return self.register_matpower(-1, damping_id)

    def register_cholesky(self, damping_id: DampingId = DEFAULT_DAMPING_ID) -> Self:
        """Return a spec that serves the damped lower Cholesky factor too."""
        ids = dict.fromkeys([*self.cholesky, damping_id])
        return replace(self, cholesky=tuple(ids))

    def register_cholesky_inverse(
        self, damping_id: DampingId = DEFAULT_DAMPING_ID
    ) -> Self:
        """Return a spec that serves the inverse of the Cholesky factor too."""
        ids = dict.fromkeys([*self.cholesky_inverse, damping_id])
        return replace(self, cholesky_inverse=tuple(ids))
