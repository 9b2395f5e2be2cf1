"""`Use`: one place in a function where a parameter meets data."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from kfac_adapters.jax.forms import Form
from kfac_adapters.jax.views import View


@dataclass(frozen=True)
class Leaf:
    """A value that is a parameter, but for its layout.

    Attributes:
        index: Which of the parameters.
        shape: Shape of the parameter itself.
        view: How the value lies.
    """

    index: int
    shape: tuple[int, ...]
    view: View


@dataclass(frozen=True)
class Output:
    """A value that is the output of a use, but for its layout.

    Attributes:
        site: Site of the use.
        view: How the value lies.
    """

    site: str
    view: View


@dataclass(frozen=True)
class Use(ABC):
    """One operation between a parameter and data.

    Attributes:
        site: Its name: the place in the jaxpr.
        leaf: Index of the parameter.
        form: The parameter as the core takes it.
        shape: Shape of the output.
        dtype: Dtype of the output.
        features: Axes of the output that come from the parameter, in the order in which
            the core has them.
        operand: Which operand of the operation holds the data.
    """

    site: str
    leaf: int
    form: Form
    shape: tuple[int, ...]
    dtype: Any
    features: tuple[int, ...]
    operand: int

    kind: ClassVar[str]
    """What the use is called."""

    @property
    def rows(self) -> tuple[int, ...]:
        """Sizes of the axes of the output that are not the parameter's."""
        return tuple(n for i, n in enumerate(self.shape) if i not in self.features)

    @abstractmethod
    def inputs(self, operand: Any) -> Any:
        """Return the data as a block takes inputs, ``[*rows, ...]``."""

    @abstractmethod
    def gradients(self, output: Any) -> Any:
        """Return gradients as a block takes them, ``[*rows, ...]``."""

    @abstractmethod
    def gradient(self, inputs: Any, gradients: Any) -> Any:
        """Return the gradient for the parameter that rows stand for, in its form.

        Args:
            inputs: What `inputs` returns.
            gradients: What `gradients` returns.
        """

    def bias_gradient(self, gradients: Any, form: Form) -> Any:
        """Return the gradient for a bias of this form, added to the output."""
        return gradients.reshape(-1, *form.shape).sum(axis=0)

    def is_like(self, other: "Use") -> bool:
        """Return whether another use is this one, perhaps for another batch."""
        mine, its = ((type(u), u.site, u.leaf, u.form) for u in (self, other))
        return mine == its
