"""Criss-cross attention with as few passes over memory as its matrix products allow.

Three identities make it lean. The weights of a cross sum to one, so the value projection moves past the aggregation:
Wv applied to every value and then aggregated equals Wv applied once to the aggregated x, plus its bias. Then gamma
folds into Wv, and the residual is what the output product starts from. And the attention, cheap to make from query and
key, is made again in the backward pass instead of being kept.

Shape suffixes: as in `cross`; B the whole batch, D channels of query and key, E = 2 D, both side by side.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ccnet.models.ops.criss_cross import reference
from ccnet.models.ops.criss_cross.cross import affinity, gather, products, scatter
from ccnet.models.ops.criss_cross.projections import Projections

ROWS = 64  # of an image at a time in inference: attention and aggregated x are then small enough for a cache
TINY = 2**18  # numbers of an image


def attend(x_BCHW: Tensor, projections: Projections, dtype: torch.dtype) -> Tensor:
    """As `reference.attend`, which also gives the second derivative where one is asked for."""
    if wants_gradient(x_BCHW, projections):
        y_BCHW: Tensor = FusedAttention.apply(x_BCHW, dtype, *projections)
        return y_BCHW
    return attend_by_rows(x_BCHW, projections, dtype, num_rows=ROWS)


def wants_gradient(x_BCHW: Tensor, projections: Projections) -> bool:
    """Whether autograd will ask for one."""
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (x_BCHW, *projections))


def attend_by_rows(x_BCHW: Tensor, projections: Projections, dtype: torch.dtype, num_rows: int) -> Tensor:
    """Without gradient, so many rows of an image at a time: the fewer, the less memory beside input and output."""
    folded = Folded(projections, dtype)
    x_BHWC = _channels_last(x_BCHW)
    y_BHWC = torch.empty_like(x_BHWC)
    num_rows = min(num_rows, x_BHWC.shape[1])
    together = _together(x_BHWC) if num_rows == x_BHWC.shape[1] else 1  # rows of several images do not lie side by side
    buffer_bNWC = x_BHWC.new_empty(together, num_rows, *x_BHWC.shape[2:], dtype=dtype)
    for x_bHWC, y_bHWC in zip(x_BHWC.split(together), y_BHWC.split(together), strict=True):
        value_bHWC = x_bHWC.to(dtype)
        query_bHWD, key_bHWD = folded.query_key(value_bHWC).chunk(2, dim=-1)
        for top in range(0, x_BHWC.shape[1], num_rows):
            rows = slice(top, top + num_rows)
            aggregated_bNWC = buffer_bNWC[: len(value_bHWC), : value_bHWC.shape[1] - top]
            attention_bNWK = affinity(query_bHWD[:, rows], key_bHWD, top).to(dtype)
            gather(attention_bNWK, value_bHWC, aggregated_bNWC, top)
            folded.project(aggregated_bNWC, x_bHWC[:, rows], out=y_bHWC[:, rows])
    return y_BHWC.permute(0, 3, 1, 2)


class FusedAttention(torch.autograd.Function):
    """`attend` with its gradient. Keeps x, which is there anyway, query and key, and the aggregated x."""

    @staticmethod
    def forward(ctx: Any, x_BCHW: Tensor, dtype: torch.dtype, *parameters: Tensor) -> Tensor:
        folded = Folded(Projections(*parameters), dtype)
        x_BHWC = _channels_last(x_BCHW)
        y_BHWC, kept, together = torch.empty_like(x_BHWC), [], _together(x_BHWC)
        for x_bHWC, y_bHWC in zip(x_BHWC.split(together), y_BHWC.split(together), strict=True):
            value_bHWC = x_bHWC.to(dtype)
            query_key_bHWE = folded.query_key(value_bHWC)
            aggregated_bHWC = torch.empty_like(value_bHWC)
            query_bHWD, key_bHWD = query_key_bHWE.chunk(2, dim=-1)
            gather(affinity(query_bHWD, key_bHWD).to(dtype), value_bHWC, aggregated_bHWC)
            folded.project(aggregated_bHWC, x_bHWC, out=y_bHWC)
            kept += [query_key_bHWE, aggregated_bHWC]
        ctx.save_for_backward(x_BCHW, *parameters, *kept)
        ctx.dtype = dtype
        return y_BHWC.permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, grad_BCHW: Tensor) -> tuple[Tensor | None, ...]:
        x_BCHW, *parameters_and_kept = ctx.saved_tensors
        projections, kept = Projections(*parameters_and_kept[:7]), parameters_and_kept[7:]
        with torch.autocast(grad_BCHW.device.type, enabled=False):
            if torch.is_grad_enabled():
                return _differentiable_gradients(x_BCHW, projections, ctx.dtype, grad_BCHW)
            gradients = Gradients(projections, ctx.dtype)
            x_BHWC, grad_BHWC = _channels_last(x_BCHW), _channels_last(grad_BCHW)
            grad_x_BHWC, together = torch.empty_like(x_BHWC, dtype=ctx.dtype), _together(x_BHWC)
            batches = [tensor.split(together) for tensor in (x_BHWC, grad_BHWC, grad_x_BHWC)]
            for images in zip(*batches, kept[::2], kept[1::2], strict=True):
                gradients.add(*images)
            grad_x_BHWC = grad_x_BHWC.to(grad_BHWC.dtype).add_(grad_BHWC)
        return grad_x_BHWC.permute(0, 3, 1, 2), None, *gradients.of_parameters()


class Folded:
    """The projections as two matrix products: query and key side by side, and the value's with gamma in it."""

    def __init__(self, projections: Projections, dtype: torch.dtype) -> None:
        p = projections
        self.query_key_EC = torch.cat([p.query_weight, p.key_weight]).to(dtype)
        self.query_key_bias_E = torch.cat([p.query_bias, p.key_bias]).to(dtype)
        self.value_CC = (p.gamma * p.value_weight).to(dtype)
        self.value_bias_C = p.gamma * p.value_bias

    def query_key(self, x_bHWC: Tensor) -> Tensor:
        """(b, H, W, C) -> (b, H, W, 2 D)."""
        return F.linear(x_bHWC, self.query_key_EC, self.query_key_bias_E)

    def project(self, aggregated_bNWC: Tensor, residual_bNWC: Tensor, out: Tensor) -> None:
        """out = residual + gamma (Wv aggregated + bv)."""
        torch.add(residual_bNWC, self.value_bias_C, out=out)
        _add_product(out, aggregated_bNWC, self.value_CC.t())


class Gradients:
    """The gradients of a batch, summed over images in the precision of the parameters."""

    def __init__(self, projections: Projections, dtype: torch.dtype) -> None:
        p = self.projections = projections
        self.folded = Folded(p, dtype)
        self.query_key_EC = torch.zeros_like(torch.cat([p.query_weight, p.key_weight]))
        self.query_key_bias_E = torch.zeros_like(torch.cat([p.query_bias, p.key_bias]))
        self.value_CC, self.value_bias_C = torch.zeros_like(p.value_weight), torch.zeros_like(p.value_bias)

    def add(
        self, x_bHWC: Tensor, grad_bHWC: Tensor, grad_x_bHWC: Tensor, query_key_bHWE: Tensor, aggregated_bHWC: Tensor
    ) -> None:
        """Takes in some images, and writes the gradient of their x into `grad_x_bHWC`."""
        dtype = aggregated_bHWC.dtype
        value_bHWC, grad_y_bHWC = x_bHWC.to(dtype), grad_bHWC.to(dtype)
        query_bHWD, key_bHWD = query_key_bHWE.chunk(2, dim=-1)
        attention_bHWK = affinity(query_bHWD, key_bHWD)
        grad_aggregated_bHWC = grad_y_bHWC @ self.folded.value_CC
        grad_attention_bHWK = products(grad_aggregated_bHWC, value_bHWC).to(attention_bHWK.dtype)
        grad_logits_bHWK = _through_softmax(attention_bHWK, grad_attention_bHWK).to(dtype)
        # The gradient of the key's bias is rounding noise: a bias adds q.b to all logits of a position, and the softmax
        # takes what is common to them away. It is there because the checkpoints of other frameworks have it.
        grad_query_bHWD, grad_key_bHWD = torch.empty_like(query_bHWD), torch.empty_like(query_bHWD)
        gather(grad_logits_bHWK, key_bHWD, grad_query_bHWD)
        scatter(grad_logits_bHWK, query_bHWD, grad_key_bHWD)
        grad_query_key_bHWE = torch.cat([grad_query_bHWD, grad_key_bHWD], dim=-1)
        self.query_key_EC += grad_query_key_bHWE.flatten(0, 2).t() @ value_bHWC.flatten(0, 2)
        self.query_key_bias_E += grad_query_key_bHWE.sum((0, 1, 2), dtype=self.query_key_bias_E.dtype)
        self.value_CC += grad_y_bHWC.flatten(0, 2).t() @ aggregated_bHWC.flatten(0, 2)
        self.value_bias_C += grad_bHWC.sum((0, 1, 2), dtype=self.value_bias_C.dtype)
        scatter(attention_bHWK.to(dtype), grad_aggregated_bHWC, grad_x_bHWC)
        _add_product(grad_x_bHWC, grad_query_key_bHWE, self.folded.query_key_EC)

    def of_parameters(self) -> Projections:
        """From the folded matrices back to the parameters they were made of."""
        p = self.projections
        query_weight, key_weight = self.query_key_EC.chunk(2)
        query_bias, key_bias = self.query_key_bias_E.chunk(2)
        gamma = (self.value_CC * p.value_weight).sum() + self.value_bias_C @ p.value_bias
        return Projections(
            query_weight, query_bias, key_weight, key_bias,
            p.gamma * self.value_CC, p.gamma * self.value_bias_C, gamma.view_as(p.gamma),
        )  # fmt: skip


def _through_softmax(attention: Tensor, grad: Tensor) -> Tensor:
    """dS = A (dA - <A, dA>), in the place of dA."""
    return grad.sub_(torch.linalg.vecdot(attention, grad).unsqueeze(-1)).mul_(attention)


def _add_product(out_bNWC: Tensor, left_bNWE: Tensor, right_EC: Tensor) -> None:
    """out += left @ right, where out may be of higher precision than the product."""
    if out_bNWC.dtype == left_bNWE.dtype:
        out_bNWC.view(-1, out_bNWC.shape[-1]).addmm_(left_bNWE.flatten(0, 2), right_EC)
    else:
        out_bNWC += left_bNWE @ right_EC


def _channels_last(x_BCHW: Tensor) -> Tensor:
    return x_BCHW.permute(0, 2, 3, 1).contiguous()


def _together(x_BHWC: Tensor) -> int:
    """How many images to take at a time.

    On the CPU one: its columns are matrices without a copy then, and its temporaries stay in the cache. But of tiny
    images several, and elsewhere all, as starting a product takes longer than the copy.
    """
    return max(1, TINY // x_BHWC[0].numel()) if x_BHWC.device.type == "cpu" else len(x_BHWC)


def _differentiable_gradients(
    x_BCHW: Tensor, projections: Projections, dtype: torch.dtype, grad_BCHW: Tensor
) -> tuple[Tensor | None, ...]:
    # Names of their own for the inputs: x may itself depend on the parameters, as in a second loop, and their gradient
    # through x is the outer graph's to add.
    x_BCHW, *parameters = inputs = [tensor.view_as(tensor) for tensor in (x_BCHW, *projections)]
    wanted = [tensor for tensor in inputs if tensor.requires_grad]
    y_BCHW = reference.attend(x_BCHW, Projections(*parameters), dtype)
    found = iter(torch.autograd.grad(y_BCHW, wanted, grad_BCHW, create_graph=True))
    grad_x, *gradients = [next(found) if tensor.requires_grad else None for tensor in inputs]
    return grad_x, None, *gradients
