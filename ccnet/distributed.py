"""Ranks: the only file that knows torch.distributed. Without torchrun every function is the one of a single rank."""

import os
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist

from ccnet.errors import ConfigError


def setup(device: str) -> torch.device:
    """Joins the process group that torchrun describes in the environment, if there is one.

    Args:
        device: auto, cuda, mps or cpu.

    Returns:
        The device of this rank.

    Raises:
        ConfigError: a device that this machine has not.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if (device == "cuda" and not torch.cuda.is_available()) or (
        device == "mps" and not torch.backends.mps.is_available()
    ):
        raise ConfigError(f"device {device} is not there; use auto or cpu (trainer.device, or --device)")
    own = torch.device(device, int(os.environ.get("LOCAL_RANK", "0"))) if device == "cuda" else torch.device(device)
    if device == "cuda":
        torch.cuda.set_device(own)
    if "WORLD_SIZE" in os.environ and not dist.is_initialized():
        dist.init_process_group("nccl" if device == "cuda" else "gloo", device_id=own if device == "cuda" else None)
    return own


def shutdown() -> None:
    """Leaves the process group."""
    if dist.is_initialized():
        dist.destroy_process_group()


def rank() -> int:
    """Index of this process, 0 without a process group."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Number of processes, 1 without a process group."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main() -> bool:
    """True on the rank that writes files and prints."""
    return rank() == 0


def barrier() -> None:
    """Waits for all ranks."""
    if dist.is_initialized():
        dist.barrier()


def sum_over_ranks(tensor: Tensor) -> Tensor:
    """The sum of a tensor over all ranks; the tensor itself is left alone."""
    if not dist.is_initialized():
        return tensor
    total = tensor.clone()
    dist.all_reduce(total)
    return total


class _SumOverRanks(torch.autograd.Function):
    """Every rank's loss depends on every rank's summand, so a summand's gradient is the sum of all ranks' gradients."""

    @staticmethod
    def forward(_context: Any, tensor: Tensor) -> Tensor:
        return sum_over_ranks(tensor)

    @staticmethod
    def backward(_context: Any, gradient: Tensor) -> Tensor:
        return sum_over_ranks(gradient.contiguous())


def differentiable_sum_over_ranks(tensor: Tensor) -> Tensor:
    """The sum of a tensor over all ranks, for losses that are no mean over pixels but a function of such sums.

    Where each rank's loss is that function, or a share of the whole times the number of ranks, the mean over ranks
    that DistributedDataParallel takes of the gradients is the gradient of one process on the joined batch.
    """
    return _SumOverRanks.apply(tensor) if dist.is_initialized() else tensor


def joined_over_ranks(tensor: Tensor) -> Tensor:
    """Tensors of one dimension and of equal length on all ranks, one after the other; without gradient."""
    if not dist.is_initialized():
        return tensor
    tensors = [torch.empty_like(tensor) for _ in range(world_size())]
    dist.all_gather(tensors, tensor)
    return torch.cat(tensors)


def mean_over_ranks(total: Tensor, count: Tensor) -> Tensor:
    """A loss whose mean is taken over the elements of *all* ranks, whatever share each of them holds.

    Args:
        total: scalar, this rank's sum, differentiable.
        count: scalar, this rank's number of elements, or the sum of their weights.

    Returns:
        total / (count over all ranks) * world size: the mean over ranks that DistributedDataParallel takes of the
        gradients then is the gradient of the global mean. 0 where nothing is counted.
    """
    everywhere = sum_over_ranks(count.detach().to(total.dtype))
    return total * world_size() / everywhere.where(everywhere > 0, 1)


def parallel(model: nn.Module, device: torch.device) -> nn.Module:
    """The model as training sees it: gradients averaged over ranks, batch statistics shared on CUDA."""
    if not dist.is_initialized():
        return model
    if device.type == "cuda":
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        return nn.parallel.DistributedDataParallel(model, device_ids=[device.index])
    return nn.parallel.DistributedDataParallel(model)


def share_buffers(model: nn.Module) -> None:
    """Gives every rank the first one's buffers: without SyncBatchNorm each rank has statistics of its own."""
    if dist.is_initialized():
        for buffer in model.buffers():
            dist.broadcast(buffer, src=0)
