"""`AroundProductFB`: what the blocks around a Kronecker product share."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, TypeVar

from kfac_core.arguments.options import check_options
from kfac_core.arguments.powers import shown
from kfac_core.backend import Backend
from kfac_core.errors import ArgumentError, UnsupportedError
from kfac_core.fisher_blocks.base.block import FisherBlock
from kfac_core.fisher_blocks.base.state import BlockState, whole
from kfac_core.fisher_blocks.case_gradients.cases import check_gradients_known
from kfac_core.fisher_blocks.kronecker.product import KroneckerProductFB
from kfac_core.fisher_factors import Dense, Diagonal
from kfac_core.fisher_factors.base.messages import overflowed
from kfac_core.fisher_factors.forms.stack import Stack
from kfac_core.state import commit
from kfac_core.typing import Array, Params

S = TypeVar("S", bound=BlockState)

OF_THE_BLOCK = (
    "zero_debias",
    "init_covariances_at_zero",
    "precision",
    "newton_steps",
    "inverse_dtype",
)
"""The options of all blocks that are those of the Kronecker product."""


@dataclass(frozen=True)
class AroundProductFB(FisherBlock[S]):
    """Abstract base of the blocks that make another matrix of a Kronecker product.

    The block of a layer knows the layer's data and parameters, and has two factors; the
    block around it says what else is made of the gradients of cases, or that none are
    needed.

    Attributes:
        block: The block of the layer, such as a `FullyConnectedKFACBasicFB`.
    """

    sees_gradients: ClassVar[bool] = True
    """Whether it needs the gradients of cases."""

    block: KroneckerProductFB
    _product: KroneckerProductFB = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Take the options of the block, and make the product that computes.

        Raises:
            ArgumentError: If `block` is not a Kronecker product, or a factor of it
                cannot serve what this block does.
            UnsupportedError: If case gradients are not known for this kind of layer.
        """
        check_options(self)
        given: object = self.block
        if not isinstance(given, KroneckerProductFB):
            msg = (
                f"{self.label}: block is a {type(given).__name__}, expected a Kronecker"
                " product, such as a FullyConnectedKFACBasicFB"
            )
            raise ArgumentError(msg)
        if not self.name:
            object.__setattr__(self, "name", given.name)
        for option in OF_THE_BLOCK:
            self._take(option)
        if self.sees_gradients:
            check_gradients_known(given)
        bare = replace(
            given,
            name="",
            matpowers=(-1.0,),
            cholesky=False,
            cholesky_inverse=False,
        )
        object.__setattr__(self, "block", self._bare(bare))
        super().__post_init__()
        object.__setattr__(self, "weight_layout", bare.weight_layout)
        object.__setattr__(self, "_product", self._serving(self.block))

    def _bare(self, block: KroneckerProductFB) -> KroneckerProductFB:
        """Return the block with all options that do not matter as they are always."""
        return block

    def _serving(self, block: KroneckerProductFB) -> KroneckerProductFB:
        """Return the block that computes, by the name of this one."""
        return replace(block, name=self.label)

    def _serving_the_same(self, block: KroneckerProductFB) -> KroneckerProductFB:
        """Return the block that serves all that this one serves, by its name."""
        return replace(
            block,
            name=self.label,
            matpowers=self.matpowers,
            cholesky=self.cholesky,
            cholesky_inverse=self.cholesky_inverse,
        )

    def _take(self, option: str) -> None:
        """Take an option of the block as this one's own, where no other was given."""
        of_block, own = getattr(self.block, option), getattr(self, option)
        is_same = type(own) is type(of_block) and own == of_block
        if not is_same and own is not getattr(FisherBlock, option):
            msg = (
                f"{self.label}: {option} is {shown(own)}, and {of_block!r} in the"
                " block: give it to the block alone"
            )
            raise ArgumentError(msg)
        object.__setattr__(self, option, of_block)

    @property
    def needs_key(self) -> bool:
        """Whether `update_covs` draws random numbers, and takes a ``key`` for that."""
        return self._product.needs_key

    @property
    def count_cases(self) -> Callable[[Any], int] | None:
        """What counts the cases of inputs, where a block counts them in its own way."""
        return getattr(self._product, "count_cases", None)

    def to_tensors(self, backend: Backend, vector: Params) -> tuple[Array, ...]:
        """Return the parameters as a matrix; see `FisherBlock.to_tensors`."""
        return self._product.to_tensors(backend, vector)

    def from_tensors(
        self, backend: Backend, tensors: tuple[Array, ...], like: Params
    ) -> Params:
        """Return a vector in the form of `like`; see `FisherBlock.from_tensors`."""
        return self._product.from_tensors(backend, tensors, like)

    def _committed(
        self, backend: Backend, new: S, old: S, sums: tuple[Array, ...]
    ) -> S:
        """Return the new state if its sums over case gradients are finite.

        Raises:
            NotFiniteError: If they are not, outside of a trace.
        """
        ok = backend.is_finite(sums[0])
        for each in sums[1:]:
            ok = ok & backend.is_finite(each)

        def error() -> Exception:
            what = "squares of case gradients"
            return overflowed(backend, self.label, what, sums[0].dtype)

        fine = ok & new.flag("cov_ok")
        new = commit(backend, ok, new, old, error)
        return whole(backend, new.with_flag("cov_ok", fine), old, "cov_ok")


def check_dense_or_diagonal(block: KroneckerProductFB) -> None:
    """Check the forms of both sides of a product that is fitted to gradients.

    Raises:
        UnsupportedError: If a side is neither dense nor diagonal.
    """
    for factor in block._sides:
        form = factor.form
        if not isinstance(form, Dense | Diagonal) or isinstance(form, Stack):
            msg = (
                f"{factor.label}: a factor of the form {form!r} is not"
                " fitted to case gradients; leave it dense, or take a diagonal"
            )
            raise UnsupportedError(msg)
