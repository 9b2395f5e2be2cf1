"""`KfacOptions`: the options of a `KfacOptimizer`, and which of them go together."""

import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from numbers import Integral, Rational, Real
from typing import Any, Literal, get_args

from kfac_core.arguments.powers import shown
from kfac_core.arguments.sizes import as_flag
from kfac_core.errors import ArgumentError
from kfac_core.estimator import EstimationMode
from kfac_core.spec.quiet import Quiet
from kfac_core.spec.signature import Signature, signature_for
from kfac_core.typing import Array

MomentumType = Literal["regular", "adam", "qmodel", "qmodel_fixedmu"]
"""Name of a way to make an update from a gradient and the previous update."""

MOMENTUM_TYPES: tuple[MomentumType, ...] = get_args(MomentumType)

PredictedChange = Literal["exact", "blocks"]
"""Name of a way to predict the change of the loss; see `KfacOptions`."""

BatchWeights = Literal["cases", "equally"]
"""Name of a way to weigh batches in the averages of statistics."""


@dataclass(frozen=True, kw_only=True)
class KfacOptions(Quiet):
    """Options of a `KfacOptimizer`, with the names and defaults of ``tf.contrib.kfac``.

    Let ``F`` be the damped blocks, ``g`` the gradient of the mean loss, and ``v`` the
    velocity, which is zero at first. An update is ``params -= learning_rate * step``:

    | `momentum_type` | velocity and step |
    |---|---|
    | ``regular`` | ``v = momentum v + inv(F) g``, the step is ``v`` |
    | ``adam`` | ``v = momentum v + g``, the step is ``inv(F) v``; no second moments |
    | ``qmodel`` | ``v = mu v - alpha inv(F) g``, the step is ``v`` |
    | ``qmodel_fixedmu`` | as for ``qmodel``, ``mu`` being `momentum` |

    Here ``(alpha, mu)`` minimise the quadratic model with the exact Fisher of the batch
    (Martens & Grosse, 2015, section 7).

    Attributes:
        learning_rate: Factor of the step; None with ``qmodel`` and ``qmodel_fixedmu``,
            which find the length of the step themselves.
        damping: Added to the Fisher, times the identity; if it is adapted, its initial
            value. A number, or a mapping from the name of each layer to a number (kept
            as a tuple of pairs). With a mapping, the quadratic model penalises each
            parameter by the damping of its layer, and an adaptation multiplies all
            dampings by one number.
        momentum: A number in [0, 1]; None: 0.9. With ``qmodel``, which finds its
            momentum itself, it must be None.
        momentum_type: A name from the table, in capitals or not.
        cov_ema_decay: What the weight of earlier statistics is multiplied by at each
            step, and so `cov_update_every` times between two updates.
        weigh_batches: ``"cases"``: a batch counts in the statistics by its number of
            cases, relative to the first batch, so that a short last batch counts
            little. ``"equally"``: all batches count alike. Blocks without debiasing
            give any batch the weight ``1 - decay``.
        estimation_mode: As in `kfac_core.estimator.FisherEstimator`.
        num_samples: As in `kfac_core.estimator.FisherEstimator`.
        statistics_share: As in `kfac_core.estimator.FisherEstimator`.
        structure: ``"block_diagonal"``; or ``"block_tridiagonal"``, of a chain of
            layers: see `kfac_core.estimator.BlockTridiagonalEstimator`.
        cov_update_every: Steps between updates of the statistics.
        invert_every: Steps between updates of the inverses.
        inverse_tolerance: Largest `kfac_core.fisher_blocks.FisherBlock.inverse_error`,
            such as 0.1, of a layer that keeps its inverses when an update is due; None:
            all inverses are computed anew.
        stagger_inverses: Whether layers take turns within the `invert_every` steps, so
            that no step has all the work. At the first step, all inverses are computed.
            The argument ``update_inverses`` of `KfacOptimizer.step` still updates all
            layers or none.
        num_burnin_steps: Number of calls of `KfacOptimizer.step` at the start that
            average statistics, all with equal weight, and leave the parameters as they
            are.
        norm_constraint: Largest ``learning_rate^2 g' inv(F) g`` of a step (Ba et al.,
            2017, section 5); None: no limit. Only for ``regular`` and ``adam``.
        weight_decay_coeff: This times the parameters is added to the step, without
            preconditioning and without velocity (Zhang et al., 2019).
        qmodel_update_rescale: What the update of the ``qmodel`` types is multiplied by;
            None: 1.
        precon_damping_mult: What the damping of the blocks is multiplied by. The
            damping of the quadratic model is not.
        adapt_damping: Whether to adapt the damping by the Levenberg-Marquardt rule,
            from ``rho``, the change of the loss divided by the predicted change.
        damping_adaptation_interval: Steps between adaptations; best a multiple of
            `invert_every`, so that the inverses of the tested step have the current
            damping.
        damping_adaptation_decay: An adaptation multiplies or divides the damping by
            this number to the power of the interval.
        damping_decrease_rho_threshold: ``rho`` above which the damping decreases.
        damping_increase_rho_threshold: ``rho`` below which it increases.
        min_damping: Below which an adaptation does not take it, nor a step is given
            it; to that of an adaptation comes `l2_reg` on top.
        max_damping: Above which an adaptation does not take it. With the default, a
            step is 1e-8 of the gradient, which parameters of size one do not notice in
            float32: a larger damping could not be told from it.
        update_damping_immediately: Whether to evaluate the loss anew at the end of a
            step; if not, the start of the next step does, on the batch given as
            ``prev_batch``.
        l2_reg: The coefficient of ``|params|^2 / 2`` in the caller's own loss, if the
            caller gives gradient and loss to `KfacOptimizer.step`. It enters the
            predicted change and the smallest damping.
        predicted_change: ``"exact"``: the change is predicted for the update taken, by
            the exact Fisher of the batch. ``"blocks"``: as in ``tf.contrib.kfac``,
            ``regular`` and ``adam`` predict it by the damped blocks, which takes no
            further pass through the model; ``regular`` removes the damping as if it
            were a multiple of the identity, and ``adam`` keeps it.
        include_damping_in_qmodel_change: Whether the predicted change contains the
            damping as a penalty.
        loss_fn: The mean loss as a function of parameters and batch, for adaptation;
            None: the mean of the registered losses.

    Example:
        >>> KfacOptions(momentum_type="QModel", damping=1e-3).momentum_type
        'qmodel'
    """

    learning_rate: float | None = None
    damping: float | Mapping[str, float] | tuple[tuple[str, float], ...]
    momentum: float | None = None
    momentum_type: MomentumType = "adam"
    cov_ema_decay: float = 0.95
    weigh_batches: BatchWeights = "cases"
    estimation_mode: EstimationMode = "gradients"
    num_samples: int = 1
    statistics_share: float = 1.0
    structure: Literal["block_diagonal", "block_tridiagonal"] = "block_diagonal"
    cov_update_every: int = 1
    invert_every: int = 5
    inverse_tolerance: float | None = None
    stagger_inverses: bool = False
    num_burnin_steps: int = 0
    norm_constraint: float | None = None
    weight_decay_coeff: float = 0.0
    qmodel_update_rescale: float | None = None
    precon_damping_mult: float = 1.0
    adapt_damping: bool = False
    damping_adaptation_interval: int = 5
    damping_adaptation_decay: float = 0.95
    damping_decrease_rho_threshold: float = 0.75
    damping_increase_rho_threshold: float = 0.25
    min_damping: float = 1e-8
    max_damping: float = 1e8
    update_damping_immediately: bool = True
    l2_reg: float = 0.0
    predicted_change: PredictedChange = "exact"
    include_damping_in_qmodel_change: bool = False
    loss_fn: Callable[[Any, Any], Array] | None = None
    _made_by: Signature = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check each option, and what goes together.

        Raises:
            ArgumentError: If one is out of range, or does not go with another.
        """
        word: Any = self.momentum_type
        known = isinstance(word, str) and word.lower() in MOMENTUM_TYPES
        _require(
            known, f"momentum_type is {word!r}", f"one of {', '.join(MOMENTUM_TYPES)}"
        )
        object.__setattr__(self, "momentum_type", word.lower())
        # Now: no compiler can trace how a signature is found.
        kind = f"{LABEL}(momentum_type={self.momentum_type!r})"
        object.__setattr__(self, "_made_by", signature_for(kind, ""))
        if isinstance(self.damping, Mapping):
            # A tuple can be hashed; in sorted order, equal mappings are equal tuples.
            pairs = tuple(sorted(self.damping.items(), key=lambda pair: str(pair[0])))
            object.__setattr__(self, "damping", pairs)
        self._check_choice("weigh_batches", ("cases", "equally"))
        self._check_choice("structure", ("block_diagonal", "block_tridiagonal"))
        self._check_choice("predicted_change", ("exact", "blocks"))
        _require(
            (self.learning_rate is None) == self.uses_qmodel,
            f"learning_rate is {self.learning_rate}",
            "None with the types qmodel and qmodel_fixedmu, which find the length of"
            f" the step, and a number with the others; momentum_type is"
            f" {self.momentum_type!r}",
        )
        _require(
            self.momentum is None or self.momentum_type != "qmodel",
            f"momentum is {self.momentum}",
            "None with the type qmodel, which finds its own",
        )
        _require(
            self.norm_constraint is None or not self.uses_qmodel,
            f"norm_constraint is {self.norm_constraint}",
            f"None with the type {self.momentum_type}",
        )
        _require(
            self.qmodel_update_rescale is None or self.uses_qmodel,
            f"qmodel_update_rescale is {self.qmodel_update_rescale}",
            f"None with the type {self.momentum_type}",
        )
        self._check_numbers()

    @property
    def layer_dampings(self) -> dict[str, float] | None:
        """The damping of each layer, by its name; None if there is one number."""
        return dict(self.damping) if isinstance(self.damping, tuple) else None

    @property
    def one_damping(self) -> float:
        """The damping, where it is one number."""
        number: Any = self.damping
        return number  # type: ignore[no-any-return]

    @property
    def uses_qmodel(self) -> bool:
        """Whether the quadratic model gives the length of the step."""
        return self.momentum_type.startswith("qmodel")

    @property
    def fixed_momentum(self) -> float:
        """The momentum, or 0.9 if none is given."""
        return 0.9 if self.momentum is None else self.momentum

    @property
    def adapts_at_start(self) -> bool:
        """Whether the damping is adapted at the start of a step."""
        return self.adapt_damping and not self.update_damping_immediately

    @property
    def omega(self) -> float:
        """What an adaptation multiplies or divides the damping by."""
        return self.damping_adaptation_decay**self.damping_adaptation_interval

    @property
    def signature(self) -> Signature:
        """What states are signed with: a velocity is that of one momentum type."""
        return self._made_by

    def _check_choice(self, name: str, allowed: tuple[str, ...]) -> None:
        value = getattr(self, name)
        # An array cannot be looked up among words.
        known = isinstance(value, str) and value in allowed
        _require(known, f"{name} is {value!r}", f"one of {', '.join(allowed)}")

    def _check_numbers(self) -> None:
        for name in _FLAGS:
            object.__setattr__(self, name, as_flag(getattr(self, name), name, LABEL))
        for name, least in _COUNTS.items():
            count = getattr(self, name)
            counts = isinstance(count, Integral) and not isinstance(count, bool)
            _require(
                counts and int(count) >= least,
                f"{name} is {count!r}",
                f"an integer of at least {least}",
            )
        for name, upper in _NUMBERS.items():
            value = getattr(self, name)
            if value is not None or name not in _OPTIONAL:
                _check_number(name, value, upper)
        for layer, value in (self.layer_dampings or {}).items():
            _check_number(f"damping[{layer!r}]", value)
        if self.layer_dampings is None:
            _check_number("damping", self.damping)
        smallest = self.min_damping + self.l2_reg
        _require(
            self.max_damping >= smallest,
            f"max_damping is {self.max_damping}",
            f"at least min_damping + l2_reg, {smallest:g}",
        )
        low, high = (
            self.damping_increase_rho_threshold,
            self.damping_decrease_rho_threshold,
        )
        _require(
            low <= high,
            f"damping_increase_rho_threshold is {low}",
            f"at most damping_decrease_rho_threshold, {high}",
        )
        _require(
            self.damping_adaptation_decay > 0,
            "damping_adaptation_decay is 0",
            "a positive number",
        )
        given: object = self.loss_fn
        _require(
            given is None or callable(given), f"loss_fn is {given!r}", "a function"
        )


LABEL = "KfacOptimizer"
"""Name of the optimiser in messages."""

_FLAGS = (
    "stagger_inverses",
    "adapt_damping",
    "update_damping_immediately",
    "include_damping_in_qmodel_change",
)
_COUNTS = {
    "cov_update_every": 1,
    "invert_every": 1,
    "damping_adaptation_interval": 1,
    "num_burnin_steps": 0,
}
"""The smallest allowed value of each count."""

_NUMBERS = {
    "statistics_share": 1,
    "learning_rate": math.inf,
    "norm_constraint": math.inf,
    "qmodel_update_rescale": math.inf,
    "inverse_tolerance": math.inf,
    "precon_damping_mult": math.inf,
    "weight_decay_coeff": math.inf,
    "min_damping": math.inf,
    "max_damping": math.inf,
    "l2_reg": math.inf,
    "damping_decrease_rho_threshold": None,
    "damping_increase_rho_threshold": None,
    "momentum": 1.0,
    "cov_ema_decay": 1.0,
    "damping_adaptation_decay": 1.0,
}
"""The largest allowed value of each number; None: it may also be negative."""

_OPTIONAL = (
    "learning_rate",
    "norm_constraint",
    "qmodel_update_rescale",
    "inverse_tolerance",
    "momentum",
)


def _check_number(name: str, value: Any, upper: float | None = math.inf) -> None:
    # A boolean is meant as a flag, and no array can be multiplied by a fraction.
    odd = isinstance(value, Rational) and not isinstance(value, Integral)
    real = isinstance(value, Real) and not (odd or isinstance(value, bool))
    fits = real and abs(value) <= sys.float_info.max
    wanted = "a number in [0, 1]" if upper == 1 else "a finite number"
    if upper is not None:
        fits = fits and 0 <= value <= upper
        wanted += "" if upper == 1 else ", not negative"
    _require(fits, f"{name} is {shown(value)}", wanted)


def _require(truth: bool, got: str, expected: str) -> None:
    if not truth:
        msg = f"{LABEL}: {got}, expected {expected}"
        raise ArgumentError(msg)
