"""Colours of classes."""

from collections.abc import Sequence

from ccnet.errors import ConfigError


def as_color(values: Sequence[int], where: str) -> tuple[int, int, int]:
    """Three numbers as an RGB colour.

    Args:
        values: the numbers.
        where: the key or file that they come from, for messages.

    Raises:
        ConfigError: they are none.
    """
    if len(values) != 3 or not all(0 <= value <= 255 for value in values):
        raise ConfigError(f"{where}: {list(values)} is no colour; expected red, green and blue in 0..255")
    red, green, blue = values
    return red, green, blue
