"""The parameters of criss-cross attention, as its backends take them."""

from typing import NamedTuple

from torch import Tensor


class Projections(NamedTuple):
    """1x1 convolutions as matrices: query and key (D, C), value (C, C), their biases, and gamma (1)."""

    query_weight: Tensor
    query_bias: Tensor
    key_weight: Tensor
    key_bias: Tensor
    value_weight: Tensor
    value_bias: Tensor
    gamma: Tensor
