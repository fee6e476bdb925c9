"""Criss-cross attention as sparse matrices, the form that texts on deployment ask for.

Over the H W positions of an image the attention is a matrix with H + W - 1 entries in each row, in compressed sparse
row (CSR) format: the logits are the product of query and key sampled at these entries, the aggregation is a sparse
times a dense matrix.

It never was the fastest form: neither product has a tile to reuse, as every entry reads its own key and value. Against
dense rows and columns (`reference`) it took 1.6 to 6 times as long on a CPU (tools/benchmark.py attention), and the
pattern alone takes H W (H + W - 1) indices of eight bytes. Where a runtime offers sparse matrices and no batched ones,
it is the form that exists.

Shape suffixes: B batch, P = H W positions, M = H + W - 1 entries of a row, S = P M all entries; C channels of x, D of
query and key.
"""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from ccnet.models.ops.criss_cross.projections import Projections
from ccnet.models.ops.criss_cross.reference import project


def attend(x_BCHW: Tensor, projections: Projections, dtype: torch.dtype) -> Tensor:
    """As `reference.attend`; differentiable any number of times."""
    exact = torch.promote_types(dtype, torch.float32)  # what sparse kernels exist for
    height, width = x_BCHW.shape[2:]
    columns_S = pattern(height, width).to(x_BCHW.device)
    attended = []
    query_BPD, key_BPD, value_BPC = (
        projected.flatten(2).transpose(1, 2).to(exact) for projected in project(x_BCHW.to(dtype), projections)
    )
    for query_PD, key_PD, value_PC in zip(query_BPD, key_BPD, value_BPC, strict=True):
        logits_S = SampledProduct.apply(query_PD, key_PD, columns_S)
        attention_S = logits_S.view(height * width, -1).softmax(dim=-1).flatten()
        attended.append(SparseProduct.apply(attention_S, value_PC, columns_S).t().unflatten(1, (height, width)))
    return (x_BCHW + projections.gamma * torch.stack(attended)).to(x_BCHW.dtype)


@lru_cache(maxsize=4)
def pattern(height: int, width: int) -> Tensor:
    """The attended positions of each position in ascending order, (H W (H + W - 1)): the column indices of the CSR."""
    y, x = torch.arange(height), torch.arange(width)
    own_PM = (y[:, None] * width + x).view(-1, 1)
    above_and_below_HM = torch.stack([torch.cat([y[:row], y[row + 1 :]]) for row in range(height)])
    column_PM = (above_and_below_HM[:, None] * width + x[:, None]).flatten(0, 1)
    row_PM = (own_PM // width) * width + x
    return torch.cat([column_PM, row_PM], dim=1).sort(dim=1).values.flatten()


def csr(values_S: Tensor, columns_S: Tensor, size: int) -> Tensor:
    """The sparse matrix (P, P) with these entries."""
    starts = torch.arange(0, len(columns_S) + 1, len(columns_S) // size, device=columns_S.device)
    return torch.sparse_csr_tensor(starts, columns_S, values_S, (size, size), check_invariants=False)


class SampledProduct(torch.autograd.Function):
    """The entries of left @ right.T at the pattern: (P, D), (P, D) -> (S)."""

    @staticmethod
    def forward(ctx: Any, left_PD: Tensor, right_PD: Tensor, columns_S: Tensor) -> Tensor:
        ctx.save_for_backward(left_PD, right_PD, columns_S)
        zeros = csr(left_PD.new_zeros(len(columns_S)), columns_S, len(left_PD))
        return torch.sparse.sampled_addmm(zeros, left_PD.contiguous(), right_PD.t().contiguous()).values()

    @staticmethod
    def backward(ctx: Any, grad_S: Tensor) -> tuple[Tensor, Tensor, None]:
        left_PD, right_PD, columns_S = ctx.saved_tensors
        grad_left_PD = SparseProduct.apply(grad_S, right_PD, columns_S)
        return grad_left_PD, SparseProduct.apply(transposed(grad_S, columns_S), left_PD, columns_S), None


class SparseProduct(torch.autograd.Function):
    """The sparse matrix with these entries times a dense one: (S), (P, C) -> (P, C)."""

    @staticmethod
    def forward(ctx: Any, values_S: Tensor, dense_PC: Tensor, columns_S: Tensor) -> Tensor:
        ctx.save_for_backward(values_S, dense_PC, columns_S)
        return csr(values_S, columns_S, len(dense_PC)) @ dense_PC.contiguous()

    @staticmethod
    def backward(ctx: Any, grad_PC: Tensor) -> tuple[Tensor, Tensor, None]:
        values_S, dense_PC, columns_S = ctx.saved_tensors
        grad_values_S = SampledProduct.apply(grad_PC, dense_PC, columns_S)
        return grad_values_S, SparseProduct.apply(transposed(values_S, columns_S), grad_PC, columns_S), None


def transposed(values_S: Tensor, columns_S: Tensor) -> Tensor:
    """The entries of the transposed matrix: crosses are mutual, so that its pattern is the same."""
    return values_S[columns_S.argsort(stable=True)]
