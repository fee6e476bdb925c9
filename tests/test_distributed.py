"""Two ranks of a gloo group against one process. This file is also the program that each rank runs."""

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch import distributed as dist

from ccnet import distributed
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
    norm = nn.BatchNorm1d(1)
    nn.init.constant_(norm.running_mean, rank + 5.0)
    distributed.share_buffers(norm)
    results["buffer"] = norm.running_mean
    results["ranks"] = torch.tensor([distributed.rank(), distributed.world_size(), distributed.is_main()])
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
        assert results["own"].tolist() == [1, 10 * number]
        assert results["buffer"].tolist() == [5.0]
        assert results["ranks"].tolist() == [number, 2, number == 0]


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
    distributed.barrier()
    distributed.shutdown()


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
