"""Weights of classes: checked, or made from how many pixels of each class the training set has."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from ccnet.errors import ConfigError

Rule = Literal["inverse_log", "effective_number"]


def checked_weights(weights: Sequence[float] | None, name: str) -> Tensor | None:
    """As float32 (C,).

    Raises:
        ValueError: a weight that is negative or not finite.
    """
    if weights is None:
        return None
    tensor = torch.tensor(weights, dtype=torch.float32)
    if not (tensor.isfinite() & (tensor >= 0)).all():
        raise ValueError(f"{name} must be >= 0 and finite, got {list(weights)}")
    return tensor


def weights_from_pixels(rule: Rule, pixels: Sequence[int]) -> list[float]:
    """One weight per class, of mean 1 over the classes that have pixels; 0 for the others, which no pixel asks for.

    Args:
        rule: the name of one of the two functions below.
        pixels: of each class.

    Raises:
        ConfigError: no pixels at all.
    """
    count = torch.tensor(pixels, dtype=torch.float64)
    present = count > 0
    if not present.any():
        raise ConfigError(f"class_weights: {rule} needs a training set with labelled pixels; it has none")
    weights = (inverse_log if rule == "inverse_log" else effective_number)(count).where(present, 0.0)
    return (weights * present.sum() / weights.sum()).tolist()


def inverse_log(pixels: Tensor, offset: float = 1.02) -> Tensor:
    """1 / ln(offset + share of all pixels): 50 for the rarest classes, 1.4 for one that fills everything (ENet,
    arXiv:1606.02147)."""
    return 1 / (offset + pixels / pixels.sum()).log()


def effective_number(pixels: Tensor) -> Tensor:
    """1 / (1 + beta + ... + beta^(n - 1)) for n pixels: one over the number of different ones among them if there are N
    kinds, beta = (N - 1) / N (Cui et al. 2019, Proposition 1, arXiv:1901.05555).

    The paper counts images and tries N = 10 to 10 000. A class soon has millions of pixels, which would weigh all
    classes alike, so N is the mean number of pixels of the classes that have some: classes well above it weigh 1 / N,
    rare ones 1 / n.
    """
    kinds = pixels.sum() / (pixels > 0).sum()
    return -1 / (kinds * torch.expm1(pixels * torch.log1p(-1 / kinds)))
