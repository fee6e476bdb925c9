"""What plug-in attention costs: the layers by themselves, and in the networks that articles put them into."""

import copy
import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
import torchvision
from torch import nn
from torchvision.ops import SqueezeExcitation

from ccnet.allocator import keep_freed_memory
from ccnet.benchmarks.measure import Measured, Row, Step, compare, interleaved, run, summary, threads
from ccnet.benchmarks.operations import operation_counter
from ccnet.models.attention.forms import Kind, make_attention
from ccnet.models.attention.insertion import Mode, insert_attention

NAME = "plug_in_attention"
FORMS: tuple[Kind, ...] = ("dual", "dual_light", "channel")
PEER = "squeeze-excitation"  # torchvision's channel attention (arXiv:1709.01507), which is our channel gate
CHANNELS, SIDE, IMAGE = 512, 64, 224


@dataclass(frozen=True)
class Host:
    """A network of torchvision's, and where articles put attention into it."""

    name: str
    at: str
    placements: Mapping[str, tuple[Kind, Mode]]

    def __str__(self) -> str:
        """The part of a case's name that tells both."""
        return f"{self.name} at {self.at}"

    def build(self) -> dict[str, nn.Module]:
        """The plain network, and with attention: all share the network's own numbers."""
        plain = torchvision.models.get_model(self.name, weights=None)
        found = {"plain": plain}
        for label, (kind, mode) in self.placements.items():
            network = copy.deepcopy(plain, {id(parameter): parameter for parameter in plain.parameters()})
            insert_attention(network, self.at, kind, mode)
            found[f"{label} {num_parameters(network) - num_parameters(plain):+,}"] = network
        return found


AFTER: dict[str, tuple[Kind, Mode]] = {form: (form, "after") for form in FORMS}
HOSTS = (
    Host("vgg16", "features.28", AFTER),
    Host("resnet50", "layer4.1", {**AFTER, "replaced": ("dual", "replace")}),
    Host("mobilenet_v3_large", "features.15", AFTER),
)


def rows(quick: bool) -> Iterator[Row]:
    """Plug-in attention: operations and time of its forms, alone and in VGG16, ResNet-50 and MobileNetV3."""
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    keep_freed_memory(torch.device("cpu"))
    yield from run([step for device in devices for step in steps(device, quick)])


def steps(device: str, quick: bool) -> list[Step]:
    """The layers, then each network; a variant's name tells the parameters that it has, or adds."""
    seconds, image = (0.0, IMAGE // 2) if quick else (20.0, IMAGE)
    where = " CUDA" if device == "cuda" else ", 1 thread"
    case = f"2x{CHANNELS}x{SIDE}x{SIDE} forward+backward{where}"
    sizes = (2, CHANNELS, SIDE, SIDE)
    found: list[Step] = [(case, functools.partial(compared, case, layers, sizes, device, seconds))]
    for host in HOSTS:
        case = f"{host} 2x3x{image}x{image} forward+backward{where}"
        found.append((case, functools.partial(compared, case, host.build, (2, 3, image, image), device, seconds)))
    return found


def layers() -> dict[str, nn.Module]:
    """All forms, behind the peer, which has the channel gate's reduction."""
    made: dict[str, nn.Module] = {form: make_attention(CHANNELS, form) for form in FORMS}
    named = {f"{form} {num_parameters(layer):,}": layer for form, layer in made.items()}
    return {PEER: SqueezeExcitation(CHANNELS, CHANNELS // 8), **named}


def num_parameters(module: nn.Module) -> int:
    """Of the whole module."""
    return sum(parameter.numel() for parameter in module.parameters())


def compared(
    case: str, build: Callable[[], Mapping[str, nn.Module]], size: tuple[int, ...], device: str, seconds: float
) -> Iterator[Row]:
    """Operations of the forward pass, and time of a training step's both, against the first variant.

    PyTorch's counter takes the backward pass of a depthwise convolution for that of a full one.
    """
    modules = {name: module.to(device) for name, module in build().items()}
    baseline = next(iter(modules))
    x = torch.rand(size, device=device, requires_grad=True)
    calls = {name: functools.partial(_pass, module, x) for name, module in modules.items()}
    operations = {name: Measured(_operations(module, x)) for name, module in modules.items()}
    yield from compare(NAME, case, "flops (forward)", operations, baseline)
    with threads(1):
        samples = interleaved(calls, seconds, device=device, calls=20 if device == "cuda" else 1)
    yield from compare(NAME, case, "time", {name: summary(each.time) for name, each in samples.items()}, baseline)


def _pass(module: nn.Module, x: torch.Tensor) -> None:
    module.zero_grad()
    module(x).sum().backward()


@torch.no_grad()
def _operations(module: nn.Module, x: torch.Tensor) -> int:
    with operation_counter() as counter:
        module(x)
    return counter.get_total_flops()
