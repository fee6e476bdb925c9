"""Networks of timm, against timm itself; its smallest ones are made for tests."""

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ccnet.errors import CheckpointError, ConfigError
from ccnet.models.backbones.timm_features import TimmFeatures, timm_weights

timm = pytest.importorskip("timm", reason="the extra [timm] is not installed")

State = dict[str, Tensor]
HUB = "timm.models._builder.load_state_dict_from_hf"
SMALL, SERIES = "test_resnet", "test_convnext"  # the latter's features have other names than its classifier's
DIVISOR = {SMALL: 1, SERIES: 32}


def whole(name: str) -> State:
    """The state of timm's classification network, random."""
    torch.manual_seed(5)
    state: State = timm.create_model(name).state_dict()
    return {key: torch.rand(value.shape) if value.is_floating_point() else value for key, value in state.items()}


@pytest.mark.parametrize(
    ("name", "output_stride"), [("test_resnet", 8), ("test_efficientnet", 16), ("test_byobnet", 32)]
)
def test_features_are_timms(name: str, output_stride: int) -> None:
    """Oracle: timm's own features with the same parameters; the last four."""
    backbone = TimmFeatures(name, output_stride).eval()  # type: ignore[arg-type]
    network = timm.create_model(name, features_only=True, output_stride=output_stride).eval()
    network.load_state_dict(backbone.network.state_dict())
    image = torch.randn(1, 3, 67, 41)
    with torch.no_grad():
        ours, theirs = backbone(image), network(image)[-4:]
    assert all(torch.equal(left, right) for left, right in zip(ours, theirs, strict=True))
    strides = [min(each, output_stride) for each in (4, 8, 16, 32)]
    assert [tuple(each.shape[2:]) for each in ours] == [(-(-67 // stride), -(-41 // stride)) for stride in strides]
    assert backbone.out_channels == [each.shape[1] for each in ours]


def test_sizes_that_a_network_cannot_take() -> None:
    """Oracle: timm's features of the image with zeros at the end, without what they have there. The network alone
    rounds down."""
    backbone = TimmFeatures(SERIES, 8, size_divisor=32).eval()
    image = torch.randn(1, 3, 67, 41)
    with torch.no_grad():
        ours, theirs = backbone(image), backbone.network(F.pad(image, (0, 23, 0, 29)))
        assert backbone.network(image)[0].shape[2:] == (16, 10)
    for feature, expected, (height, width) in zip(ours, theirs, [(17, 11), *3 * [(9, 6)]], strict=True):
        assert torch.equal(feature, expected[..., :height, :width])


@pytest.mark.parametrize(("name", "given", "enough"), [("hrnet_w18_small", 1, 32), (SERIES, 1, 32), (SERIES, 16, 32)])
def test_a_size_divisor_that_is_not_enough(name: str, given: int, enough: int) -> None:
    """Oracle: the failure of the network alone at an odd size (HRNet), or its features, which it rounds down; the error
    comes before any picture does, and what it advises works."""
    with torch.device("meta"):
        with pytest.raises(ConfigError, match=f"name={name} of timm: .* set backbone.size_divisor={enough}$"):
            TimmFeatures(name, 32, size_divisor=given)
        network = TimmFeatures(name, 32, size_divisor=enough)
        shapes = [feature.shape[2:] for feature in network(torch.empty(1, 3, 67, 97))]
    assert shapes == [(17, 25), (9, 13), (5, 7), (3, 4)]


def test_strides_that_a_network_does_not_keep(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the shapes by hand, of a network that says 4 and has 2 there; a divisor would hide it in the cut."""
    create = timm.create_model

    def finer(*given: Any, **options: Any) -> Any:
        network = create(*given, **options)
        network.maxpool = torch.nn.Identity()
        return network

    monkeypatch.setattr(timm, "create_model", finer)
    for divisor in (1, 32):
        with pytest.raises(ConfigError, match=r"name=test_resnet of timm: features of .* are \[\(32, "):
            TimmFeatures(SMALL, 32, size_divisor=divisor)


def test_trying_sizes_changes_nothing() -> None:
    """Oracle: timm's own network of the same seed, statistics included, in training mode."""
    torch.manual_seed(3)
    backbone = TimmFeatures(SMALL, 32)
    torch.manual_seed(3)
    theirs = timm.create_model(SMALL, features_only=True)
    assert all(module.training for module in backbone.modules())
    assert all(map(torch.equal, backbone.network.state_dict().values(), theirs.state_dict().values()))
    assert all(parameter.requires_grad for parameter in backbone.parameters())


@pytest.mark.parametrize(("name", "tag"), [(SMALL, "DEFAULT"), (SMALL, "r160_in1k"), (SERIES, "DEFAULT")])
def test_tags_go_through_timms_own_loader(
    name: str, tag: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Oracle: what a stand-in for the hub was asked for and gave; the classifier alone is left out."""
    theirs, asked = whole(name), []
    monkeypatch.setattr(HUB, lambda repository, *_, **__: asked.append(repository) or dict(theirs))
    with caplog.at_level(logging.INFO, logger="ccnet"):
        backbone = TimmFeatures(name, weights=tag, size_divisor=DIVISOR[name])
    assert asked == [f"timm/{name}.r160_in1k"]
    for key, value in backbone.network.state_dict().items():
        assert torch.equal(value, theirs[key.replace("stages_", "stages.").replace("stem_", "stem.")])
    count = len(backbone.state_dict())
    assert f"backbone {name}: {count} of {count} tensors loaded from timm's {tag}; left out: " in caplog.text
    assert len(theirs) - count == caplog.messages[-1].partition("left out: ")[2].count(",") + 1


def test_a_download_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the reason and the way out in one line."""

    def offline(*_: object, **__: object) -> State:
        raise ConnectionError("no route to the hub\nand more")

    monkeypatch.setattr(HUB, offline)
    with pytest.raises(
        CheckpointError, match=r"test_resnet cannot be had from timm \(no route to the hub\); .*backbone"
    ):
        TimmFeatures(SMALL, weights="DEFAULT")


def test_an_unknown_tag_lists_the_tags() -> None:
    """Oracle: timm's own list."""
    tags = timm.list_models("resnest14d.*", pretrained=True)
    assert timm_weights("resnest14d") == ["DEFAULT", *(tag.removeprefix("resnest14d.") for tag in tags)]
    with pytest.raises(
        CheckpointError, match=r"in22k: no such file, and no tag of test_resnet; .* DEFAULT, r160_in1k, a"
    ):
        TimmFeatures(SMALL, weights="in22k")


@pytest.mark.parametrize("name", [SMALL, SERIES])
def test_files_of_timm_and_of_our_own(name: str, tmp_path: Path) -> None:
    """Oracle: the state that was saved, by the names of timm's classification network and by those of the backbone."""
    theirs = whole(name)
    torch.save(theirs, tmp_path / "timm.pth")
    first = TimmFeatures(name, weights=str(tmp_path / "timm.pth"), size_divisor=DIVISOR[name])
    key = next(key for key in theirs if key.endswith("weight"))
    assert torch.equal(next(first.parameters()), theirs[key])
    torch.save(first.state_dict(), tmp_path / "ours.pth")
    second = TimmFeatures(name, weights=str(tmp_path / "ours.pth"), size_divisor=DIVISOR[name]).state_dict()
    assert all(torch.equal(second[key], value) for key, value in first.state_dict().items())


def drop(state: State) -> None:
    del state["layer2.0.conv1.weight"]


def add(state: State) -> None:
    state["surprise.weight"] = torch.zeros(1)


@pytest.mark.parametrize(("change", "message"), [(drop, "missing layer2.0.conv1"), (add, "unexpected surprise.weight")])
def test_a_file_that_does_not_fit(change: Callable[[State], None], message: str, tmp_path: Path) -> None:
    """Oracle: the change made to a good file. timm itself would load what is there and say nothing."""
    state = whole(SMALL)
    change(state)
    torch.save(state, tmp_path / "changed.pth")
    with pytest.raises(CheckpointError, match=message):
        TimmFeatures(SMALL, weights=str(tmp_path / "changed.pth"))


@pytest.mark.parametrize("in_channels", [1, 5])
def test_input_channels_are_adapted_as_timm_does(
    in_channels: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: timm's own adaptation of the same weights, by tag and from a file."""
    theirs = whole(SMALL)
    torch.save(theirs, tmp_path / "timm.pth")
    monkeypatch.setattr(HUB, lambda *_, **__: dict(theirs))
    expected = timm.create_model(SMALL, pretrained=True, in_chans=in_channels).conv1[0].weight
    for weights in ("DEFAULT", str(tmp_path / "timm.pth")):
        backbone = TimmFeatures(SMALL, weights=weights, in_channels=in_channels)
        torch.testing.assert_close(backbone.network.conv1[0].weight, expected)
    assert backbone(torch.zeros(1, in_channels, 32, 32))[0].shape[2:] == (8, 8)


@pytest.mark.parametrize(
    ("name", "output_stride", "message"),
    [
        ("hrnet_w18_small", 8, r"output_stride=8: hrnet_w18_small of timm can have 32"),
        ("ghostnet_100", 16, r"output_stride=16: ghostnet_100 of timm can have 32: only output_stride==32 is valid"),
        ("test_vit", 32, r"name=test_vit of timm has no features at strides 4, 8, 16 and 32 or less: .* 16, 16, 16"),
        ("swin_tiny_patch4_window7_224", 32, r"of timm has no features at .*: its features are not \(B, C, H, W\)"),
    ],
)
def test_what_a_network_cannot_do(name: str, output_stride: int, message: str) -> None:
    """Oracle: the network, and which strides it can have; timm's own reason where there is one."""
    with torch.device("meta"), pytest.raises(ConfigError, match=message):
        TimmFeatures(name, output_stride)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "name",
    ["hf-hub:timm/test_resnet.r160_in1k", "hf_hub:timm/test_resnet", "local-dir:folder", "resnet26d.hf-hub:x", "../x",
     "test_resnet.r160_in1k", "", "*"],
)  # fmt: skip
def test_names_with_a_source_are_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the refusal before timm is asked to make anything."""
    monkeypatch.setattr(timm, "create_model", lambda *_, **__: pytest.fail("timm was asked"))
    with pytest.raises(ConfigError, match="is no network of timm"):
        TimmFeatures(name)


def test_a_near_name_is_suggested() -> None:
    """Oracle: the name with one letter less."""
    with pytest.raises(ConfigError, match=r"did you mean resnest50d\?"):
        TimmFeatures("resnest50dd")


@pytest.mark.parametrize("arguments", [{"in_channels": 0}, {"size_divisor": 0}])
def test_counts_that_are_none(arguments: dict[str, Any]) -> None:
    """Oracle: the documented error."""
    with pytest.raises(ValueError, match="must be at least 1"):
        TimmFeatures(SMALL, **arguments)


def test_without_timm_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the command; `None` among the modules is Python's own way of a module that is not there."""
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ConfigError, match=r'resnet50 needs timm: pip install "timm>=1.0,<2"'):
        TimmFeatures("resnet50")
