"""Memory for tensors on the CPU."""

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
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
