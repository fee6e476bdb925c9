"""What is said when memory runs out. The texts are those that PyTorch's allocators raise."""

from typing import Any

import pytest
import torch

from ccnet import distributed
from ccnet.evaluation.inference import Inference
from ccnet.out_of_memory import OutOfMemoryError, inference_memory_errors, training_memory_errors

CUDA = (
    "CUDA out of memory. Tried to allocate 1.16 GiB. GPU 0 has a total capacity of 7.79 GiB of which 512.00 MiB is free"
)
MPS = (
    "MPS backend out of memory (MPS allocated: 5.56 GB, other allocations: 1.10 GB, max allowed: 6.80 GB). Tried to "
    "allocate 768.00 MB on private pool. Use PYTORCH_MPS_HIGH_WATERMARK_RATIO=0.0 to disable upper limit"
)
WINDOWS = (
    "[enforce fail at alloc_cpu.cpp:80] data. DefaultCPUAllocator: not enough memory: you tried to allocate 90 bytes."
)
SETTINGS: dict[str, Any] = {
    "crop_size": [769, 513],
    "batch_size": 8,
    "accumulation": 1,
    "activation_checkpointing": False,
    "precision": "fp32",
}


def explained(error: Exception, **changed: Any) -> str:
    """The line that an error becomes."""
    with pytest.raises(OutOfMemoryError) as caught, training_memory_errors(**{**SETTINGS, **changed}):
        raise error
    return str(caught.value)


def test_the_message_says_what_was_asked_and_what_lowers_it() -> None:
    """Oracle: the whole line, written out, from CUDA's error as PyTorch raises it."""
    with pytest.raises(OutOfMemoryError) as caught, training_memory_errors(**SETTINGS):
        raise torch.OutOfMemoryError(CUDA)
    assert str(caught.value) == (
        "training ran out of memory: 1.16 GiB more were asked for; lower it by trainer.accumulation=2 "
        "(now 1: 8 images at a time) or a smaller trainer.batch_size (now 8), "
        "trainer.activation_checkpointing=true, trainer.precision=bf16, "
        "a smaller augmentation.crop_size (now 769x513), a smaller backbone"
    )
    assert isinstance(caught.value.__cause__, torch.OutOfMemoryError)


def test_the_allocator_of_this_machine_is_understood() -> None:
    """Oracle: a request that no machine can meet, 4 PiB."""
    with (
        pytest.raises(OutOfMemoryError, match=r"4194304\.00 GiB more were asked for"),
        training_memory_errors(**SETTINGS),
    ):
        torch.empty(2**50)


@pytest.mark.parametrize(
    ("error", "size"),
    [
        (RuntimeError(MPS), "768.00 MB more were asked for"),
        (RuntimeError("Invalid buffer size: 9.75 GB"), "9.75 GB more were asked for"),
        (RuntimeError(WINDOWS), "90 bytes more were asked for"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), "PyTorch does not say"),
        (RuntimeError("CUDA error: out of memory"), "PyTorch does not say"),
        (RuntimeError("could not create a primitive"), "PyTorch does not say"),
        (RuntimeError("could not create a primitive descriptor for the convolution"), "PyTorch does not say"),
        (RuntimeError("could not create a memory"), "PyTorch does not say"),
        (RuntimeError("could not create a memory object"), "PyTorch does not say"),
        (RuntimeError("could not execute a primitive"), "PyTorch does not say"),
        (RuntimeError("std::bad_alloc"), "PyTorch does not say"),
        (RuntimeError("bad allocation"), "PyTorch does not say"),
    ],
)
def test_other_devices_are_understood(error: RuntimeError, size: str) -> None:
    """Oracle: the size in the text."""
    assert size in explained(error)


@pytest.mark.parametrize("error", [RuntimeError("mat1 and mat2 shapes"), ValueError("out of memory"), KeyError("x")])
def test_other_errors_pass(error: Exception) -> None:
    """Oracle: the very same exception."""
    with pytest.raises(type(error)) as caught, training_memory_errors(**SETTINGS):
        raise error
    assert caught.value is error


@pytest.mark.parametrize(
    ("changed", "gone"),
    [
        ({"activation_checkpointing": True}, {"activation_checkpointing"}),
        ({"precision": "bf16"}, {"precision"}),
        ({"accumulation": 8}, {"accumulation", "batch_size"}),
        ({"batch_size": 1}, {"accumulation", "batch_size"}),
        ({"crop_size": None}, {"crop_size"}),
    ],
)
def test_what_helps_no_more_is_not_offered(changed: dict[str, Any], gone: set[str]) -> None:
    """Oracle: the keys that are named are all others."""
    message = explained(torch.OutOfMemoryError(CUDA), **changed)
    assert {key for key in SETTINGS if f".{key}" in message} == SETTINGS.keys() - gone


def test_ranks_share_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: by hand; a rank of four has two images, and more than two parts of them there cannot be."""
    monkeypatch.setattr(distributed, "world_size", lambda: 4)
    message = explained(torch.OutOfMemoryError(CUDA))
    assert "trainer.accumulation=2 (now 1: 2 images at a time)" in message
    message = explained(torch.OutOfMemoryError(CUDA), accumulation=2)
    assert "accumulation" not in message


def test_parts_are_equal() -> None:
    """Oracle: by hand; nine images in three parts are three at a time, the next that divides nine is nine."""
    message = explained(RuntimeError(MPS), batch_size=9, accumulation=3)
    assert "trainer.accumulation=9 (now 3: 3 images at a time)" in message


def test_inference_has_other_ways() -> None:
    """Oracle: none of training's keys; val is told of windows, which it does not take by itself."""

    class Huge:
        align_corners = False

        def __call__(self, _image: torch.Tensor, /) -> None:
            raise torch.OutOfMemoryError(CUDA)

    with pytest.raises(OutOfMemoryError, match=r"inference ran .* 1.16 GiB .*evaluation=sliding_window") as caught:
        Inference().answer(Huge(), torch.zeros(1, 3, 2, 2))
    assert "(--slide in val; windows change the score)" in str(caught.value)
    assert "trainer." not in str(caught.value)


def test_a_function_can_be_explained_as_a_whole() -> None:
    """Oracle: the same line on every call; an error that is explained already is left as it is."""

    @inference_memory_errors()
    def fail(error: Exception) -> None:
        raise error

    for _ in range(2):
        with pytest.raises(OutOfMemoryError, match=r"1.16 GiB more"):
            fail(torch.OutOfMemoryError(CUDA))
    known = OutOfMemoryError("training ran out of memory")
    with pytest.raises(OutOfMemoryError) as caught:
        fail(known)
    assert caught.value is known
