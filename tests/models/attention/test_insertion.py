"""Layers in a network that knows nothing of them."""

import copy
import io
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torchvision.models.resnet import Bottleneck

from ccnet.errors import ConfigError
from ccnet.models.activation_checkpointing import checkpoint_activations
from ccnet.models.attention.dual import DualAttention
from ccnet.models.attention.insertion import INSERTED, attach, insert_attention, insert_layers
from ccnet.models.attention.pyramid import PyramidFusion


class Doubling(nn.Module):
    """A layer whose work is seen at once."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.factor = nn.Parameter(torch.full((1,), 2.0))

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x


class Listing(nn.ModuleList):
    """A container that runs its children itself."""

    def forward(self, x: Tensor) -> Tensor:
        for child in self:
            x = child(x)
        return x


class Pair(nn.Module):
    """Two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, self.conv(x)


class Network(nn.Module):
    """Series, lists, bottlenecks, a pool, and what attention cannot follow."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.blocks = nn.ModuleList([Bottleneck(8, 2), nn.Sequential(Bottleneck(8, 2), Bottleneck(8, 2))])
        self.pool = nn.MaxPool2d(2)
        self.tail = nn.Sequential(nn.Conv2d(8, 12, 1, groups=4), nn.Sequential(nn.ReLU(), nn.MaxPool2d(2)))
        self.listing = Listing([nn.Conv2d(12, 12, 1)])
        self.pair = Pair()
        self.head = nn.Linear(12, 2)

    def forward(self, image: Tensor) -> Tensor:
        x = self.stem(image)
        for block in self.blocks:
            x = block(x)
        for layer in self.tail:  # module by module, as feature extractors run a series
            x = layer(x)
        return self.head(self.listing(x).mean((2, 3)))


@pytest.fixture
def network() -> Network:
    return Network().eval()


IMAGE = torch.rand(2, 3, 8, 12)


def output_of(network: nn.Module, name: str) -> Tensor:
    """What a module gave, as whoever called it saw it."""
    found: list[Tensor] = []
    handle = network.get_submodule(name).register_forward_hook(lambda *given: found.append(given[-1].clone()))
    network(IMAGE)
    handle.remove()
    return found[-1]


@pytest.mark.parametrize(
    ("name", "channels"),
    [("blocks.0", 8), ("blocks.1", 8), ("blocks.1.0", 8), ("stem", 8), ("stem.1", 8), ("stem.2", 8), ("tail.0", 12),
     ("tail.1", 12), ("tail", 12), ("blocks.0.conv1", 2), ("listing.0", 12)],
)  # fmt: skip
def test_a_layer_follows_what_is_named(network: Network, name: str, channels: int) -> None:
    """Oracle: the output before, doubled, and the channels by hand; all other names stay, and the old state loads."""
    leaf = {"stem": "stem.2", "blocks.1": "blocks.1.1", "tail": "tail.1.1", "tail.1": "tail.1.1"}.get(name, name)
    plain, state, before = network(IMAGE), copy.deepcopy(network.state_dict()), output_of(network, leaf)
    made: list[Doubling] = []
    assert insert_layers(network, name, lambda c: made.append(Doubling(c)) or made[-1]) == [name]
    assert [layer.channels for layer in made] == [channels]
    torch.testing.assert_close(output_of(network, leaf), 2 * before)
    assert network.state_dict().keys() - state.keys() == {f"{leaf}.{INSERTED}.factor"}
    assert not torch.equal(network(IMAGE), plain)
    assert network.load_state_dict(state, strict=False).unexpected_keys == []
    made[0].factor.data.fill_(1)
    assert torch.equal(network(IMAGE), plain)


@pytest.mark.parametrize("name", ["blocks.1.0", "blocks.0", "blocks.1", "stem.1", "stem.2"])
def test_a_layer_replaces_what_is_named(network: Network, name: str) -> None:
    """Oracle: the network with an identity in that place; the others keep their names."""
    other = copy.deepcopy(network)
    parent, _, leaf = name.rpartition(".")
    setattr(other.get_submodule(parent), leaf, nn.Identity())
    assert insert_layers(network, name, Doubling, "replace") == [name]
    network.get_submodule(name).get_submodule(INSERTED).factor.data.fill_(1)
    assert torch.equal(network(IMAGE), other(IMAGE))
    assert network.state_dict().keys() - other.state_dict().keys() == {f"{name}.{INSERTED}.factor"}


@pytest.mark.parametrize(
    ("at", "names"),
    [
        ("blocks.*", ["blocks.0", "blocks.1"]),
        ("blocks.*.0", ["blocks.1.0"]),
        ("*.[01]", ["stem.0", "stem.1", "blocks.0", "blocks.1", "tail.0", "tail.1", "listing.0"]),
        ("blocks.*.conv?", ["blocks.0.conv1", "blocks.0.conv2", "blocks.0.conv3"]),
        (["blocks.1.0", "stem.*", "blocks.1.*"], ["stem.0", "stem.1", "stem.2", "blocks.1.0", "blocks.1.1"]),
    ],
)
def test_globs(network: Network, at: Any, names: list[str]) -> None:
    """Oracle: the names by hand: a star stays within a part of a name, every place counts once, in the network's
    order."""
    assert insert_attention(network, at) == names
    network(IMAGE)


def test_a_module_with_two_names_takes_one_layer(network: Network) -> None:
    """Oracle: the only new factor."""
    network.alias = network.blocks[0]
    assert insert_layers(network, ["blocks.0", "alias"], Doubling) in (["blocks.0"], ["alias"])
    assert sum(isinstance(module, Doubling) for module in network.modules()) == 1


@pytest.mark.parametrize(
    ("at", "mode", "message"),
    [
        ("block.*", "after", r"attention.at=block.\* names no module of Network; nearest are blocks"),
        (["stem", "qqq"], "after", "attention.at=qqq names no module of Network; nearest are stem, blocks, pool"),
        ("", "after", "names no module"),
        ("pool", "after", "attention.at=pool: MaxPool2d has no convolution or norm that would tell its channels"),
        ("head", "after", "attention.at=head: Linear has no convolution"),
        ("blocks", "after", "attention.at=blocks: ModuleList is run module by module"),
        ("listing", "after", "attention.at=listing: Listing is run module by module"),
        ("pair", "after", r"attention.at=pair: Pair gives no \(B, C, H, W\) tensor but tuple"),
        ("stem.0", "replace", "attention.at=stem.0: Conv2d makes 8x64x64 of 3x64x64"),
        ("tail.1", "replace", "attention.at=tail.1: Sequential makes 12x32x32 of 12x64x64"),
        (["blocks.1", "blocks.1.1"], "after", "names blocks.1 and blocks.1.1, which ends or lies inside of it"),
        (["blocks.1", "blocks.1.0"], "replace", "names blocks.1 and blocks.1.0, which ends or lies inside of it"),
        ("stem", "before", "attention.mode must be after or replace, got before"),
    ],
)
def test_what_cannot_have_a_layer(network: Network, at: Any, mode: Any, message: str) -> None:
    """Oracle: the documented error; the network is as it was."""
    before = network(IMAGE), str(network)
    with pytest.raises(ConfigError, match=message):
        insert_attention(network, at, mode=mode)
    assert torch.equal(network(IMAGE), before[0])
    assert str(network) == before[1]


def test_a_vector_is_no_feature_map() -> None:
    """Oracle: the documented error."""
    network = nn.Sequential(nn.Sequential(nn.Conv2d(3, 8, 1), nn.Flatten()))
    with pytest.raises(ConfigError, match=r"attention.at=0: Sequential gives no .* but 2 dimensions"):
        insert_attention(network, "0")


def test_one_place_takes_one_layer(network: Network) -> None:
    """Oracle: the documented error, also through the container whose last module it is."""
    insert_attention(network, "tail.1")
    for name in ("tail.1", "tail"):
        with pytest.raises(ConfigError, match=f"attention.at={name}: a layer has been inserted there before"):
            insert_attention(network, name)


def test_a_layer_that_refuses_the_channels(network: Network) -> None:
    """Oracle: the place in front of the layer's own words."""
    with pytest.raises(ConfigError, match=r"attention.at=tail.0: channels must be a multiple of reduction=8, got 12"):
        insert_attention(network, ["stem", "tail.0"], "criss_cross")
    assert not any(INSERTED in name for name in network.state_dict())


def test_the_network_itself_is_left_alone(network: Network) -> None:
    """Oracle: its numbers before, statistics included; what is frozen stays so, and the new layers train."""
    network.requires_grad_(False).train()
    before = copy.deepcopy(network.state_dict())
    insert_attention(network, ["blocks.*", "tail"])
    after = network.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())
    assert all(parameter.requires_grad == (INSERTED in name) for name, parameter in network.named_parameters())
    network(IMAGE).square().sum().backward()
    assert all((parameter.grad is not None) == (INSERTED in name) for name, parameter in network.named_parameters())


def test_new_layers_are_like_what_they_follow(network: Network) -> None:
    """Oracle: the number format, device and mode of the module, or of the network where the module has no numbers."""
    network.double()
    network.tail.to("meta").train()
    insert_attention(network, ["stem.2", "tail.0"])
    stem, tail = network.stem[2].get_submodule(INSERTED), network.tail[0].get_submodule(INSERTED)
    assert {(each.dtype, each.device.type) for each in stem.parameters()} == {(torch.float64, "cpu")}
    assert {(each.dtype, each.device.type) for each in tail.parameters()} == {(torch.float64, "meta")}
    assert (stem.training, tail.training) == (False, True)


@pytest.fixture
def attentive(network: Network) -> Network:
    """With attention of both modes."""
    insert_attention(network, ["blocks.0", "tail"])
    insert_attention(network, "blocks.1.0", "criss_cross", "replace")
    nn.init.ones_(network.get_parameter(f"blocks.1.0.{INSERTED}.gamma"))
    return network


def test_copies_are_whole_and_their_own(attentive: Network) -> None:
    """Oracle: the same answer, and another one once the copy's own attention has changed (the EMA is such a copy)."""
    twin = copy.deepcopy(attentive)
    answer = attentive(IMAGE)
    assert torch.equal(twin(IMAGE), answer)
    twin.blocks[0].get_submodule(INSERTED).beta = 0.5
    assert torch.equal(attentive(IMAGE), answer)
    assert not torch.equal(twin(IMAGE), answer)


def test_files_bring_it_back(attentive: Network, tmp_path: Path) -> None:
    """Oracle: the answer, from safetensors into a second network of this kind, and from the pickled module."""
    save_file(attentive.state_dict(), tmp_path / "weights.safetensors")
    second = Network().eval()
    insert_attention(second, ["blocks.0", "tail"])
    insert_attention(second, "blocks.1.0", "criss_cross", "replace")
    second.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    buffer = io.BytesIO()
    torch.save(attentive, buffer)
    buffer.seek(0)
    for other in (second, torch.load(buffer, weights_only=False)):
        assert torch.equal(other(IMAGE), attentive(IMAGE))


def test_torch_export_keeps_it(attentive: Network) -> None:
    """Oracle: the answer of the network itself."""
    exported = torch.export.export(attentive, (IMAGE,)).module()
    torch.testing.assert_close(exported(IMAGE), attentive(IMAGE))


def test_activation_checkpointing_around_it(attentive: Network) -> None:
    """Oracle: the gradients without, with dropout in either."""
    plain, recomputing = attentive.train(), copy.deepcopy(attentive)
    checkpoint_activations(recomputing)
    gradients = []
    for each in (plain, recomputing):
        torch.manual_seed(0)
        each(IMAGE).square().sum().backward()
        gradients.append([parameter.grad for name, parameter in each.named_parameters() if "pair" not in name])
    assert all(map(torch.equal, *gradients))


def test_fusion_behind_a_module_that_gives_a_list() -> None:
    """Oracle: the fusion of the list itself."""

    class Levels(nn.Module):
        def forward(self, x: Tensor) -> list[Tensor]:
            return [x, x[..., ::2, ::2]]

    levels, fusion = Levels(), PyramidFusion([3, 3])
    expected = fusion(levels(IMAGE))
    attach(levels, fusion)
    assert all(map(torch.equal, levels(IMAGE), expected))
    with pytest.raises(ValueError, match="inserted there before"):
        attach(levels, DualAttention(3))


def test_ddp_takes_its_gradients(attentive: Network, tmp_path: Path) -> None:
    """Oracle: the gradients without, in a group of one rank."""
    attentive.pair.requires_grad_(False)  # which the network does not use
    plain = copy.deepcopy(attentive)
    plain(IMAGE).square().sum().backward()
    store = dist.FileStore(str(tmp_path / "store"), 1)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        DistributedDataParallel(attentive)(IMAGE).square().sum().backward()
    finally:
        dist.destroy_process_group()
    for wrapped, bare in zip(attentive.parameters(), plain.parameters(), strict=True):
        assert (wrapped.grad is None and bare.grad is None) or torch.equal(wrapped.grad, bare.grad)


@pytest.mark.long
def test_torch_compile_keeps_it(attentive: Network) -> None:
    """Oracle: the answer of the network itself; one graph."""
    torch.testing.assert_close(torch.compile(attentive, fullgraph=True, backend="eager")(IMAGE), attentive(IMAGE))
