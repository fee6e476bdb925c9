"""Pretrained weights from files: everything fits or an error says what does not; nothing in them is run."""

import logging
import pickle
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from urllib.error import URLError

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor
from torchvision.models import get_model, get_model_weights

from ccnet.errors import CheckpointError
from ccnet.models.backbones.mobilenet_v3 import MobileNetV3
from ccnet.models.backbones.resnet import ResNet
from ccnet.models.backbones.weights import load_weights

State = dict[str, Tensor]


@pytest.fixture(scope="module")
def pretrained() -> State:
    """Torchvision's ResNet-18 with its classifier; running statistics and counters other than the initial ones."""
    torch.manual_seed(3)
    network = torchvision.models.resnet18()
    network(torch.randn(2, 3, 32, 32))
    return network.state_dict()


def write(path: Path, state: State) -> str:
    save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    return str(path)


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
def test_resnet_file_is_loaded_exactly(
    name: str, tmp_path: Path, pretrained: State, caplog: pytest.LogCaptureFixture
) -> None:
    """Oracle: the state dict that was saved, to the bit and in its order; the log line counts all but fc."""
    with caplog.at_level(logging.INFO, logger="ccnet"):
        backbone = ResNet(18, weights=write(tmp_path / name, pretrained))
    saved = [value for key, value in pretrained.items() if not key.startswith("fc.")]
    loaded = list(backbone.state_dict().values())
    assert len(loaded) == len(saved)
    assert all(torch.equal(ours, value) for ours, value in zip(loaded, saved, strict=True))
    assert f"{len(saved)} of {len(saved)} tensors" in caplog.text


def test_mobilenet_file_is_loaded_exactly(tmp_path: Path) -> None:
    """Oracle: the state dict of torchvision's network, without its classifier."""
    state = torchvision.models.mobilenet_v3_small().state_dict()
    backbone = MobileNetV3("small", weights=write(tmp_path / "small.pth", state))
    saved = [value for key, value in state.items() if not key.startswith("classifier.")]
    for ours, value in zip(backbone.state_dict().values(), saved, strict=True):
        assert torch.equal(ours, value)


def test_default_asks_torchvision_and_checks_the_hash(monkeypatch: pytest.MonkeyPatch, pretrained: State) -> None:
    """Oracle: what a stand-in for torchvision's weights recorded and returned; nothing is downloaded."""
    asked = []

    def get_state_dict(**options: bool) -> State:
        asked.append(options)
        return pretrained

    default = SimpleNamespace(DEFAULT=SimpleNamespace(get_state_dict=get_state_dict))
    monkeypatch.setattr(torchvision.models, "get_model_weights", {"resnet18": default}.__getitem__)
    backbone = ResNet(18, weights="DEFAULT")
    assert torch.equal(backbone.state_dict()["stem.0.weight"], pretrained["conv1.weight"])
    assert asked == [{"progress": True, "check_hash": True}]


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
        ResNet(18, weights=path)
    count = 0 if matched is None else total + matched
    for text in (path, "resnet18", f"{count} of {total} tensors", *messages):
        assert text in str(raised.value)


def test_a_misfit_changes_nothing(tmp_path: Path, pretrained: State) -> None:
    """Oracle: the network as it was before the refused file."""
    network = torchvision.models.resnet18()
    network.fc = torch.nn.Identity()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    state = dict(pretrained)
    drop(state)
    with pytest.raises(CheckpointError):
        load_weights(network, "resnet18", write(tmp_path / "changed.pth", state))
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


class Malicious:
    """Unpickling it creates a file."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Callable[..., None], tuple[Path]]:
        return Path.touch, (self.canary,)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_file_is_never_run(zipped: bool, tmp_path: Path, pretrained: State) -> None:
    """Oracle: a canary file that the same pickle does create when it is read carelessly."""
    canary, path = tmp_path / "canary", tmp_path / "malicious.pth"
    state = {**pretrained, "conv1.weight": Malicious(canary)}
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    torch.load(path, weights_only=False)
    assert canary.exists(), "the trap does not work"
    canary.unlink()
    with pytest.raises(CheckpointError, match="cannot be read as plain tensors"):
        ResNet(18, weights=str(path))
    assert not canary.exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [("text.pth", b"no weights"), ("empty.pth", b""), ("text.safetensors", b"no weights"), ("empty.safetensors", b"")],
)
def test_a_file_that_is_no_state_dict(name: str, content: bytes, tmp_path: Path) -> None:
    """Oracle: a CheckpointError that names the file, whatever the reader below raises."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=name):
        ResNet(18, weights=str(tmp_path / name))


@pytest.mark.parametrize("content", [[torch.zeros(1)], {0: torch.zeros(1)}, {"epoch": 3}])
def test_other_objects_are_refused(content: object, tmp_path: Path) -> None:
    """Oracle: a CheckpointError, for a list, keys that are no names, and a dictionary without tensors."""
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=r"other\.pth"):
        ResNet(18, weights=str(tmp_path / "other.pth"))


def test_plain_pickle_is_refused(tmp_path: Path) -> None:
    """Oracle: a CheckpointError for a pickle that torch did not write."""
    (tmp_path / "plain.pth").write_bytes(pickle.dumps({"conv1.weight": 1}, protocol=2))
    with pytest.raises(CheckpointError, match=r"plain\.pth"):
        ResNet(18, weights=str(tmp_path / "plain.pth"))


def test_a_missing_file(tmp_path: Path) -> None:
    """Oracle: the error names the file and the other choices."""
    with pytest.raises(CheckpointError, match=r"absent\.pth: no such file; backbone.weights takes DEFAULT and null"):
        ResNet(18, weights=str(tmp_path / "absent.pth"))


def test_default_weights_are_downloaded_once_and_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: torchvision's own address, asked with its hash check; the network then holds what came."""
    theirs = get_model("resnet18", weights=None).state_dict()
    asked: list[tuple[str, bool]] = []

    def download(url: str, progress: bool, check_hash: bool) -> dict[str, torch.Tensor]:
        asked.append((url, check_hash))
        return theirs

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", download)
    network = get_model("resnet18", weights=None)
    load_weights(network, "resnet18", "DEFAULT")
    assert asked == [(get_model_weights("resnet18").DEFAULT.url, True)]
    assert all(torch.equal(value, theirs[key]) for key, value in network.state_dict().items())


def test_a_failed_download_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the address and the way out in the message."""

    def offline(url: str, **_: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    with pytest.raises(CheckpointError, match=r"resnet18-\w+\.pth cannot be downloaded .*no route.*backbone.weights"):
        load_weights(get_model("resnet18", weights=None), "resnet18", "DEFAULT")
