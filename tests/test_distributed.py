"""Two ranks of a gloo group against one process. This file is also the program that each rank runs."""

import os
import subprocess
import sys
import time
import warnings
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch import distributed as dist

from ccnet import distributed
from ccnet.errors import ConfigError
from ccnet.losses.consistency import CategoryConsistency
from ccnet.losses.cross_entropy import CrossEntropy
from ccnet.losses.dice import Dice
from ccnet.losses.focal import Focal
from ccnet.losses.ohem import OHEM

CLASS_WEIGHTS = (0.3, 1.0, 2.5)
# With 0.05 the threshold alone keeps nothing, so that min_kept decides; 1000 keeps every valid pixel.
LOSSES: dict[str, nn.Module] = {
    "cross entropy": CrossEntropy(),
    "weighted cross entropy": CrossEntropy(CLASS_WEIGHTS),
    "ohem": OHEM(0.05, 7, global_batch=True),
    "ohem over the valid": OHEM(0.05, 7, normaliser="valid", global_batch=True),
    "ohem of more than there are": OHEM(0.05, 1000, global_batch=True),
    "ohem by threshold": OHEM(0.4, 0, global_batch=True),
    "ohem of a coarse map": OHEM(0.05, 17, threshold_stride=2, global_batch=True),
    "focal": Focal(alpha=CLASS_WEIGHTS),
    "dice": Dice(smooth=1.0),
    "consistency": CategoryConsistency(delta_v=0.05, delta_d=0.3, gamma=1.0),
    "consistency, hinge": CategoryConsistency(delta_v=0.05, form="hinge", class_weights=CLASS_WEIGHTS),
}


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Conv2d(2, 3, 3, padding=1)


def batch(case: str) -> tuple[Tensor, Tensor]:
    """Two images of which rank 0 takes the first: few of its pixels are valid, or none at all."""
    torch.manual_seed(1)
    images, masks = torch.randn(2, 2, 6, 5), torch.randint(0, 3, (2, 6, 5))
    masks[0] %= 2  # the third class is on the other rank only
    masks[0, 0 if case == "none" else 1 :] = 255
    return images, masks


def gradient(network: nn.Module, images: Tensor, masks: Tensor, loss: str) -> Tensor:
    network.zero_grad()
    LOSSES[loss](network(images), masks).backward()
    return torch.cat([parameter.grad.flatten() for parameter in network.parameters() if parameter.grad is not None])


def on_a_rank(folder: Path, rank: int) -> None:
    """Joins the group and writes the gradients that DistributedDataParallel leaves on this rank."""
    rendezvous = f"file://{folder / 'rendezvous'}"
    dist.init_process_group("gloo", rendezvous, timedelta(seconds=60), world_size=2, rank=rank)
    network = distributed.parallel(model(), torch.device("cpu"))
    results: dict[str, Tensor | int] = {}
    for case in ("few", "none"):
        images, masks = (part[rank : rank + 1] for part in batch(case))
        for loss in LOSSES:
            results[f"{case}: {loss}"] = gradient(network, images, masks, loss)
    own = torch.tensor([1, 10 * rank])
    results["summed"], results["own"] = distributed.sum_over_ranks(own), own
    results["joined"] = distributed.joined_over_ranks(own)
    results["gathered"] = torch.tensor(distributed.gather([10 * rank + turn for turn in range(1 + 2 * rank)]))
    results["largest"] = torch.tensor(distributed.largest_over_ranks(7 if rank == 0 else 0))
    with distributed.without_sync(network):
        results["own gradient"] = gradient(network, images, masks, "cross entropy")
    norm = nn.BatchNorm1d(1)
    nn.init.constant_(norm.running_mean, rank + 5.0)
    distributed.share_buffers(norm)
    results["buffer"] = norm.running_mean
    results["ranks"] = torch.tensor([distributed.rank(), distributed.world_size(), distributed.is_main()])
    made = folder / "made once"
    distributed.on_main_first(lambda: (time.sleep(0.5), made.touch(exist_ok=False)))
    results["main first"] = torch.tensor(made.exists())
    torch.save(results, folder / f"{rank}.pt")
    distributed.barrier()
    distributed.shutdown()


def test_two_ranks(tmp_path: Path) -> None:
    """Oracle: one process on the joined batch (gradients of every loss that is defined over all ranks' pixels, where
    one rank has few valid ones or none), and sums, ranks and rank 0's buffers by hand."""
    program = [sys.executable, __file__, str(tmp_path)]
    ranks = [subprocess.Popen([*program, str(rank)], stderr=subprocess.PIPE, text=True) for rank in range(2)]
    for rank in ranks:
        _, errors = rank.communicate(timeout=120)
        assert rank.returncode == 0, errors
    for number in range(2):
        results = torch.load(tmp_path / f"{number}.pt")
        for case in ("few", "none"):
            for loss in LOSSES:
                expected = gradient(model(), *batch(case), loss)
                torch.testing.assert_close(results[f"{case}: {loss}"], expected, msg=f"{case}: {loss}")
                assert expected.any(), loss
        assert results["summed"].tolist() == [2, 10]
        assert results["joined"].tolist() == [1, 0, 1, 10]
        assert results["gathered"].tolist() == [0, 10, 11, 12]
        assert results["largest"] == 7
        assert results["main first"]
        assert results["own"].tolist() == [1, 10 * number]
        assert results["buffer"].tolist() == [5.0]
        assert results["ranks"].tolist() == [number, 2, number == 0]
    gradients = [torch.load(tmp_path / f"{number}.pt")["own gradient"] for number in range(2)]
    assert not torch.equal(*gradients)


def test_without_a_group_there_is_one_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the functions of a single rank: identity, and a plain mean."""
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    network, tensor = model(), torch.tensor([3.0])
    assert distributed.setup("cpu") == torch.device("cpu")
    assert (distributed.rank(), distributed.world_size(), distributed.is_main()) == (0, 1, True)
    assert distributed.parallel(network, torch.device("cpu")) is network
    for function in (
        distributed.sum_over_ranks,
        distributed.differentiable_sum_over_ranks,
        distributed.joined_over_ranks,
    ):
        assert torch.equal(function(tensor), tensor)
    assert distributed.gather(("a", 1)) == ["a", 1]
    distributed.barrier()
    distributed.shutdown()


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("gpu[07-09,12],big1", "gpu07"),
        ("gpu[3,5]", "gpu3"),
        ("big1,gpu[1-2]", "big1"),
        ("node-a.site", "node-a.site"),
        ("c[1-2]-0", "c1-0"),
        ("c[1,3]-0,c[5-6]-1", "c1-0"),
        ("rack[0-1]node[3-4].ib,x", "rack0node3.ib"),
    ],
)
def test_srun_needs_no_torchrun(nodes: str, first: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: torchrun's variables, which srun's translate to by hand; where torchrun speaks, it is heard alone; the
    batch script itself, and a step of one task, are single processes."""
    started: list[str] = []
    monkeypatch.setattr(dist, "init_process_group", lambda backend, **_: started.append(backend))
    step = {"SLURM_STEP_NUM_TASKS": "8", "SLURM_PROCID": "5", "SLURM_LOCALID": "1", "SLURM_STEP_NODELIST": nodes,
            "SLURM_JOB_ID": "1234567"}  # fmt: skip
    words = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
    monkeypatch.setattr(os, "environ", {"SLURM_PROCID": "0", "SLURM_NTASKS": "8"})
    distributed.setup("cpu")
    os.environ |= {**step, "SLURM_STEP_NUM_TASKS": "1"}
    distributed.setup("cpu")
    assert started == []

    os.environ |= step
    distributed.setup("cpu")
    assert [os.environ[name] for name in words] == ["8", "5", "1", first, "34567"]
    assert started == ["gloo"]
    ports = []
    for number in ("0", "1"):
        monkeypatch.setattr(os, "environ", {**step, "SLURM_STEP_ID": number})
        distributed.setup("cpu")
        ports.append(os.environ["MASTER_PORT"])
    assert ports == ["34567", "34568"]

    monkeypatch.setattr(os, "environ", {**step, "WORLD_SIZE": "2", "RANK": "0"})
    distributed.setup("cpu")
    assert os.environ["WORLD_SIZE"] == "2"
    assert "MASTER_ADDR" not in os.environ


@pytest.mark.parametrize(
    ("environment", "cards", "index"),
    [
        ({}, 1, 0),
        ({"LOCAL_RANK": "1"}, 2, 1),
        ({"LOCAL_RANK": "1", "SLURM_LOCALID": "1"}, 1, 0),  # srun --gpus-per-task=1
        ({"LOCAL_RANK": "1", "SLURM_LOCALID": "1"}, 4, 1),
        ({"LOCAL_RANK": "1"}, 1, None),
        ({"LOCAL_RANK": "1", "SLURM_LOCALID": "0"}, 1, None),  # torchrun below srun
        ({"LOCAL_RANK": "4", "SLURM_LOCALID": "4"}, 4, None),
        ({"LOCAL_RANK": "4"}, 4, None),
    ],
)
def test_every_process_has_a_card(
    environment: dict[str, str], cards: int, index: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: the card by hand; where the processes are more than the cards, the documented error with their number."""
    chosen: list[torch.device] = []
    monkeypatch.setattr(os, "environ", environment)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cards)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    if index is None:
        with pytest.raises(ConfigError, match=rf"with {cards} visible cards, .* start at most {cards} \(torchrun"):
            distributed.setup("cuda")
        assert chosen == []
    else:
        assert distributed.setup("auto") == torch.device("cuda", index)
        assert chosen == [torch.device("cuda", index)]


def test_a_mac_trains_on_mps_in_one_process_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: MPS on its own; the CPU, which gloo reduces, where there is a group; MPS by name is refused there."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(dist, "init_process_group", lambda backend, **_: None)
    monkeypatch.setattr(os, "environ", {})
    assert distributed.setup("auto") == distributed.setup("mps") == torch.device("mps")
    srun = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_STEP_NODELIST": "mac"}
    for environment in ({"WORLD_SIZE": "2"}, srun):
        monkeypatch.setattr(os, "environ", {**environment})
        assert distributed.setup("auto") == torch.device("cpu")
        with pytest.raises(ConfigError, match="device mps trains in one process"):
            distributed.setup("mps")


def test_cuda_shares_statistics_once_and_quietly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: what DistributedDataParallel is told: no buffers on CUDA, where SyncBatchNorm shares the statistics, and
    its default on the CPU; of two warnings the one about 1x1 convolutions is not heard."""
    told: list[dict[str, object]] = []
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(nn.parallel, "DistributedDataParallel", lambda model, **how: told.append(how) or model)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        on_cpu = distributed.parallel(nn.Sequential(nn.BatchNorm2d(1)), torch.device("cpu"))
        on_cuda = distributed.parallel(nn.Sequential(nn.BatchNorm2d(1)), torch.device("cuda", 3))
        warnings.warn("Grad strides do not match bucket view strides. This may indicate", stacklevel=1)
        warnings.warn("something else", stacklevel=1)
    assert told == [{}, {"device_ids": [3], "broadcast_buffers": False}]
    assert [type(model[0]) for model in (on_cpu, on_cuda)] == [nn.BatchNorm2d, nn.SyncBatchNorm]  # type: ignore[index]
    assert [str(warning.message) for warning in heard] == ["something else"]


@pytest.mark.parametrize(("count", "mean"), [(4, 1.5), (0, 0.0)])
def test_mean_over_a_single_rank(count: int, mean: float) -> None:
    """Oracle: total / count; 0 with a gradient where nothing is counted."""
    total = torch.tensor(6.0 if count else 0.0, requires_grad=True)
    loss = distributed.mean_over_ranks(total, torch.tensor(count))
    loss.backward()
    assert loss.item() == mean
    assert total.grad is not None
    assert total.grad.isfinite()


if __name__ == "__main__":
    on_a_rank(Path(sys.argv[1]), int(sys.argv[2]))
