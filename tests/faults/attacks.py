"""Files that a stranger could pass off as a checkpoint or as weights.

Code that is to run when a pickle is read (`traps`) comes in many wrappings (`WRAPPINGS`); it would make a canary file.
"""

import functools
import hashlib
import io
import json
import operator
import os
import pickle
import resource
import runpy
import shutil
import signal
import struct
import subprocess
import tarfile
import timeit
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
import yaml
from hydra.utils import instantiate
from torch import Tensor

from ccnet.sealed_folder import MANIFEST

SECONDS = 5.0
MEMORY = 1 << 30


class HangError(BaseException):
    """No `except Exception` of the code under attack takes it for an answer."""


class Trap:
    """Calls a function when it is unpickled."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.function, self.arguments


class TrappedTensor(Tensor):
    """A tensor with a trap in place of its way to be pickled."""

    trap: Trap

    def __reduce_ex__(self, _protocol: Any) -> Any:
        return self.trap.__reduce__()


def traps(canary: Path, folder: Path) -> dict[str, Trap]:
    """By name; what they need lies in the folder."""
    code, shell, name = f"open({str(canary)!r}, 'w').close()", f"touch {canary}", str(canary)
    touch = Trap(Path.touch, canary)
    script = folder / "hubconf.py"
    script.write_text(f"{code}\ndef entry():\n    pass\n")
    (folder / "inner.pkl").write_bytes(pickle.dumps(touch))
    np.save(folder / "inner.npy", np.array([touch], dtype=object), allow_pickle=True)
    torch.save(touch, folder / "inner.pth")
    shutil.make_archive(str(folder / "packed"), "tar", folder, "hubconf.py")
    hydra = {"_target_": "builtins.open", "_args_": [name, "w"]}
    calls: dict[str, tuple[Any, ...]] = {
        **{"os.system": (os.system, shell), "os.popen": (os.popen, shell), "os.mkdir": (os.mkdir, name)},
        **{"os.mknod": (os.mknod, name), "os.makedirs": (os.makedirs, name), "os.mkfifo": (os.mkfifo, name)},
        **{"os.symlink": (os.symlink, "/", name), "os.link": (os.link, script, name)},
        **{
            "subprocess.Popen": (subprocess.Popen, ["touch", name]),
            "subprocess.run": (subprocess.run, ["touch", name]),
        },
        **{"subprocess.call": (subprocess.call, ["touch", name]), "getoutput": (subprocess.getoutput, shell)},
        **{"exec": (exec, code), "eval": (eval, code), "open": (open, name, "w")},
        "timeit": (timeit.timeit, code, "pass", timeit.default_timer, 1),
        **{"runpy": (runpy.run_path, str(script)), "touch": (Path.touch, canary)},
        **{"write_text": (Path.write_text, canary, "x"), "symlink_to": (Path.symlink_to, canary, script)},
        **{"copyfile": (shutil.copyfile, script, name), "move": (shutil.move, str(folder / "packed.tar"), name)},
        **{"copytree": (shutil.copytree, folder, name), "pickle": (pickle.loads, pickle.dumps(touch))},
        "unpack": (shutil.unpack_archive, folder / "packed.tar", name),
        "torch.load": (functools.partial(torch.load, weights_only=False), folder / "inner.pth"),
        "torch.hub": (functools.partial(torch.hub.load, source="local"), str(folder), "entry"),
        "torch.save": (torch.save, {}, name),
        "numpy.load": (functools.partial(np.load, allow_pickle=True), folder / "inner.npy"),
        "numpy.tofile": (np.ndarray.tofile, np.zeros(1), name),
        "methodcaller": (operator.methodcaller("touch"), canary),
        "operator.call": (operator.call, Path.touch, canary),
        "partial": (functools.partial(Path.touch, canary),),
        "yaml": (yaml.unsafe_load, f"!!python/object/apply:os.mkdir [{name}]"),
        "hydra": (instantiate, hydra),
    }
    return {key: Trap(function, *arguments) for key, (function, *arguments) in calls.items()}


def zipped(path: Path, entries: Mapping[str, bytes], compression: int = zipfile.ZIP_STORED) -> None:
    """A zip archive."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)


def entries_of(value: Any) -> dict[str, bytes]:
    """What torch would put into its archive."""
    file = io.BytesIO()
    torch.save(value, file)
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _tar(trap: Trap, path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        for name in ("sys_info", "storages", "tensors", "pickle"):
            data = pickle.dumps(0 if name != "pickle" else {"a": trap}, protocol=2)
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def _script(trap: Trap, path: Path) -> None:
    data = pickle.dumps(trap, protocol=2)
    names = ("data.pkl", "constants.pkl", "code/__torch__.py", "version", "../canary", "/tmp/canary")
    zipped(path, {f"archive/{name}": b"3\n" if name == "version" else data for name in names})


def _subclass(trap: Trap, path: Path) -> None:
    tensor = torch.zeros(2).as_subclass(TrappedTensor)
    tensor.trap = trap
    torch.save({"a": torch.zeros(2), "b": tensor}, path)


WRAPPINGS: dict[str, Callable[[Trap, Path], object]] = {
    "archive": lambda trap, path: torch.save({"conv1.weight": trap}, path),
    "legacy": lambda trap, path: torch.save({"a": trap}, path, _use_new_zipfile_serialization=False),
    "nested": lambda trap, path: torch.save(OrderedDict(a=[{"b": (torch.zeros(1), {"c": trap})}]), path),
    "key": lambda trap, path: torch.save({trap: torch.zeros(1)}, path),
    "subclass": _subclass,
    "text pickle": lambda trap, path: path.write_bytes(pickle.dumps([trap], protocol=0)),
    "pickle": lambda trap, path: path.write_bytes(pickle.dumps({"a": trap}, protocol=2)),
    "new pickle": lambda trap, path: path.write_bytes(pickle.dumps(trap, protocol=5)),
    "tar": _tar,
    "TorchScript": _script,
    "deflated": lambda trap, path: zipped(path, entries_of({"a": trap}), zipfile.ZIP_DEFLATED),
}


def is_armed(trap: Trap, canary: Path) -> bool:
    """Whether the trap works on somebody careless; the canary is gone afterwards."""
    made = pickle.loads(pickle.dumps(trap))
    if isinstance(made, subprocess.Popen):
        made.wait()
    elif hasattr(made, "close"):
        made.close()
    there = os.path.lexists(canary)
    if there:
        shutil.rmtree(canary) if canary.is_dir() and not canary.is_symlink() else canary.unlink()
    return there


def safetensors_file(header: Any, data: bytes = bytes(64), length: int | None = None) -> bytes:
    """A file with any header, and any length that it claims to have."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def _entry(shape: Any = (4,), offsets: Any = (0, 16), dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def bad_safetensors() -> dict[str, bytes]:
    """Files that are not what they say, by what is wrong; those that are well-formed hold nothing that fits."""
    headers: dict[str, Any] = {
        **{f"offsets {offsets}": {"a": _entry((4,), offsets)} for offsets in (
            (0, 2**40), (16, 0), (-16, 0), (0, 17), (4, 20), (0, 2**64), (0, "16"), (0.0, 16.0), (0,), (0, 16, 32), 16,
            None, (2**63, 2**63 + 16), ([0], [16]), (True, 16))},
        **{f"shape {shape}": {"a": _entry(shape)} for shape in (
            (-4,), (2**62,), (2**62, 2**62), (2**32, 2**32, 4), (0, 2**62), (1e9,), ("4",), None, "4", (4, -1, -1), 4,
            (2**64,), ([4],), (True,) * 4, (1,) * 100_000, (10**30,))},
        **{f"dtype {dtype}": {"a": _entry((4,), (0, 16), dtype)} for dtype in (
            "F33", "", None, 7, "object", "pickle", "f32", ["F32"], "F4", "C64", "BOOL", "F8_E8M0", "U64", "F64")},
        "empty": {}, "list": [], "number": 5, "null": None, "string": "x", "entry is a list": {"a": [1]},
        "metadata is a list": {"__metadata__": [], "a": _entry()}, "metadata holds numbers": {"__metadata__": {"a": 1}},
        "metadata is deep": {"__metadata__": {"a": {"b": {}}}}, "overlap": {"a": _entry(), "b": _entry((4,), (8, 24))},
        "the same bytes": {"a": _entry(), "b": _entry()}, "a hole": {"a": _entry(), "b": _entry((4,), (48, 64))},
        "bytes left over": {"a": _entry()}, "path for a name": {"../../../canary": _entry((16,), (0, 64))},
        "names": {f"t{index}": _entry((0,), (0, 0)) for index in range(20_000)},
        "empty name": {"": _entry((16,), (0, 64))}, "a trap for a class": {"__class__": _entry((16,), (0, 64))},
    }  # fmt: skip
    files = {name: safetensors_file(header) for name, header in headers.items()}
    one = json.dumps({"a": _entry((16,), (0, 64))})
    files |= {
        f"length {n}": safetensors_file({"a": _entry()}, length=n) for n in (0, 1, 100_000_001, 2**63, 2**64 - 1, 200)
    }
    texts = {
        "names twice": b"{" + one[1:-1].encode() + b"," + one[1:].encode(),
        **{"deep list": b"[" * 100_000, "deep object": b'{"a":' * 100_000, "cut": one[:-3].encode()},
        **{"NaN": one.replace("16", "NaN").encode(), "infinity": one.replace("16", "1e999").encode()},
        **{"not UTF-8": one.replace("a", "\xff").encode("latin-1"), "NUL": one.encode() + b"\0" * 9},
        **{"white space": b" " * 100 + one.encode(), "line": b"\n" + one.encode(), "UTF-16": one.encode("utf-16")},
    }
    files |= {name: safetensors_file(text) for name, text in texts.items()}
    return files | {"nothing": b"", "seven bytes": b"\1" * 7, "eight zeros": bytes(8), "zeros": bytes(1 << 20)}


def sign(folder: Path) -> None:
    """Makes the manifest right for what lies in the folder."""
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != MANIFEST}
    entries = {name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in files.items()}
    (folder / MANIFEST).write_text(json.dumps(entries))


@contextmanager
def limits() -> Iterator[None]:
    """Ends what hangs, and refuses memory beyond a GiB more than there is now."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise HangError(f"no answer within {SECONDS} s")

    handler = signal.signal(signal.SIGALRM, stop)
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, before[1]))
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        resource.setrlimit(resource.RLIMIT_AS, before)
        signal.signal(signal.SIGALRM, handler)


def snapshot(folder: Path) -> dict[str, tuple[int, int, int]]:
    """What lies below a folder: kind, size and time of change by path; follows no links."""
    found = {}
    for path in folder.rglob("*"):
        status = path.lstat()
        found[str(path)] = (status.st_mode, 0 if path.is_dir() else status.st_size, status.st_mtime_ns)
    return found
