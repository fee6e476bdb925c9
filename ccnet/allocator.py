"""Memory that freed tensors leave behind."""

import ctypes
import platform

import torch

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h of glibc


def keep_freed_memory(device: torch.device) -> None:
    """Lets glibc keep the memory of freed tensors instead of giving it back to the system after every step.

    Large tensors otherwise cost a page fault per 4 KiB each time one is made. Denormal numbers, which slow products
    down many times, become 0. Other devices and other C libraries are left alone.
    """
    if device.type != "cpu":
        return
    torch.set_flush_denormal(True)
    if libc := _glibc():
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def return_freed_memory(device: torch.device) -> None:
    """Gives the memory of freed tensors back, so that blocks of other sizes find room.

    CUDA's allocator keeps what is freed, and so does glibc after `keep_freed_memory`. Other devices and other C
    libraries are left alone.
    """
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "cpu" and (libc := _glibc()):
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    return ctypes.CDLL("libc.so.6") if platform.libc_ver()[0] == "glibc" else None
