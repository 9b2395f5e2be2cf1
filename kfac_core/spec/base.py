"""`Spec`: the options that factors and blocks share, and how both sign their states."""

from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any, ClassVar, Literal, TypeVar

from kfac_core.errors import UnsupportedError
from kfac_core.spec.quiet import Quiet
from kfac_core.spec.signature import Signature, check_made_by, options_of, signature_for
from kfac_core.typing import Precision

S = TypeVar("S")

InverseDType = Literal["float64"]
"""Name of a dtype to compute inverses in."""


class _Label:
    """The label of a spec that is not signed yet; then it has one of its own.

    An attribute costs every verb less than a property, and a compiler can read it:
    `functools.cached_property` takes a lock before Python 3.12, which torch.compile
    cannot trace.
    """

    def __get__(self, spec: Any, owner: Any = None) -> str:
        """Return the name of a spec, or that of its class."""
        name = getattr(spec, "name", "")
        # What is no text is refused by its name, which needs a label.
        return (
            name if isinstance(name, str) and name else (owner or type(spec)).__name__
        )


@dataclass(frozen=True, kw_only=True)
class Spec(Quiet):
    """Abstract base of factors and blocks.

    Only specs with the signature of a state read it: specs of one class whose fields
    are equal, except for the `free_fields`. ``init_inverses`` brings a state along to a
    spec with other `served_fields`, which are then computed anew.

    Attributes:
        name: Name for messages; the name of the class if empty.
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
            always factorises, is faster. They need a factor that serves nothing but
            inverses and the power 1. Diagonal factors ignore the option.
        inverse_dtype: ``"float64"``: `update_inverses` computes in float64, and rounds
            what it derives to the dtype of the statistics; None: it computes in the
            dtype of the statistics.

    Example:
        >>> from kfac_core.fisher_blocks import FullyConnectedKFACBasicFB
        >>> spec: Spec = FullyConnectedKFACBasicFB(3, 2, name="head")
        >>> spec.label, spec == FullyConnectedKFACBasicFB(3, 2, name="head")  # a value
        ('head', True)
        >>> len({spec, FullyConnectedKFACBasicFB(3, 2, name="head")})  # it is hashable
        1
    """

    name: str = ""
    zero_debias: bool = True
    init_covariances_at_zero: bool = True
    precision: Precision = "highest"
    newton_steps: int = 0
    inverse_dtype: InverseDType | None = None
    _made_by: Signature = field(init=False, repr=False, compare=False)

    served_fields: ClassVar[frozenset[str]] = frozenset(
        {
            "matpowers",
            "cholesky",
            "cholesky_inverse",
            "eigendecomposition",
            "damping_type",
            "normalize_damping_power",
        }
    )
    """The fields that say what is computed from the statistics."""

    free_fields: ClassVar[frozenset[str]] = frozenset(
        {
            "name",
            "data_name",
            "precision",
            "newton_steps",
            "inverse_dtype",
            "init_covariances_at_zero",
            # These describe the form of the data, and the sample that is taken.
            "data_format",
            "dtype",
            "num_uses",
            "batch_first",
            "sub_sample_inputs",
            "sub_sample_patches",
            "inputs_fraction",
            "max_patches",
            "max_patches_per_dimension",
        }
    )
    """The fields that may differ between two specs that share a state."""

    calls_a_model: ClassVar[bool] = False

    has_factors: ClassVar[bool] = False
    """Whether factors sign their own states, which tells what the statistics are."""

    label: ClassVar[_Label] = _Label()
    """Name for messages."""

    @property
    def signature(self) -> Signature:
        """The signature of this spec's states; see `kfac_core.spec.signature`."""
        return self._made_by

    def sign(self) -> None:
        """Find the signature of this spec's states, once its fields are final."""
        spec: Any = self
        cls: Any = type(self)
        kind = cls.__qualname__
        if not self.has_factors:
            kind = f"{kind}({options_of(spec, _statistics_fields(cls))})"
        made_by = signature_for(kind, options_of(spec, self.served_fields))
        object.__setattr__(self, "label", self.label)
        object.__setattr__(self, "_made_by", made_by)

    def merge(self, state: S, *others: S) -> S:
        """Return the state of all that several states saw, such as those of shards.

        An average is a weighted sum and the sum of its weights, and both add up. So the
        union is exact, to rounding: states that saw a batch each, with its number of
        cases as ``ema_weight``, become that of one batch with all rows; and states of
        ``k`` updates with one decay become that of ``k`` updates with what all had at
        each. A state does not tell its decays: they have to be the same. What states
        saw in common counts once for each.

        Sums are taken from left to right. Nothing is computed from the union yet: call
        `update_inverses`. Only what corrects or fits says otherwise; see the class.

        Args:
            state: A state of this spec; left as it is.
            others: More of them, of the same library, device and dtype.

        Returns:
            The new state. Under a trace, where there is an error of values, it is
            `state` with ``ok`` False; otherwise ``ok`` is True.

        Raises:
            UnsupportedError: If there is no exact union: averages without debiasing
                each hold an initial value.
            StateError: If a state was made by another spec.
            DTypeError: If two states are of different dtypes.
            ShapeError: If the rows of a form of low rank do not fit.
            NotFiniteError: If a sum overflows.
        """
        states = (state, *others)
        for each in states:
            self._own(each)
        if not self.zero_debias:
            msg = (
                f"{self.label}: states of averages without debiasing do not merge: each"
                " holds an initial value, which would count once for each state; use"
                " zero_debias=True"
            )
            raise UnsupportedError(msg)
        union: S = self._union(states)
        return union

    def _union(self, states: tuple[Any, ...]) -> Any:
        """Return the union of states of this spec; see `merge`.

        Raises:
            NotImplementedError: If the subclass does not say how.
        """
        raise NotImplementedError

    def _signed(self) -> Signature:
        """Return a new signature object for a state.

        If it were the spec's own object, a compiler would see one object in two places
        of its arguments, and compile again for a state that comes out of a compiled
        function.
        """
        make: Any = type(self._made_by)
        own: Signature = make()
        return own

    def _own(self, state: S) -> S:
        """Return a state that was made by a spec of the same signature.

        Raises:
            StateError: If it was made by another spec.
        """
        if type(getattr(state, "made_by", None)) is not type(self._made_by):
            check_made_by(state, self._made_by, self.label)
        return state


@cache
def _statistics_fields(cls: Any) -> frozenset[str]:
    """Return the fields that say what the statistics are."""
    names = {f.name for f in fields(cls) if f.init}
    return frozenset(names - cls.served_fields - cls.free_fields)
