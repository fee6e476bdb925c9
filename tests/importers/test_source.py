"""Foreign files: how they may be wrapped, what stands in for their writers' classes, and what is refused."""

from argparse import Namespace
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ccnet.errors import CheckpointError
from ccnet.importers.source import read_source
from tests.importers.foreign_files import module

STATE = {"conv.weight": torch.arange(6.0).reshape(2, 3), "bn.num_batches_tracked": torch.tensor(3)}


def written(path: Path, contents: object, **options: Any) -> Path:
    torch.save(contents, path / "file.pth", **options)
    return path / "file.pth"


def with_attributes(value: Any, **attributes: object) -> Any:
    """A file may hang anything on a dict or a tensor, also what hides a method."""
    vars(value).update(attributes)
    return value


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: OrderedDict(state),
        lambda state: with_attributes(OrderedDict(state), get=3, keys=4),
        lambda state: {"state_dict": with_attributes(OrderedDict(state), get=3, keys=4)},
        lambda state: {"state_dict": state, "meta": {}, "optimizer": {"state": {0: torch.ones(2)}}},
        lambda state: {"model": state, "iteration": 3},
        lambda state: {"model": {"state_dict": state, "epoch": 3}},
        lambda state: {"state_dict": {"model": state}, "epoch": 3},
        lambda state: {"model": state, "optimizer": {}, "lr_scheduler": {}, "epoch": 3, "args": Namespace(lr=0.01)},
        lambda state: {f"module.{name}": value for name, value in state.items()},
        lambda state: {"model": {f"module.{name}": value for name, value in state.items()}},
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_wrappings(wrap: Callable[[dict[str, Tensor]], object], zipped: bool, tmp_path: Path) -> None:
    """Oracle: the tensors that were saved, by their own names."""
    source = read_source(written(tmp_path, wrap(STATE), _use_new_zipfile_serialization=zipped))
    assert source.state.keys() == STATE.keys()
    assert all(torch.equal(source.state[name], value) for name, value in STATE.items())
    assert source.meta == {}


def test_a_prefix_of_some_names_alone_stays(tmp_path: Path) -> None:
    """Oracle: the names as they are: it is no wrapper's."""
    source = read_source(written(tmp_path, {"module.a": torch.ones(1), "b": torch.ones(1)}))
    assert list(source.state) == ["module.a", "b"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_floating_tensors_become_float32(dtype: torch.dtype, tmp_path: Path) -> None:
    """Oracle: torch's own conversion; whole numbers stay what they are."""
    value = torch.randn(5).to(dtype)
    source = read_source(written(tmp_path, {"a": value, "n": torch.tensor(7)}))
    assert source.state["a"].dtype == torch.float32
    assert torch.equal(source.state["a"], value.float())
    assert source.state["n"].dtype == torch.int64


@pytest.mark.parametrize("count", [7.0, float("inf"), float("nan")])
def test_halved_counters_are_counters(count: float, tmp_path: Path) -> None:
    """Oracle: the number that was counted, and 0 for one that a half cannot hold; nothing reads it."""
    halved = {"bn.weight": torch.ones(2).half(), "bn.num_batches_tracked": torch.tensor(count).half()}
    counter = read_source(written(tmp_path, halved)).state["bn.num_batches_tracked"]
    assert (counter.dtype, int(counter)) == (torch.int64, 7 if count == 7 else 0)


def test_safetensors_are_read_too(tmp_path: Path) -> None:
    """Oracle: the tensors that were saved."""
    save_file(STATE, tmp_path / "file.safetensors")
    assert torch.equal(read_source(tmp_path / "file.safetensors").state["conv.weight"], STATE["conv.weight"])


class HistoryBuffer:
    """As mmengine's: arrays, and functions of itself in its state."""

    def __init__(self) -> None:
        self.log, self.counts = np.arange(3.0), np.arange(3)
        self.methods = {"min": HistoryBuffer.least}

    def least(self) -> None: ...


class Config:
    """As mmengine's: a state of its own."""

    def __getstate__(self) -> tuple[object, ...]:
        return ({"model": 1}, "file.py", None)

    def __setstate__(self, state: object) -> None:
        raise AssertionError("the writer's class was run")


class ConfigDict(dict):  # type: ignore[type-arg]
    """As mmengine's, which is made anew from a plain dict, and as mmcv's, which is filled item by item."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        return (type(self), (dict(self),))


class OldConfigDict(dict):  # type: ignore[type-arg]
    """A subclass of dict that pickles by items."""


def test_what_mmengine_writes_beside_the_tensors(tmp_path: Path) -> None:
    """Oracle: the tensors and plain parts of meta of a file with mmengine's classes, read where mmengine is missing."""
    with (
        module("mmengine.logging.history_buffer", HistoryBuffer=HistoryBuffer),
        module("mmengine.config.config", Config=Config, ConfigDict=ConfigDict),
        module("mmcv.utils.config", ConfigDict=OldConfigDict),
    ):
        meta = {
            "dataset_meta": ConfigDict(classes=("a", "b")), "cfg": "recurrence=1", "best": np.float64(0.5),
            "old": OldConfigDict(x=1), "seen": {"mIoU"},
        }  # fmt: skip
        hub = {"log_scalars": OrderedDict(loss=HistoryBuffer()), "runtime_info": {"cfg": Config(), "step": np.int64(1)}}
        path = written(tmp_path, {"meta": meta, "state_dict": STATE, "message_hub": hub})
    source = read_source(path)
    assert torch.equal(source.state["conv.weight"], STATE["conv.weight"])
    assert source.meta["dataset_meta"] == {"classes": ("a", "b")}
    assert source.meta["cfg"] == "recurrence=1"


class Canary:
    """Unpickling it creates a file, by whatever callable it was given."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.reduced = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.reduced


class Surprise:
    """A class that nobody knows."""


@pytest.mark.parametrize("zipped", [True, False])
def test_any_other_class_is_refused_by_its_name(zipped: bool, tmp_path: Path) -> None:
    """Oracle: one line with the name, and a canary file that the same pickle does create when read carelessly."""
    canary = tmp_path / "canary"
    path = written(
        tmp_path,
        {"meta": {"x": Canary(Path.touch, canary)}, "state_dict": STATE},
        _use_new_zipfile_serialization=zipped,
    )
    torch.load(path, weights_only=False)
    assert canary.exists(), "the trap does not work"
    canary.unlink()
    with pytest.raises(CheckpointError, match=r"plain tensors: it names pathlib\.\S+$"):
        read_source(path)
    assert not canary.exists()
    with module("mmengine.runner.unknown", Surprise=Surprise):
        path = written(tmp_path, {"state_dict": STATE, "meta": {"x": Surprise()}})
    with pytest.raises(CheckpointError, match=r"it names mmengine\.runner\.unknown\.Surprise$"):
        read_source(path)


def test_the_stand_in_of_getattr_gets_nothing(tmp_path: Path) -> None:
    """Oracle: what it gives cannot be called: a file that tries is refused, and its canary is not there."""
    canary = tmp_path / "canary"
    touch = Canary(getattr, Canary(np.dtype, "f8"), "newbyteorder")
    chained = Canary(np.ndarray, (2,))
    source = read_source(written(tmp_path, {"state_dict": STATE, "meta": {"x": touch, "y": chained}}))
    assert type(source.meta["x"]).__name__ == "Inert"
    assert not canary.exists()


def not_finite(value: float) -> Tensor:
    return torch.tensor([0.0, value])


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ({"a": not_finite(float("nan"))}, "a holds numbers that are not finite"),
        ({"a": not_finite(float("inf"))}, "a holds numbers that are not finite"),
        ({"a": torch.tensor([1e300], dtype=torch.float64)}, "a holds numbers that are not finite in float32"),
        ({"a": torch.zeros(1).expand(1 << 40)}, "a is a Tensor, and no plain tensor"),
        ({"a": torch.zeros(2, dtype=torch.complex64)}, "a is a Tensor, and no plain tensor"),
        ({"a": torch.zeros(2).to_sparse()}, "a is a Tensor, and no plain tensor"),
        ({"a": with_attributes(torch.zeros(2), is_complex=3)}, "a is a Tensor, and no plain tensor"),
        ({"a": with_attributes(nn.Parameter(torch.zeros(2)), is_floating_point=3)}, "and no plain tensor"),
        ({"a": 3}, "a is a int, and no plain tensor"),
        ({"state_dict": {"a": [1, 2]}}, "a is a list, and no plain tensor"),
        ({3: torch.zeros(1)}, "expected names of tensors, found a int"),
        ([torch.zeros(1)], "expected a state dict, found list"),
    ],
)
def test_what_is_no_state(contents: object, message: str, tmp_path: Path) -> None:
    """Oracle: one line that names the tensor and what is wrong; nothing of the size that a header claims is made."""
    with pytest.raises(CheckpointError, match=message) as raised:
        read_source(written(tmp_path, contents))
    assert "\n" not in str(raised.value)


def test_a_meta_that_hides_its_methods(tmp_path: Path) -> None:
    """Oracle: its items."""
    meta = with_attributes(OrderedDict(cfg="x"), get=3, keys=4)
    assert read_source(written(tmp_path, {"state_dict": STATE, "meta": meta})).meta.get("cfg") == "x"


@pytest.mark.parametrize("zipped", [True, False])
def test_many_names_of_the_same_memory(zipped: bool, tmp_path: Path) -> None:
    """Oracle: sizes: each name would become a tensor of its own. Tied weights, two names of one tensor, are honest."""
    value = torch.zeros(100_000, dtype=torch.float16)
    tied = written(tmp_path, {"a": value, "b": value}, _use_new_zipfile_serialization=zipped)
    assert set(read_source(tied).state) == {"a", "b"}
    many = written(tmp_path, {f"k{i}": value for i in range(9)}, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=r"its tensors share memory, and would take 1800000 bytes"):
        read_source(many)


def test_a_missing_file(tmp_path: Path) -> None:
    """Oracle: the documented error."""
    with pytest.raises(CheckpointError, match="no such file"):
        read_source(tmp_path / "absent.pth")
