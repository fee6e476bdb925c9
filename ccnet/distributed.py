"""Ranks: the only file that knows torch.distributed. A process on its own is a single rank."""

import os
import re
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch import distributed as dist

from ccnet.errors import ConfigError

Item = TypeVar("Item")


def setup(device: str) -> torch.device:
    """Joins the process group that torchrun, or SLURM's srun, describes in the environment, if there is one.

    Args:
        device: auto, cuda, mps or cpu.

    Returns:
        The device of this rank.

    Raises:
        ConfigError: a device that this machine has not, or more processes than it has cards.
    """
    _translate_slurm()
    in_group = "WORLD_SIZE" in os.environ
    if device == "auto":
        # gloo, the only backend there, does not reduce what lies on Apple's MPS.
        mps = torch.backends.mps.is_available() and not in_group
        device = "cuda" if torch.cuda.is_available() else "mps" if mps else "cpu"
    if (device == "cuda" and not torch.cuda.is_available()) or (
        device == "mps" and not torch.backends.mps.is_available()
    ):
        raise ConfigError(f"device {device} is not there; use auto or cpu (trainer.device, or --device)")
    if device == "mps" and in_group:
        raise ConfigError("device mps trains in one process; start it without torchrun or srun, or use device cpu")
    own = torch.device(device, _own_card()) if device == "cuda" else torch.device(device)
    if device == "cuda":
        torch.cuda.set_device(own)
    if in_group and not dist.is_initialized():
        dist.init_process_group("nccl" if device == "cuda" else "gloo", device_id=own if device == "cuda" else None)
    return own


def _own_card() -> int:
    """Index of this process's card among those that it sees."""
    local, count = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if local < count:
        return local
    # srun --gpus-per-task=1 shows each task its own card alone. Under torchrun all processes see the same ones.
    if count == 1 and os.environ.get("SLURM_LOCALID") == str(local):
        return 0
    raise ConfigError(
        f"{local + 1} or more processes on a machine with {count} visible cards, and each needs one of its own; "
        f"start at most {count} (torchrun --nproc_per_node, srun --ntasks-per-node)"
    )


def _translate_slurm() -> None:
    """What srun says about its tasks, in the words of torchrun; a batch script itself is no task of srun."""
    step = {name: os.environ.get(f"SLURM_{name}") for name in ("STEP_NUM_TASKS", "PROCID", "LOCALID", "STEP_NODELIST")}
    if "WORLD_SIZE" in os.environ or None in step.values() or step["STEP_NUM_TASKS"] == "1":
        return
    # Rank 0 is on the first node: "gpu[07-09,12]-ib,big1" begins with gpu07-ib.
    first = re.match(r"(?:[^\[,]|\[[^\]]*\])*", str(step["STEP_NODELIST"]))
    host = re.sub(r"\[([^\],-]+)[^\]]*\]", r"\1", first[0]) if first else ""
    number = sum(int(os.environ.get(f"SLURM_{name}", "0")) for name in ("JOB_ID", "STEP_ID"))
    port = 20000 + number % 20000  # two jobs on a node, or two steps of a job, rarely take the same
    words = {"WORLD_SIZE": step["STEP_NUM_TASKS"], "RANK": step["PROCID"], "LOCAL_RANK": step["LOCALID"]}
    for name, value in {**words, "MASTER_ADDR": host, "MASTER_PORT": port}.items():
        os.environ.setdefault(name, str(value))


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


def on_main_first(action: Callable[[], object]) -> None:
    """Runs something on the first rank, while the others wait up to a day: a download outlasts the usual timeout."""
    if not dist.is_initialized():
        action()
        return
    group = dist.new_group(backend="gloo", timeout=timedelta(days=1))
    if is_main():
        action()
    dist.barrier(group)  # type: ignore[arg-type]  # a group: this rank is in it
    dist.destroy_process_group(group)


def sum_over_ranks(tensor: Tensor) -> Tensor:
    """The sum of a tensor over all ranks; the tensor itself is left alone."""
    if not dist.is_initialized():
        return tensor
    total = tensor.clone()
    dist.all_reduce(total)
    return total


def largest_over_ranks(number: int) -> int:
    """The largest of the ranks' numbers, so that all of them decide alike."""
    if not dist.is_initialized():
        return number
    on_gpu = dist.get_backend() == "nccl"
    largest = torch.tensor(number, device=torch.device("cuda", torch.cuda.current_device()) if on_gpu else "cpu")
    dist.all_reduce(largest, dist.ReduceOp.MAX)
    return int(largest.item())


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


def gather(items: Sequence[Item]) -> list[Item]:
    """All ranks' items on every rank: the first of each rank, then the second of each, and so on.

    That is the order of a data set whose samples the ranks take in turns. They travel as pickles, which the ranks of a
    run may believe of each other, by way of the CPU.
    """
    if not dist.is_initialized():
        return list(items)
    group = dist.new_group(backend="gloo")
    shares: list[Sequence[Item]] = [()] * world_size()
    dist.all_gather_object(shares, items, group)  # type: ignore[arg-type]  # a group: this rank is in it
    dist.destroy_process_group(group)
    longest = max(len(share) for share in shares)
    return [share[turn] for turn in range(longest) for share in shares if turn < len(share)]


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
        # Told of 1x1 convolutions, where strides may differ and the memory is the same (pytorch/pytorch#157862).
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        # SyncBatchNorm leaves the same statistics on every rank.
        return nn.parallel.DistributedDataParallel(model, device_ids=[device.index], broadcast_buffers=False)
    return nn.parallel.DistributedDataParallel(model)


def without_sync(model: nn.Module) -> AbstractContextManager[None]:
    """Backward passes in here leave every rank its own gradients, to be averaged by the first one outside."""
    return model.no_sync() if isinstance(model, nn.parallel.DistributedDataParallel) else nullcontext()


def share_buffers(model: nn.Module) -> None:
    """Gives every rank the first one's buffers: without SyncBatchNorm each rank has statistics of its own."""
    if dist.is_initialized():
        for buffer in model.buffers():
            dist.broadcast(buffer, src=0)
