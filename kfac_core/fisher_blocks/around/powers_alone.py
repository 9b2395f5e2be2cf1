"""`PowersAloneFB`: a block around a product that serves powers, and no triangles."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import TypeVar

from kfac_core.arguments.powers import as_exponent, is_among
from kfac_core.arguments.sizes import as_flag
from kfac_core.fisher_blocks.around.base import AroundProductFB
from kfac_core.fisher_blocks.base.served import check_served
from kfac_core.fisher_blocks.base.state import BlockState
from kfac_core.typing import Params

S = TypeVar("S", bound=BlockState)


@dataclass(frozen=True)
class PowersAloneFB(AroundProductFB[S]):
    """Abstract base of the blocks whose root is symmetric.

    The power 1/2 is a root ``S`` with ``S S' = F + damping I``, as a Cholesky factor
    is, and takes its place.
    """

    def multiply_matpower(self, state: S, vector: Params, exp: float) -> Params:
        """Return a power of the damped block times `vector`; see `FisherBlock`."""
        exp = as_exponent(exp, self.label, "exp")
        check_served(self, is_among(exp, (1.0, *self.matpowers)), f"matpower {exp:g}")
        return self._multiply(state, vector, exp)

    def multiply_cholesky(
        self, state: S, vector: Params, transpose: bool = False
    ) -> Params:
        """Return the power 1/2 times `vector`, which is its own transpose."""
        as_flag(transpose, "transpose", self.label)
        check_served(self, self.cholesky, "cholesky")
        return self._multiply(state, vector, 0.5)

    def multiply_cholesky_inverse(
        self, state: S, vector: Params, transpose: bool = False
    ) -> Params:
        """Return the power -1/2 times `vector`, which is its own transpose."""
        as_flag(transpose, "transpose", self.label)
        check_served(self, self.cholesky_inverse, "cholesky_inverse")
        return self._multiply(state, vector, -0.5)

    @abstractmethod
    def _multiply(self, state: S, vector: Params, exp: float) -> Params:
        """Return a power of the damped block times `vector`."""
