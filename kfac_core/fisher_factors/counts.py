"""The check of an option that counts something."""

from numbers import Integral

from kfac_core.errors import ArgumentError


def check_count(value: object, option: str, label: str) -> None:
    """Check an option that is a number of things, at least one.

    Args:
        value: The option as the user gave it.
        option: Its name, for the message.
        label: Name of the factor, for the message.

    Raises:
        ArgumentError: If it is no positive integer.
    """
    if value is True or not isinstance(value, Integral) or int(value) < 1:
        msg = f"{label}: {option} is {value!r}, expected a positive integer"
        raise ArgumentError(msg)
