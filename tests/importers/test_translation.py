"""Every tensor is accounted for: names, shapes, kinds."""

import pytest
import torch
from torch import Tensor, nn

from ccnet.errors import CheckpointError
from ccnet.importers.translation import Names, resnet_depth, translated
from tests.importers.foreign_files import source

NAMES = Names({"stem.": "first.", "stem.bn.": "second.", "gamma.scale": "gamma"})


class Small(nn.Module):
    """A convolution, a norm, and a parameter of one number."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3)
        self.gamma = nn.Parameter(torch.zeros(1))


def state() -> dict[str, Tensor]:
    norm = {part: torch.rand(3) for part in ("weight", "bias", "running_mean", "running_var")}
    return {
        "stem.weight": torch.rand(3, 2, 1, 1), "stem.bias": torch.rand(3), "gamma.scale": torch.tensor(0.5),
        **{f"stem.bn.{part}": value for part, value in norm.items()}, "stem.bn.num_batches_tracked": torch.tensor(4),
    }  # fmt: skip


def test_the_longest_beginning_counts_in_both_directions() -> None:
    """Oracle: the pairs, written out."""
    ours = {"stem.weight": "first.weight", "stem.bn.weight": "second.weight", "gamma.scale": "gamma"}
    assert {name: NAMES.ours(name) for name in ours} == ours
    assert {NAMES.theirs(name): name for name in ours.values()} == ours
    assert NAMES.ours("head.weight") is None
    assert NAMES.theirs("head.weight") == "head.weight"


@pytest.mark.parametrize("counted", [True, False])
def test_a_network_is_filled_completely(counted: bool) -> None:
    """Oracle: their values under our names; a single number is a vector of one; only counters may be missing."""
    theirs = state()
    if not counted:
        del theirs["stem.bn.num_batches_tracked"]
    with torch.device("meta"):
        model = Small()
    ours = translated(source(theirs), NAMES, model)
    assert ours.keys() == model.state_dict().keys()
    assert torch.equal(ours["second.running_var"], theirs["stem.bn.running_var"])
    assert torch.equal(ours["gamma"], torch.tensor([0.5]))
    assert int(ours["second.num_batches_tracked"]) == (4 if counted else 0)
    assert ours["second.num_batches_tracked"].dtype == torch.int64


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stem.weight": None}, r"missing stem\.weight$"),
        ({"stem.bn.running_var": None, "gamma.scale": None}, r"missing gamma\.scale; missing stem\.bn\.running_var$"),
        ({"surprise": torch.ones(1)}, r"unexpected surprise$"),
        ({"stem.surprise": torch.ones(1)}, r"unexpected stem\.surprise$"),
        ({"gamma": torch.ones(1)}, r"unexpected gamma$"),
        ({"stem.weight": torch.rand(3, 2, 3, 3)}, r"stem\.weight is \(3, 2, 3, 3\), not \(3, 2, 1, 1\)$"),
        ({"stem.bias": torch.ones(3, dtype=torch.int64)}, r"stem\.bias is torch\.int64, not torch\.float32$"),
        (
            {"stem.bn.num_batches_tracked": torch.tensor(0.5)},
            r"num_batches_tracked is torch\.float32, not torch\.int64$",
        ),
        ({f"x{i}": torch.ones(1) for i in range(9)}, r"unexpected x0; .*; and 3 more$"),
    ],
)
def test_whatever_does_not_fit_is_named_in_one_line(change: dict[str, Tensor | None], message: str) -> None:
    """Oracle: the change made to a state that fits."""
    theirs = {name: value for name, value in {**state(), **change}.items() if value is not None}
    with pytest.raises(CheckpointError, match=message) as raised:
        translated(source(theirs), NAMES, Small())
    assert str(raised.value).startswith("file.pth is not what was told: ")


def test_two_names_of_one_tensor() -> None:
    """Oracle: the second one is unexpected: none silently wins."""
    both = Names({**NAMES.pairs, "old_gamma": "gamma"})
    with pytest.raises(CheckpointError, match="unexpected old_gamma"):
        translated(source({**state(), "old_gamma": torch.ones(1)}), both, Small())


@pytest.mark.parametrize("depth", [18, 34, 50, 101, 152])
def test_the_depth_is_told_by_the_blocks(depth: int) -> None:
    """Oracle: torchvision's own networks."""
    import torchvision

    with torch.device("meta"):
        network = getattr(torchvision.models, f"resnet{depth}")()
    named = {f"backbone.{name}": value for name, value in network.state_dict().items()}
    assert resnet_depth(source(named), "backbone.") == depth
    del named["backbone.layer3.1.conv1.weight"]
    with pytest.raises(CheckpointError, match=r"backbone\.layer1 to layer4 have .* blocks of \d convolutions"):
        resnet_depth(source(named), "backbone.")
