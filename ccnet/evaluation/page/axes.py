"""Scales and numbers of the page's charts."""

import math
import re
import sys
from dataclasses import dataclass
from html import escape

CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
DASH = "\u2013"
LABEL = 40  # letters of a name in a tooltip or on an axis


@dataclass(frozen=True)
class Axis:
    """Values from `low` to `high` along the pixels from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float

    def place(self, value: float) -> float:
        """The pixel of a value."""
        return self.start + (self.end - self.start) * (value - self.low) / (self.high - self.low)

    def ticks(self, most: int = 6) -> list[float]:
        """Round values 1, 2 or 5 times a power of ten apart, `most` of them or fewer."""
        rough = max((self.high - self.low) / max(most - 1, 1), sys.float_info.min)
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(digit * power for digit in (1, 2, 5, 10) if digit * power >= rough * (1 - 1e-9))
        first = math.ceil(self.low / step - 1e-9)
        return [float(f"{index * step:.12g}") for index in range(first, math.floor(self.high / step + 1e-9) + 1)]


def number(value: float) -> str:
    """Three digits, as a person writes them."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def per_cent(value: float | None) -> str:
    """One digit behind the point; a dash where there is no score."""
    return DASH if value is None else f"{100 * value:.1f}"


def label(name: str, most: int = LABEL) -> str:
    """A name cut to a length, and safe within the page."""
    shown = CONTROL.sub("\ufffd", name)
    return escape(shown if len(shown) <= most else f"{shown[: most - 1]}…")
