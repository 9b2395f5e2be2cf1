"""`KfacOptions`: what can be chosen of a `KfacOptimizer`, and what goes together."""

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Literal

from kfac_core.errors import ArgumentError
from kfac_core.estimator import EstimationMode
from kfac_core.typing import Array

MomentumType = Literal["regular", "adam", "qmodel", "qmodel_fixedmu"]
"""Name of a way to make an update of a gradient and the update before."""

MOMENTUM_TYPES: tuple[MomentumType, ...] = (
    "regular",
    "adam",
    "qmodel",
    "qmodel_fixedmu",
)

PredictedChange = Literal["exact", "blocks"]
"""Name of a way to predict the change of the loss; see `KfacOptions`."""


@dataclass(frozen=True, kw_only=True)
class KfacOptions:
    """Options of a `KfacOptimizer`; names and defaults are the original's.

    With ``F`` the damped blocks, ``g`` the gradient of the mean loss, and the velocity
    ``v`` zero at first, an update is ``params -= learning_rate * step``:

    | `momentum_type` | velocity and step |
    |---|---|
    | ``regular`` | ``v = momentum v + inv(F) g``, the step is ``v`` |
    | ``adam`` | ``v = momentum v + g``, the step is ``inv(F) v``; no second moments |
    | ``qmodel`` | ``v = mu v - alpha inv(F) g``, the step is ``v`` |
    | ``qmodel_fixedmu`` | likewise, ``mu`` being `momentum` |

    where ``(alpha, mu)`` minimise the quadratic model with the exact Fisher of the
    batch (Martens & Grosse, 2015, section 7).

    Attributes:
        learning_rate: Of the step; None with ``qmodel`` and ``qmodel_fixedmu``, whose
            step has a length of its own.
        damping: Times the identity, added to the Fisher; where it is adapted, at first.
        momentum: In [0, 1]; None: 0.9, and with ``qmodel``, which finds its own, None.
        momentum_type: As in the table, in any case.
        cov_ema_decay: What the weight of earlier statistics is multiplied by with each
            step: between two updates `cov_update_every` times.
        estimation_mode: As in `kfac_core.estimator.FisherEstimator`.
        num_samples: Likewise.
        cov_update_every: Steps between updates of the statistics.
        invert_every: Steps between updates of the inverses.
        inverse_tolerance: When an update is due, a layer whose inverses are still as
            good as this keeps them: the largest
            `kfac_core.fisher_blocks.FisherBlock.inverse_error`, such as 0.1; None: all
            are computed anew.
        stagger_inverses: Whether layers take turns within the `invert_every` steps, all
            of them at the first, so that no step has all the work. The
            ``update_inverses`` of `KfacOptimizer.step` is still about all.
        num_burnin_steps: Calls of `KfacOptimizer.step` at the start that average
            statistics, all alike, and leave the parameters where they are.
        norm_constraint: Largest ``learning_rate^2 g' inv(F) g`` of a step (Ba et al.,
            2017, section 5); None: no limit. With ``regular`` and ``adam`` alone.
        weight_decay_coeff: Times the parameters, added to the step: not
            preconditioned, not in the velocity (Zhang et al., 2019).
        qmodel_update_rescale: What the update of the ``qmodel`` types is multiplied by;
            None: 1.
        precon_damping_mult: What the damping of the blocks is multiplied by, but not
            that of the quadratic model.
        adapt_damping: Whether to adapt the damping by the Levenberg-Marquardt rule, by
            ``rho``, the change of the loss over the one predicted.
        damping_adaptation_interval: Steps between adaptations: best a multiple of
            `invert_every`, so that the step before has the damping of then.
        damping_adaptation_decay: What an adaptation multiplies or divides the damping
            by is this to the power of the interval.
        damping_decrease_rho_threshold: ``rho`` above which the damping decreases.
        damping_increase_rho_threshold: ``rho`` below which it increases.
        min_damping: Below which it never is; `l2_reg` comes on top.
        update_damping_immediately: Whether to evaluate the loss anew at the end of a
            step; else at the start of the next, on the batch given as ``prev_batch``.
        l2_reg: The coefficient of ``|params|^2 / 2`` in a loss of the caller's own, who
            gives the gradient and the loss to `KfacOptimizer.step`: part of the
            predicted change, and of the smallest damping.
        predicted_change: ``"exact"``: of the update taken, by the exact Fisher of the
            batch. ``"blocks"``: as in the original, for ``regular`` and ``adam`` by the
            damped blocks, which takes no further pass through the model; the damping
            is taken out for ``regular``, as if it were a multiple of the identity, and
            left in for ``adam``.
        include_damping_in_qmodel_change: Whether the predicted change has the damping
            as a penalty.
        loss_fn: The mean loss as a function of parameters and batch, for adaptation;
            None: that of the registered losses.
    """

    learning_rate: float | None = None
    damping: float
    momentum: float | None = None
    momentum_type: MomentumType = "adam"
    cov_ema_decay: float = 0.95
    estimation_mode: EstimationMode = "gradients"
    num_samples: int = 1
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
    update_damping_immediately: bool = True
    l2_reg: float = 0.0
    predicted_change: PredictedChange = "exact"
    include_damping_in_qmodel_change: bool = False
    loss_fn: Callable[[Any, Any], Array] | None = None

    def __post_init__(self) -> None:
        """Check each option, and what goes together.

        Raises:
            ArgumentError: If one is out of range, or does not go with another.
        """
        lower = str(self.momentum_type).lower()
        object.__setattr__(self, "momentum_type", lower)
        self._check_choice("momentum_type", MOMENTUM_TYPES)
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

    def _check_choice(self, name: str, allowed: tuple[str, ...]) -> None:
        value = getattr(self, name)
        _require(
            value in allowed, f"{name} is {value!r}", f"one of {', '.join(allowed)}"
        )

    def _check_numbers(self) -> None:
        for name in (
            "cov_update_every",
            "invert_every",
            "damping_adaptation_interval",
            "num_burnin_steps",
        ):
            value, least = getattr(self, name), int(name != "num_burnin_steps")
            fits = isinstance(value, Integral) and int(value) >= least
            _require(fits, f"{name} is {value!r}", f"an integer of at least {least}")
        for name in (
            "learning_rate",
            "norm_constraint",
            "qmodel_update_rescale",
            "inverse_tolerance",
            "damping",
            "precon_damping_mult",
            "weight_decay_coeff",
            "min_damping",
            "l2_reg",
        ):
            value = getattr(self, name)
            fits = value is None or 0 <= value < float("inf")
            _require(fits, f"{name} is {value!r}", "a finite number, not negative")
        for name in ("momentum", "cov_ema_decay", "damping_adaptation_decay"):
            value = getattr(self, name)
            fits = value is None or 0 <= value <= 1
            _require(fits, f"{name} is {value!r}", "a number in [0, 1]")
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


def _require(truth: bool, got: str, expected: str) -> None:
    if not truth:
        msg = f"KfacOptimizer: {got}, expected {expected}"
        raise ArgumentError(msg)
