"""`Collective`: what is asked of an engine that runs several processes."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

from kfac_core.typing import Array


@runtime_checkable
class Collective(Protocol):
    """A group of processes, as one of them sees it.

    Every rank calls the same methods in the same order, with arrays of the same shapes
    and dtypes, and gets the same bits. No argument is changed. An error of the engine,
    such as that another rank is gone, is raised as the engine raises it.

    Example:
        >>> import numpy as np
        >>> class Twins:  # one of two ranks that have the same data
        ...     rank, size = 0, 2
        ...     def all_reduce(self, x):
        ...         return 2 * x
        ...     def broadcast(self, x, root):
        ...         return x
        >>> ranks = Twins()
        >>> isinstance(ranks, Collective)
        True
        >>> ranks.all_reduce(np.asarray([1.0, 2.0])) / ranks.size  # the mean
        array([1., 2.])
    """

    @property
    def rank(self) -> Any:
        """The number of this process, from 0; under a trace of JAX a 0-d array."""

    @property
    def size(self) -> int:
        """The number of processes."""

    def all_reduce(self, x: Array) -> Array:
        """Return the sum of the arrays of all ranks.

        Args:
            x: Numbers, of any shape.

        Returns:
            The sum, of the shape and dtype of `x`.
        """

    def broadcast(self, x: Array, root: int) -> Array:
        """Return the array of one rank.

        Args:
            x: Numbers, of any shape; those of other ranks give shape and dtype alone.
            root: Whose array it is.

        Returns:
            The array of that rank.
        """


@runtime_checkable
class Splittable(Collective, Protocol):
    """A `Collective` whose ranks can talk in groups, as not all keep an inverse.

    Example:
        >>> from kfac_core.collectives import SingleProcess, teams_of
        >>> class OneOfTwo(SingleProcess):
        ...     size = 2
        ...     def split(self, groups):
        ...         return SingleProcess()
        >>> isinstance(OneOfTwo(), Splittable)
        True
        >>> teams_of(OneOfTwo(), 0.5).team.size  # half of the ranks keep an inverse
        1
    """

    def split(self, groups: Sequence[Sequence[int]]) -> Collective:
        """Return the group of this rank; all ranks call it, with equal arguments.

        Args:
            groups: The ranks of each group; every rank is in one.

        Returns:
            The group, whose ranks are numbered in the order that is given.
        """


@runtime_checkable
class Starting(Collective, Protocol):
    """A `Collective` that can send while the caller goes on.

    Example:
        >>> import numpy as np
        >>> from kfac_core.collectives import Counted, SingleProcess, Starting
        >>> isinstance(SingleProcess(), Starting)
        False
        >>> wait = Counted(SingleProcess()).start_all_reduce(np.ones(2))
        >>> wait()
        array([1., 1.])
    """

    def start_all_reduce(self, x: Array) -> Callable[[], Array]:
        """Begin a sum; the order of all calls, this one's included, is that of ranks.

        Args:
            x: Numbers, of any shape.

        Returns:
            A function that waits for the sum, and returns it.
        """
