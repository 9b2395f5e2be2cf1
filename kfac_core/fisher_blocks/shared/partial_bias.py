"""The block of a shared fully connected layer that adds its bias in some uses alone."""

from dataclasses import dataclass, field
from typing import Any

from kfac_core.arguments.arrays import as_sources, as_towers, backend_for
from kfac_core.arguments.powers import shown
from kfac_core.backend import Backend
from kfac_core.damping import DampingType
from kfac_core.errors import ArgumentError, ShapeError
from kfac_core.fisher_blocks.base.parts import PartsFB, PartsState
from kfac_core.fisher_blocks.base.state import whole
from kfac_core.fisher_blocks.bias import BiasFullFB
from kfac_core.fisher_blocks.shared.fully_connected import FullyConnectedMultiIndepFB
from kfac_core.linalg.layouts import DenseLayout
from kfac_core.linalg.parameters import tensors_of
from kfac_core.rows.uses import MultiSources, MultiTowers, arrays_of, in_parts
from kfac_core.rows.weights import sides, use_weights
from kfac_core.statistics.weighted_rows import weigh
from kfac_core.typing import Array, Params, Scalar, Uses, Weights


@dataclass(frozen=True)
class FullyConnectedMultiPartialBiasFB(PartsFB):
    """K-FAC of a shared fully connected layer, its bias added in some uses alone.

    An example is a network together with its derivative, which uses each layer a second
    time, without the bias (physics-informed losses, score matching). A one at the end
    of every input would count the bias in all uses. So the weights have the Kronecker
    product of `FullyConnectedMultiIndepFB`, over all uses. The bias has its whole
    Fisher, which is exact: its gradients are summed, in each case, over the uses that
    add it. Weights and bias are taken to be uncorrelated.

    Attributes:
        input_size: Length of a row of inputs.
        output_size: Length of a row of outputs.
        uses_with_bias: For each use of a case, in the order of the data, whether it
            adds the bias; at least one does.
        batch_first: As in `FullyConnectedMultiIndepFB`.
        diagonal_approx_for_input: Whether to keep the diagonal of ``A`` alone.
        diagonal_approx_for_output: Whether to keep the diagonal of ``G`` alone.
        layout: As in `FullyConnectedKFACBasicFB`.
        damping_type: As in `KroneckerProductFB`, of the weights; the bias is damped by
            the damping itself.
        normalize_damping_power: As in `KroneckerProductFB`, of the weights.

    Example:
        >>> import numpy as np
        >>> block = FullyConnectedMultiPartialBiasFB(1, 1, (True, False))
        >>> x, g = np.ones((2, 1, 1)), np.asarray([[[1.0]], [[10.0]]])  # one case
        >>> state = block.update_covs(block.init(like=g), x, g, ema_decay=0.0)
        >>> block.full_fisher_block(state).diagonal()
        array([101.,   1.])
    """

    input_size: int
    output_size: int
    uses_with_bias: tuple[bool, ...]
    batch_first: bool = field(default=False, kw_only=True)
    diagonal_approx_for_input: bool = field(default=False, kw_only=True)
    diagonal_approx_for_output: bool = field(default=False, kw_only=True)
    layout: DenseLayout = field(default="in_out", kw_only=True)
    damping_type: DampingType = field(default="pi", kw_only=True)
    normalize_damping_power: float = field(default=1.0, kw_only=True)

    def __post_init__(self) -> None:
        """Make the parts, once.

        Raises:
            ArgumentError: If `uses_with_bias` holds anything but booleans, or no use
                adds the bias.
        """
        super().__post_init__()
        flags: Any = self.uses_with_bias
        listed = tuple(flags) if isinstance(flags, tuple | list) else ()
        if not any(listed) or not all(isinstance(flag, bool) for flag in listed):
            msg = (
                f"{self.label}: uses_with_bias is {shown(flags)}, expected a boolean"
                " for each use, at least one of them True; without any, give no bias"
            )
            raise ArgumentError(msg)
        object.__setattr__(self, "uses_with_bias", listed)
        served = {
            "matpowers": self.matpowers,
            "cholesky": self.cholesky,
            "cholesky_inverse": self.cholesky_inverse,
            **self._averaging(),
            **self._inverting(),
        }
        self._set_parts(
            weights=FullyConnectedMultiIndepFB(
                self.input_size,
                self.output_size,
                num_uses=len(listed),
                diagonal_approx_for_input=self.diagonal_approx_for_input,
                diagonal_approx_for_output=self.diagonal_approx_for_output,
                batch_first=self.batch_first,
                layout=self.layout,
                damping_type=self.damping_type,
                normalize_damping_power=self.normalize_damping_power,
                name=f"{self.label} (weights)",
                **served,
            ),
            bias=BiasFullFB((self.output_size,), name=f"{self.label} (bias)", **served),
        )

    @property
    def num_uses(self) -> int:
        """Number of uses of a case."""
        return len(self.uses_with_bias)

    def update_covs(
        self,
        state: PartsState,
        inputs: MultiTowers,
        outputs_grads: MultiSources,
        ema_decay: Scalar,
        ema_weight: Scalar | None = None,
        *,
        weights: Weights | None = None,
        num_cases: Scalar | None = None,
    ) -> PartsState:
        """Fold a batch into the statistics of both parts.

        Arguments and errors are those of `FullyConnectedMultiIndepFB.update_covs`. A
        use that counts ``w`` times adds ``w`` times to its case's gradient for the
        bias. Each tower has weights of its own kind, of cases or of uses.

        Returns:
            The new state.
        """
        towers, sources = as_towers(inputs), as_sources(outputs_grads)
        all_data = (towers, *sources)
        arrays = (x for data in all_data for tower in data for x in arrays_of(tower))
        backend = backend_for(
            self.label, "state, inputs, outputs_grads", self._own(state).ok, *arrays
        )
        (_, of_weights), (_, of_bias) = self.parts
        ema, given = (ema_decay, ema_weight), {"num_cases": num_cases}
        first = of_weights.update_covs(
            state.parts[0], towers, sources, *ema, weights=weights, **given
        )
        (_, own), like = sides(weights), state.parts[0].scale
        by_tower = (None,) * len(towers) if own is None else as_towers(own)
        gradients = tuple(
            tuple(
                self._with_bias(backend, tower, w, like)
                for tower, w in zip(source, by_tower, strict=True)
            )
            for source in sources
        )
        second = of_bias.update_covs(state.parts[1], gradients, *ema, **given)
        new = state._replace(parts=(first, second))
        return whole(backend, new, state, "cov_ok")

    def count_cases(self, inputs: MultiTowers) -> int:
        """Return the number of cases in all towers, each counted once."""
        weights = self.parts[0][1]
        assert isinstance(weights, FullyConnectedMultiIndepFB)
        return weights.count_cases(inputs)

    def _with_bias(
        self, backend: Backend, tower: Any, weights: Any, like: Array
    ) -> Uses:
        """Return the gradients of the uses that add the bias, each ``[N, ...]``."""
        xp, uses = backend.xp, self.num_uses
        parts, _ = in_parts(
            backend,
            tower,
            2,
            uses,
            "outputs_grads",
            self.label,
            batch_first=self.batch_first,
        )
        if len(parts) == 1 and uses > 1:
            (rows,) = parts
            split = xp.reshape(rows, (uses, rows.shape[0] // uses, *rows.shape[1:]))
            parts = tuple(split[use, ...] for use in range(uses))
        if weights is not None:
            cases = parts[0].shape[0]
            own = use_weights(
                backend,
                weights,
                (uses * cases,),
                uses,
                like,
                self.label,
                batch_first=self.batch_first,
            ).by_use
            # A use that counts w times adds w times to the gradient of its case. The
            # gradient of a case that counts w times has the root of w as a factor,
            # since its square is what counts.
            if tuple(getattr(weights, "shape", ())) == (cases,):
                own = xp.sqrt(own)
            parts = tuple(
                weigh(backend, g, own[use, ...]) for use, g in enumerate(parts)
            )
        pairs = zip(parts, self.uses_with_bias, strict=True)
        return Uses(tuple(g for g, has_bias in pairs if has_bias))

    def _split(self, backend: Backend, vector: Params) -> tuple[Params, ...]:
        tensors = tensors_of(vector)
        if len(tensors) != 2:
            msg = (
                f"{self.label}: vector has {len(tensors)} tensors, expected the weights"
                " and the bias"
            )
            raise ShapeError(msg)
        return tensors

    def _joined(
        self, backend: Backend, products: tuple[Params, ...], vector: Params
    ) -> Params:
        return tuple(x for product in products for x in tensors_of(product))
