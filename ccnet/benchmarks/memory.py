"""Memory of a call: its peak, and what it keeps for the backward pass."""

import ctypes
import functools
import gc
import multiprocessing
import platform
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

Call = Callable[[], object]

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h of glibc
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def can_measure_peak(device: str = "cpu") -> bool:
    """Whether `peak_memory` works here: on CUDA, and on the CPU under Linux with glibc."""
    return device == "cuda" or (CLEAR.exists() and platform.libc_ver()[0] == "glibc")


def peak_memory(make: Callable[[], Call], warm_up: Callable[[], Call], device: str = "cpu") -> int:
    """The most bytes that a call holds beyond what `make` has built: temporaries and results.

    On the CPU this is the resident memory of a child process, at one thread, in which malloc gives every tensor's
    pages back at once; it agrees within 1 % with the allocations that torch.profiler records. On CUDA it is what
    PyTorch's allocator hands out.

    Args:
        make: builds inputs and parameters and returns the call. It and `warm_up` are sent to the child by pickle.
        warm_up: the same at a tiny size; called first, so that the libraries' own memory does not count.
        device: "cpu" or "cuda".
    """
    if device == "cpu":
        return _child().submit(_resident_peak, make, warm_up).result()
    warm_up()()
    call = make()
    gc.collect()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    call()
    return torch.cuda.max_memory_allocated() - before


def saved_bytes(forward: Call, known: Iterable[Tensor]) -> int:
    """Bytes that autograd keeps for the backward pass of `forward`: storages, each once, without those of `known`."""
    kept: dict[int, Tensor] = {}  # the tensors stay alive: a freed address could become another tensor's

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = forward()
    for tensor in known:
        kept.pop(tensor.untyped_storage().data_ptr(), None)
    del result  # until here the graph held what it saved
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


@functools.cache
def _child() -> ProcessPoolExecutor:
    """One process for all calls (starting it takes seconds), spawned: threads of PyTorch do not survive a fork."""
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _return_freed_memory)


def _return_freed_memory() -> None:
    """Makes resident memory follow the tensors: malloc maps all but small blocks, and keeps none that is freed."""
    torch.set_num_threads(1)
    libc = ctypes.CDLL("libc.so.6")
    libc.mallopt(M_MMAP_THRESHOLD, 64 * 1024)
    libc.mallopt(M_TRIM_THRESHOLD, 0)


def _resident_peak(make: Callable[[], Call], warm_up: Callable[[], Call]) -> int:
    warm_up()()
    call = make()
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    before = _status("VmRSS")
    CLEAR.write_text("5")  # the peak starts anew (proc(5))
    call()
    return _status("VmHWM") - before


def _status(key: str) -> int:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(f"{key}:"))
    return int(line.split()[1]) * 1024  # given in kB
