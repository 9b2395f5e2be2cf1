"""Differences of neighbours in a row: a factor of a user, in one file."""

from dataclasses import dataclass

from kfac_core.arguments.arrays import as_towers, check_towers
from kfac_core.fisher_factors import FisherFactor
from kfac_core.fisher_factors.base.updating import accumulated
from kfac_core.rows.counts import count_of
from kfac_core.rows.weights import roots_of, sides, weights_for
from kfac_core.statistics.weighted_rows import weighed


@dataclass(frozen=True)
class DifferencesFactor(FisherFactor):
    """Second moment of the differences of neighbours in a row: a factor of a user."""

    size: int

    @property
    def dimension(self):
        return self.size - 1

    def update_cov(
        self, state, inputs, ema_decay, ema_weight=None, *, weights=None, num_cases=None
    ):
        towers = as_towers(inputs)
        backend = self._backend(state, "state, inputs", *towers)
        like, shape = state.cov.total, ("rows", self.size)
        x = check_towers(backend, towers, like.dtype, shape, "inputs", self.label)
        cases = [(part.shape[0],) for part in x]
        own = weights_for(backend, sides(weights)[0], cases, like, self.label)
        count = count_of(backend, num_cases, 1, like, self.label)
        steps = [part[:, 1:] - part[:, :-1] for part in x]
        moment = self.form.of_rows(
            backend,
            weighed(backend, steps, roots_of(backend, own), count),
            has_bias=False,
        )
        data = {"inputs": (towers,)}
        return accumulated(self, backend, state, [moment], ema_decay, ema_weight, data)
