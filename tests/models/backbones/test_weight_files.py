"""Weight files of strangers: wrapped, damaged, hostile; nothing in them is run."""

import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor, nn

from ccnet.errors import CheckpointError
from ccnet.models.backbones.weights import load_weights, read_weights

State = dict[str, Tensor]


@pytest.fixture(scope="module")
def pretrained() -> State:
    """Torchvision's ResNet-18 with its classifier."""
    return torchvision.models.resnet18().state_dict()


def resnet18() -> nn.Module:
    """Torchvision's ResNet-18 without its classifier."""
    network: nn.Module = torchvision.models.resnet18()
    network.fc = nn.Identity()
    return network


@pytest.mark.parametrize("wrap", [lambda s: {"state_dict": s, "meta": {}}, lambda s: {"model": {"state_dict": s}}])
def test_a_wrapped_file_is_loaded(
    wrap: Callable[[State], dict[str, object]], tmp_path: Path, pretrained: State
) -> None:
    """Oracle: the state dict inside, as mmsegmentation's and many training scripts write it."""
    network = resnet18()
    torch.save(wrap(pretrained), tmp_path / "wrapped.pth")
    load_weights(network, "resnet18", str(tmp_path / "wrapped.pth"))
    assert all(torch.equal(value, pretrained[key]) for key, value in network.state_dict().items())


def test_what_hangs_on_dicts_and_tensors(tmp_path: Path, pretrained: State) -> None:
    """Oracle: attributes that hide a dict's methods have no effect; a tensor's own are refused."""
    state = OrderedDict(pretrained)
    vars(state).update(get=3, keys=4)
    torch.save(state, tmp_path / "dict.pth")
    assert read_weights(tmp_path / "dict.pth").keys() == pretrained.keys()
    tensor = torch.zeros(1)
    vars(tensor).update(is_complex=3)
    torch.save({"a": tensor}, tmp_path / "tensor.pth")
    with pytest.raises(CheckpointError, match="a is no plain tensor"):
        read_weights(tmp_path / "tensor.pth")


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
        load_weights(resnet18(), "resnet18", str(path))
    assert not canary.exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [("text.pth", b"no weights"), ("empty.pth", b""), ("text.safetensors", b"no weights"), ("empty.safetensors", b"")],
)
def test_a_file_that_is_no_state_dict(name: str, content: bytes, tmp_path: Path) -> None:
    """Oracle: a CheckpointError that names the file, whatever the reader below raises."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=name):
        load_weights(resnet18(), "resnet18", str(tmp_path / name))


@pytest.mark.parametrize("content", [[torch.zeros(1)], {0: torch.zeros(1)}, {"epoch": 3}])
def test_other_objects_are_refused(content: object, tmp_path: Path) -> None:
    """Oracle: a CheckpointError, for a list, keys that are no names, and a dictionary without tensors."""
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=r"other\.pth"):
        load_weights(resnet18(), "resnet18", str(tmp_path / "other.pth"))


def test_plain_pickle_is_refused(tmp_path: Path) -> None:
    """Oracle: a CheckpointError for a pickle that torch did not write."""
    (tmp_path / "plain.pth").write_bytes(pickle.dumps({"conv1.weight": 1}, protocol=2))
    with pytest.raises(CheckpointError, match=r"plain\.pth"):
        load_weights(resnet18(), "resnet18", str(tmp_path / "plain.pth"))


def test_reading_a_file_that_is_not_there(tmp_path: Path) -> None:
    """Oracle: the error names the file."""
    with pytest.raises(CheckpointError, match=r"absent\.pth: no such file"):
        read_weights(tmp_path / "absent.pth")
