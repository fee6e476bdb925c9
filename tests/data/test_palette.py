"""Colours of classes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccnet.data.palette import as_color
from ccnet.errors import ConfigError


@given(st.tuples(*[st.integers(0, 255)] * 3))
def test_a_colour_is_its_channels(color: tuple[int, int, int]) -> None:
    """Oracle: the colour."""
    assert as_color(list(color), "here") == color


@pytest.mark.parametrize("values", [[1, 2], [1, 2, 3, 4], [0, 0, 256], [-1, 0, 0]])
def test_what_is_no_colour_is_refused(values: list[int]) -> None:
    """Oracle: the rule, three channels of 0..255."""
    with pytest.raises(ConfigError, match=r"^here: .* is no colour"):
        as_color(values, "here")
