"""Pretrained weights in a network: everything fits or an error says what does not."""

import logging
from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import get_model, get_model_weights
from torchvision.models.segmentation import deeplabv3_mobilenet_v3_large

from ccnet.errors import CheckpointError
from ccnet.models.backbones.mobilenet_v2 import MobileNetV2
from ccnet.models.backbones.mobilenet_v3 import MobileNetV3
from ccnet.models.backbones.weights import load_weights, replace_first_conv

State = dict[str, Tensor]


@pytest.fixture(scope="module")
def pretrained() -> State:
    """Torchvision's ResNet-18 with its classifier; running statistics and counters other than the initial ones."""
    torch.manual_seed(3)
    network = torchvision.models.resnet18()
    network(torch.randn(2, 3, 32, 32))
    return network.state_dict()


def resnet18() -> nn.Module:
    """Torchvision's ResNet-18 without its classifier."""
    network: nn.Module = torchvision.models.resnet18()
    network.fc = nn.Identity()
    return network


def write(path: Path, state: State) -> str:
    save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    return str(path)


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
def test_a_file_is_loaded_exactly(
    name: str, tmp_path: Path, pretrained: State, caplog: pytest.LogCaptureFixture
) -> None:
    """Oracle: the state dict that was saved, to the bit; the log line counts all but fc, which it names."""
    network, path = resnet18(), write(tmp_path / name, pretrained)
    with caplog.at_level(logging.INFO, logger="ccnet"):
        load_weights(network, "resnet18", path)
    loaded = network.state_dict()
    assert pretrained.keys() - loaded.keys() == {"fc.weight", "fc.bias"}
    assert all(torch.equal(value, pretrained[key]) for key, value in loaded.items())
    report = f"backbone resnet18: 120 of 120 tensors loaded from {path}; left out: "
    assert caplog.messages == [report + ("fc.weight, fc.bias" if name.endswith("pth") else "fc.bias, fc.weight")]


def test_what_a_cut_network_does_not_need_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Oracle: the state dict of torchvision's whole network; its last convolution and classifier are named."""
    state = torchvision.models.mobilenet_v3_small().state_dict()
    with caplog.at_level(logging.INFO, logger="ccnet"):
        backbone = MobileNetV3("small", last_conv=False, weights=write(tmp_path / "small.pth", state))
    for key, value in backbone.state_dict().items():
        assert torch.equal(value, state[key])
    left_out = [key for key in state if key.startswith(("features.12.", "classifier."))]
    assert caplog.text.rstrip().endswith(f"left out: {', '.join(left_out[:8])}, and {len(left_out) - 8} more")


def test_counters_may_be_missing(tmp_path: Path, pretrained: State, caplog: pytest.LogCaptureFixture) -> None:
    """Oracle: the file without them, as PyTorch wrote it before 0.4.1: all else is loaded, and the log says so."""
    old = {key: value for key, value in pretrained.items() if not key.endswith("num_batches_tracked")}
    network = resnet18()
    with caplog.at_level(logging.INFO, logger="ccnet"):
        load_weights(network, "resnet18", write(tmp_path / "old.pth", old))
    assert all(torch.equal(value, old[key]) for key, value in network.state_dict().items() if key in old)
    assert "100 of 120 tensors" in caplog.text
    assert "without 20 counters" in caplog.text


@pytest.mark.parametrize(("in_channels", "factor"), [(1, None), (2, 3 / 2), (4, 3 / 4), (7, 3 / 7)])
def test_any_number_of_channels(
    in_channels: int, factor: float | None, tmp_path: Path, pretrained: State, caplog: pytest.LogCaptureFixture
) -> None:
    """Oracle: timm's rule: the sum for one channel, else repeated and scaled. A grey image, the same in all channels,
    gets the answer of the three-channel kernel."""
    network, path = resnet18(), write(tmp_path / "weights.pth", pretrained)
    replace_first_conv(network, "conv1", in_channels)
    with caplog.at_level(logging.INFO, logger="ccnet"):
        load_weights(network, "resnet18", path, first_conv="conv1")
    kernel, original = network.conv1.weight.detach(), pretrained["conv1.weight"]
    assert kernel.shape == (64, in_channels, 7, 7)
    for channel in range(in_channels):
        expected = original.sum(dim=1) if factor is None else original[:, channel % 3] * factor
        torch.testing.assert_close(kernel[:, channel], expected)
    if factor is None:
        grey = torch.randn(1, 1, 32, 32)
        expected = F.conv2d(grey.expand(1, 3, 32, 32), original, stride=2, padding=3)
        torch.testing.assert_close(network.conv1(grey), expected)
    how = "the sum of its three" if factor is None else f"its three repeated and scaled by 3/{in_channels}"
    assert f"conv1.weight: {in_channels} input channel{'' if in_channels == 1 else 's'}, {how}" in caplog.text


def test_a_file_for_as_many_channels_is_taken_as_it_is(tmp_path: Path, pretrained: State) -> None:
    """Oracle: the kernel in the file; for another number than three it is refused as any other shape."""
    state = {**pretrained, "conv1.weight": torch.randn(64, 4, 7, 7)}
    network, path = resnet18(), write(tmp_path / "four.pth", state)
    replace_first_conv(network, "conv1", 4)
    load_weights(network, "resnet18", path, first_conv="conv1")
    assert torch.equal(network.conv1.weight, state["conv1.weight"])
    replace_first_conv(network, "conv1", 5)
    with pytest.raises(CheckpointError, match=r"conv1.weight is \(64, 4, 7, 7\), not \(64, 5, 7, 7\)"):
        load_weights(network, "resnet18", path, first_conv="conv1")


def test_the_convolution_that_is_replaced() -> None:
    """Oracle: the one before, but for its channels; the same object where there is nothing to do; no channel, no
    convolution: an error."""
    series = nn.Sequential(nn.Sequential(nn.Conv2d(3, 8, (5, 3), stride=2, padding=(2, 1))), nn.ReLU())
    before = series[0][0]
    replace_first_conv(series, "0.0", 3)
    assert series[0][0] is before
    replace_first_conv(series, "0.0", 5)
    after = series[0][0]
    assert (after.in_channels, after.out_channels) == (5, 8)
    for name in ("kernel_size", "stride", "padding"):
        assert getattr(after, name) == getattr(before, name)
    assert not after.bias.any()
    with pytest.raises(ValueError, match="in_channels must be at least 1, got 0"):
        replace_first_conv(series, "0.0", 0)
    with pytest.raises(TypeError, match="1 is no convolution: ReLU"):
        replace_first_conv(series, "1", 5)


@pytest.mark.parametrize("tag", ["IMAGENET1K_V1", "IMAGENET1K_V2", "DEFAULT"])
def test_tags_are_torchvisions(tag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: torchvision's own address for the tag, asked with its hash check; the network then holds what came."""
    theirs = get_model("mobilenet_v2", weights=None).state_dict()
    asked: list[tuple[str, bool]] = []

    def download(url: str, progress: bool, check_hash: bool) -> State:
        asked.append((url, check_hash))
        return theirs

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", download)
    backbone = MobileNetV2(weights=tag)
    assert asked == [(get_model_weights("mobilenet_v2")[tag].url, True)]
    assert all(torch.equal(value, theirs[key]) for key, value in backbone.state_dict().items())


def test_the_backbone_of_a_segmentation_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the tensors of torchvision's DeepLabV3 on MobileNetV3, by the names of the features."""
    with torch.device("meta"):
        network = deeplabv3_mobilenet_v3_large(weights=None, weights_backbone=None)
    theirs = {key: torch.randn(value.shape) for key, value in network.state_dict().items()}
    asked: list[str] = []
    monkeypatch.setattr(
        "torchvision.models._api.load_state_dict_from_url", lambda url, **_: asked.append(url) or theirs
    )
    backbone = MobileNetV3("large", weights="COCO_WITH_VOC_LABELS_V1")
    assert "deeplabv3_mobilenet_v3_large" in asked[0]
    for key, value in backbone.state_dict().items():
        assert torch.equal(value, theirs[key.replace("features", "backbone")].to(value.dtype))


@pytest.mark.parametrize("weights", ["IMAGENET1K_V3", "absent.pth", "folder"])
def test_neither_a_tag_nor_a_file(weights: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the error names it and all tags of torchvision's, whether it looks like a file or not."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    choices = "COCO_WITH_VOC_LABELS_V1, DEFAULT, IMAGENET1K_V1, IMAGENET1K_V2, a file or null"
    with pytest.raises(
        CheckpointError, match=rf"weights {weights}: no such file, and no tag of resnet50; .*"
    ) as raised:
        load_weights(nn.Identity(), "resnet50", weights)
    named = str(raised.value).removeprefix(
        f"weights {weights}: no such file, and no tag of resnet50; backbone.weights takes "
    )
    assert sorted(named.split(", ")) == sorted(choices.split(", "))


def drop(state: State) -> None:
    del state["layer2.0.conv1.weight"]


def add(state: State) -> None:
    state["surprise.weight"] = torch.zeros(1)


def reshape(state: State) -> None:
    state["conv1.weight"] = torch.zeros(64, 4, 7, 7)


def rename_all(state: State) -> None:
    for key in list(state):
        state[f"module.{key}"] = state.pop(key)


@pytest.mark.parametrize(
    ("change", "matched", "messages"),
    [
        (drop, -1, ["missing layer2.0.conv1.weight"]),
        (add, 0, ["unexpected surprise.weight"]),
        (reshape, -1, ["conv1.weight is (64, 4, 7, 7), not (64, 3, 7, 7)"]),
        (rename_all, None, ["missing conv1.weight", "more"]),
    ],
)
def test_a_file_that_does_not_fit(
    change: Callable[[State], None], matched: int | None, messages: list[str], tmp_path: Path, pretrained: State
) -> None:
    """Oracle: the change made to a good file; the error names it and counts the tensors that match."""
    state, total = dict(pretrained), len(pretrained) - 2
    change(state)
    path = write(tmp_path / "changed.pth", state)
    with pytest.raises(CheckpointError) as raised:
        load_weights(resnet18(), "resnet18", path)
    count = 0 if matched is None else total + matched
    for text in (path, "resnet18", f"{count} of {total} tensors", *messages):
        assert text in str(raised.value)


def test_a_misfit_changes_nothing(tmp_path: Path, pretrained: State) -> None:
    """Oracle: the network as it was before the refused file."""
    network = resnet18()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    state = dict(pretrained)
    drop(state)
    with pytest.raises(CheckpointError):
        load_weights(network, "resnet18", write(tmp_path / "changed.pth", state))
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_a_failed_download_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the address and the way out in the message."""

    def offline(url: str, **_: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    with pytest.raises(CheckpointError, match=r"resnet18-\w+\.pth cannot be downloaded .*no route.*backbone.weights"):
        load_weights(get_model("resnet18", weights=None), "resnet18", "DEFAULT")
