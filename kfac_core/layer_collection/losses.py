"""Registration of losses."""

from dataclasses import replace
from itertools import count
from typing import Any, Self

from kfac_core.errors import ArgumentError, RegistrationError
from kfac_core.layer_collection.base import Registrations
from kfac_core.layer_collection.records import LossRegistration, is_coefficient
from kfac_core.layer_collection.sites import Reuse, check_name, check_reuse
from kfac_core.loss_functions import (
    CategoricalLogitsNegativeLogProbLoss,
    LossFunction,
    MultiBernoulliNegativeLogProbLoss,
    NormalMeanNegativeLogProbLoss,
    NormalMeanVarianceNegativeLogProbLoss,
    OnehotCategoricalLogitsNegativeLogProbLoss,
)


class LossRegistrations(Registrations):
    """Registers losses."""

    def register_loss_function(
        self,
        loss: LossFunction,
        site: str,
        name: str | None = None,
        coeff: float = 1.0,
        reuse: Reuse = False,
    ) -> Self:
        """Register a loss, or one more tower of it.

        Args:
            loss: Spec of the loss.
            site: The site of the loss's inputs.
            name: Name of the loss; by default the name of its class, with a number if
                that is taken.
            coeff: What the loss is multiplied by in the total loss; finite, not
                negative.
            reuse: False: the name must be new; True: it must be that of an equal loss
                with an equal coefficient, and `site` is one more tower; ``"auto"``:
                either. Without a name the loss is always new; ``tf.contrib.kfac`` fails
                without a name, and at ``"auto"`` with a new one.

        Returns:
            The new collection.

        Raises:
            ArgumentError: If an argument has an unknown form, or `reuse` is True
                without a name.
            RegistrationError: If `reuse` does not hold, or a loss has the site.
        """
        check_name(name, type(loss).__name__)
        label = name or type(loss).__name__
        check_reuse(reuse, label)
        _check_loss(loss, site, coeff, label)
        if not name:
            if reuse is True:
                msg = f"{label}: reuse is True, but there is no name; name the loss"
                raise ArgumentError(msg)
            name = self._free_name(label)
        for other in self.losses:
            if site in other.towers:
                msg = (
                    f"{name}: the site {site!r} is that of the loss {other.name}"
                    " already; a site is one input of one loss, so give what goes into"
                    " a second one another name"
                )
                raise RegistrationError(msg)
        new = LossRegistration(name, loss, float(coeff), (site,))
        old = next((loss for loss in self.losses if loss.name == name), None)
        if old is None:
            if reuse is True:
                msg = (
                    f"{name}: reuse is True, but no loss has this name; register it"
                    " with reuse=False first, or 'auto'"
                )
                raise RegistrationError(msg)
            return replace(self, losses=(*self.losses, new))
        if reuse is False:
            msg = (
                f"{name}: a loss has this name already; to add a tower, give reuse=True"
            )
            raise RegistrationError(msg)
        if new != replace(old, towers=new.towers):
            msg = (
                f"{name}: a tower must have the loss and coefficient that the name is"
                f" registered with, {old.loss} and {old.coeff}, not {loss} and {coeff}"
            )
            raise RegistrationError(msg)
        grown = replace(old, towers=(*old.towers, site))
        return replace(
            self, losses=tuple(grown if x is old else x for x in self.losses)
        )

    def register_categorical_predictive_distribution(
        self,
        site: str,
        name: str | None = None,
        coeff: float = 1.0,
        reuse: Reuse = False,
        ignore_index: int | None = None,
    ) -> Self:
        """Register softmax cross-entropy of integer targets; the site gives logits.

        Positions whose target is `ignore_index` have no weight; see
        `kfac_core.loss_functions.CategoricalLogitsNegativeLogProbLoss`. Other arguments
        and errors are those of `register_loss_function`.

        Returns:
            The new collection.
        """
        loss = CategoricalLogitsNegativeLogProbLoss(ignore_index)
        return self.register_loss_function(loss, site, name, coeff, reuse)

    register_softmax_cross_entropy_loss = register_categorical_predictive_distribution

    def register_onehot_categorical_predictive_distribution(
        self,
        site: str,
        name: str | None = None,
        coeff: float = 1.0,
        reuse: Reuse = False,
    ) -> Self:
        """Register softmax cross-entropy of one-hot targets; the site gives logits.

        ``tf.contrib.kfac`` has no such function. Arguments and errors are those of
        `register_loss_function`.

        Returns:
            The new collection.
        """
        loss = OnehotCategoricalLogitsNegativeLogProbLoss()
        return self.register_loss_function(loss, site, name, coeff, reuse)

    def register_multi_bernoulli_predictive_distribution(
        self,
        site: str,
        name: str | None = None,
        coeff: float = 1.0,
        reuse: Reuse = False,
    ) -> Self:
        """Register sigmoid cross-entropy; the site gives logits.

        Arguments and errors are those of `register_loss_function`.

        Returns:
            The new collection.
        """
        loss = MultiBernoulliNegativeLogProbLoss()
        return self.register_loss_function(loss, site, name, coeff, reuse)

    register_sigmoid_cross_entropy_loss = (
        register_multi_bernoulli_predictive_distribution
    )

    def register_normal_predictive_distribution(
        self,
        site: str,
        var: Any = 0.5,
        name: str | None = None,
        coeff: float = 1.0,
        reuse: Reuse = False,
    ) -> Self:
        """Register a normal distribution of constant variance; the site gives means.

        The loss is ``|t - mean|^2 / (2 var)`` plus a constant, where `var` is a number,
        or an array with one number for each output. Other arguments and errors are
        those of `register_loss_function`.

        Returns:
            The new collection.
        """
        loss = NormalMeanNegativeLogProbLoss(var)
        return self.register_loss_function(loss, site, name, coeff, reuse)

    def register_squared_error_loss(
        self,
        site: str,
        name: str | None = None,
        coeff: float = 1.0,
        reuse: Reuse = False,
    ) -> Self:
        """Register the squared error; the site gives predictions.

        This is a normal distribution of variance 1/2, whose loss is ``|t -
        prediction|^2`` plus a constant. Arguments and errors are those of
        `register_loss_function`.

        Returns:
            The new collection.
        """
        return self.register_normal_predictive_distribution(
            site, name=name, coeff=coeff, reuse=reuse
        )

    def register_normal_mean_variance_predictive_distribution(
        self,
        site: str,
        name: str | None = None,
        coeff: float = 1.0,
        reuse: Reuse = False,
    ) -> Self:
        """Register a normal distribution; the site gives means and variances.

        ``tf.contrib.kfac`` has no such function. Arguments and errors are those of
        `register_loss_function`.

        Returns:
            The new collection.
        """
        loss = NormalMeanVarianceNegativeLogProbLoss()
        return self.register_loss_function(loss, site, name, coeff, reuse)

    def _free_name(self, base: str) -> str:
        """Return `base`, or the first of ``base_1``, ``base_2``, ... that is free."""
        taken = {loss.name for loss in self.losses}
        numbered = (f"{base}_{i}" if i else base for i in count())
        return next(name for name in numbered if name not in taken)


def _check_loss(loss: object, site: object, coeff: Any, label: str) -> None:
    if not isinstance(loss, LossFunction):
        msg = f"{label}: loss is a {type(loss).__name__}, expected a LossFunction"
        raise ArgumentError(msg)
    if not isinstance(site, str) or not site:
        msg = f"{label}: site is {site!r}, expected the name of what goes into the loss"
        raise ArgumentError(msg)
    if not is_coefficient(coeff):
        msg = (
            f"{label}: coeff is {coeff!r}, expected a finite number that is not"
            " negative"
        )
        raise ArgumentError(msg)
