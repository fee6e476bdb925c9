"""What becomes of freed memory."""

import platform
from pathlib import Path

import numpy as np
import pytest
import torch

from ccnet.allocator import return_freed_memory


def resident() -> int:
    """Bytes of this process that are in memory."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries are left alone")
def test_freed_memory_goes_back_to_the_system() -> None:
    """Oracle: the kernel's count. 64 MiB in small blocks are freed, below one that stays and keeps them with glibc."""
    blocks = [np.ones(2**16, np.uint8) for _ in range(1000)]
    last = blocks.pop()
    blocks.clear()
    before = resident()
    return_freed_memory(torch.device("cpu"))
    assert before - resident() > 40e6
    assert last.all()


def test_cuda_empties_its_cache_and_mps_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the calls."""
    calls = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: calls.append("cuda"))
    monkeypatch.setattr("ccnet.allocator.ctypes.CDLL", lambda _: calls.append("libc"))
    return_freed_memory(torch.device("mps"))
    assert calls == []
    return_freed_memory(torch.device("cuda"))
    assert calls == ["cuda"]
