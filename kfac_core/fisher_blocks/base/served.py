"""The check of what a block serves, where no factor of it makes that check."""

from typing import Any

from kfac_core.fisher_blocks.base.block import FisherBlock
from kfac_core.fisher_factors import DEFAULT_DAMPING_ID
from kfac_core.fisher_factors.base.messages import not_registered


def check_served(block: FisherBlock[Any], is_served: bool, what: str) -> None:
    """Check that a block serves something.

    Args:
        block: The block.
        is_served: Whether it does.
        what: What that is, for the message.

    Raises:
        not_registered: If it does not.
    """
    if not is_served:
        served = (
            f"the powers {list(block.matpowers)}, cholesky {block.cholesky},"
            f" cholesky_inverse {block.cholesky_inverse}"
        )
        raise not_registered(block.label, what, DEFAULT_DAMPING_ID, served)
