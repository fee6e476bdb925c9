"""Recomputing changes what is kept, and nothing else."""

import copy
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from ccnet.benchmarks.memory import saved_bytes
from ccnet.errors import ConfigError
from ccnet.models import activation_checkpointing
from ccnet.models.activation_checkpointing import blocks, checkpoint_activations
from ccnet.models.backbones.mobilenet_v3 import MobileNetV3
from ccnet.models.backbones.patches import Patches
from ccnet.models.backbones.resnet import ResNet

BACKBONES: dict[str, Callable[[], nn.Module]] = {
    "resnet18": lambda: ResNet(18),
    "resnet50": lambda: ResNet(50),
    "mobilenet_v3_small": lambda: MobileNetV3("small"),
}


class Residual(nn.Module):
    """Two layers with everything that a second run could spoil: dropout, statistics, an activation in place."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.Dropout(0.5), nn.Conv2d(8, 8, 1)
        )

    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
        return x + scale * self.layers(x)


class Network(nn.Module):
    """A plug-in's backbone: blocks in a list, one of them called with a keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.blocks = nn.ModuleList([Residual(), Residual()])

    def forward(self, image: Tensor) -> list[Tensor]:
        x = self.stem(image)
        return [x := self.blocks[0](x), self.blocks[1](x, scale=0.5)]


def pair(make: Callable[[], nn.Module]) -> tuple[nn.Module, nn.Module]:
    """A network, and the same one that recomputes."""
    torch.manual_seed(0)
    plain = make()
    recomputing = copy.deepcopy(plain)
    checkpoint_activations(recomputing)
    return plain, recomputing


@pytest.mark.parametrize(
    ("make", "precision"),
    [
        (BACKBONES["resnet18"], None),
        pytest.param(BACKBONES["resnet50"], torch.bfloat16, marks=pytest.mark.long),
        (BACKBONES["mobilenet_v3_small"], None),
        (Network, None),
        (Network, torch.bfloat16),
    ],
    ids=["resnet18", "resnet50-bf16", "mobilenet", "plug-in", "plug-in-bf16"],
)
def test_outputs_gradients_and_buffers_are_those_without(
    make: Callable[[], nn.Module], precision: torch.dtype | None
) -> None:
    """Oracle: the plain network over two steps, bit for bit; a copy of the recomputing one is as good."""
    plain, recomputing = pair(make)
    networks = [plain, recomputing, copy.deepcopy(recomputing)]
    optimizers = [torch.optim.SGD(network.parameters(), lr=0.01) for network in networks]
    for step in range(2):
        image = torch.randn(2, 3, 33, 33)
        outputs = []
        for network, optimizer in zip(networks, optimizers, strict=True):
            torch.manual_seed(step)
            with torch.autocast("cpu", precision, enabled=precision is not None):
                outputs.append(network(image)[-1])
            optimizer.zero_grad()
            outputs[-1].float().square().mean().backward()
            optimizer.step()
            assert torch.equal(outputs[0], outputs[-1])
            for name, value in plain.named_parameters():
                assert torch.equal(value.grad, network.get_parameter(name).grad), name
            for name, value in plain.state_dict().items():
                assert torch.equal(value, network.state_dict()[name]), name


@pytest.mark.parametrize(
    ("make", "count", "factor"), [(BACKBONES["resnet50"], 16, 2.5), (BACKBONES["mobilenet_v3_small"], 11, 5)]
)
def test_blocks_keep_their_input_alone(make: Callable[[], nn.Module], count: int, factor: float) -> None:
    """Oracle: the number of blocks in the papers' tables; the bytes that autograd keeps."""
    plain, recomputing = pair(make)
    assert len(list(blocks(plain))) == count
    image = torch.randn(1, 3, 65, 65)
    kept = [saved_bytes(partial(network, image), [image, *network.parameters()]) for network in (plain, recomputing)]
    assert kept[0] > factor * kept[1]


def test_tree_and_keys_stay_and_without_gradients_blocks_are_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: names of modules and tensors; the number of calls, with gradients and without."""
    plain, recomputing = pair(Network)
    assert [name for name, _ in plain.named_modules()] == [name for name, _ in recomputing.named_modules()]
    assert list(plain.state_dict()) == list(recomputing.state_dict())
    calls: list[nn.Module] = []
    recomputing.blocks[0].layers.register_forward_pre_hook(lambda module, inputs: calls.append(module))
    image = torch.randn(1, 3, 8, 8)
    recomputing(image)[-1].sum().backward()
    assert len(calls) == 2
    recomputing.eval()
    plain.load_state_dict(recomputing.state_dict())
    monkeypatch.setattr(activation_checkpointing, "checkpoint", None)
    with torch.no_grad():
        assert torch.equal(recomputing(image)[-1], plain.eval()(image)[-1])
    assert len(calls) == 3


def test_statistics_are_left_alone_by_a_second_run_that_fails() -> None:
    """Oracle: the buffers before, and the very same tensors, which others may hold."""
    network = Network()
    checkpoint_activations(network)
    output = network(torch.randn(1, 3, 8, 8))[-1].sum()
    norm = network.blocks[0].layers[1]
    before, value = norm.running_mean, norm.running_mean.clone()

    def fail(module: nn.Module, inputs: object, output: object) -> None:
        raise KeyError

    norm.register_forward_hook(fail)
    with pytest.raises(KeyError):
        output.backward()
    assert norm.running_mean is before
    assert torch.equal(before, value)


def test_a_backbone_without_blocks_is_refused() -> None:
    """Oracle: the message names key and backbone; a stage of one convolution is no block."""
    with pytest.raises(ConfigError, match=r"^trainer\.activation_checkpointing: Patches has no blocks"):
        checkpoint_activations(Patches())


@pytest.mark.long
def test_the_compiler_takes_it() -> None:
    """Oracle: the plain network without compiler, to rounding; statistics counted once."""
    plain, recomputing = pair(Network)
    for network in (plain, recomputing):
        network.blocks.apply(lambda module: setattr(module, "p", 0.0) if isinstance(module, nn.Dropout) else None)
    image = torch.randn(2, 3, 16, 16)
    outputs = [network(image)[-1] for network in (plain, torch.compile(recomputing, backend="aot_eager"))]
    for output in outputs:
        output.square().mean().backward()
    torch.testing.assert_close(*outputs)
    for name, value in plain.named_parameters():
        torch.testing.assert_close(value.grad, recomputing.get_parameter(name).grad)
    torch.testing.assert_close(plain.state_dict(), recomputing.state_dict())
