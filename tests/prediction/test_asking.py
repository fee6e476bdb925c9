"""The ladder of memory: a batch is halved, then tiles, then smaller ones; and what a model says stays the same."""

import logging
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ccnet.errors import UserError
from ccnet.evaluation.inference import Inference
from ccnet.out_of_memory import OutOfMemoryError
from ccnet.prediction.asking import Asking, Way
from tests.prediction.conftest import Bright

CPU = torch.device("cpu")


def noise(count: int, height: int, width: int) -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 256, (count, height, width, 3), dtype=np.uint8))


def bright(image: np.ndarray) -> np.ndarray:
    """The mask by hand; equal halves are class 0."""
    return (image.astype(int).sum(axis=2) * 2 > 3 * 255).astype(np.uint8)


def test_masks_confidences_and_probabilities() -> None:
    """Oracle: the answer by hand: the softmax of two logits is a sigmoid of their difference."""
    images = noise(3, 20, 31)
    ask = Asking(Bright(), Inference(batch_size=2), CPU)
    found = list(ask(images, confidence=True, probabilities=np.float32))
    for image, each in zip(images, found, strict=True):
        light = image.mean(axis=2) / 255
        second = 1 / (1 + np.exp(-4 * (2 * light - 1)))
        expected = np.stack([1 - second, second])
        assert np.array_equal(each.mask, bright(image))
        assert each.probabilities is not None
        assert each.probabilities.dtype == np.float32
        np.testing.assert_allclose(each.probabilities, expected, atol=1e-5)
        assert each.confidence is not None
        assert np.abs(each.confidence - 255 * expected.max(axis=0)).max() <= 0.51
    assert all(each.confidence is None and each.probabilities is None for each in ask(images))


@pytest.mark.parametrize(
    ("most", "asked", "tile"),
    [
        (4 * 300 * 400, [4], None),
        (300 * 400 * 2, [4, 2, 2], None),
        (300 * 400, [4, 2, 1, 1, 1, 1], None),
        (256 * 256, [4, 2, 1], 256),
        (128 * 128, [4, 2, 1], 128),
    ],
)
def test_the_ladder(most: int, asked: list[int], tile: int | None, caplog: pytest.LogCaptureFixture) -> None:
    """Oracle: masks by hand, whatever way they came; the batches that were asked about; a warning for each step down,
    and none for the next images of that size, whose way is known."""
    model = Bright(most)
    ask = Asking(model, Inference(batch_size=4), CPU)
    images = noise(4, 300, 400)
    with caplog.at_level(logging.WARNING, "ccnet"):
        found = list(ask(images))
        steps = len(caplog.records)
        again = list(ask(images[:1]))
    assert [batch for batch, *size in model.asked if size == [300, 400]][: len(asked)] == asked
    for image, each in zip([*images, images[0]], [*found, *again], strict=True):
        assert np.array_equal(each.mask, bright(image))
        assert each.tile == tile
    assert len(caplog.records) == steps == len(set(asked)) - 1 + {None: 0, 256: 1, 128: 2}[tile]
    if tile:
        assert caplog.messages[-1].endswith(f"images of 300x400 are asked about in tiles of {tile} pixels from here on")
        assert max(max(size) for _, *size in model.asked[-4:]) == tile
        assert ask.ways == {(300, 400): Way(1, tile)}


def test_another_size_begins_at_the_top() -> None:
    """Oracle: the batch that is asked about."""
    model = Bright(100 * 150 * 2)
    ask = Asking(model, Inference(batch_size=2), CPU)
    list(ask(noise(2, 200, 150)))
    model.asked.clear()
    list(ask(noise(2, 100, 150)))
    assert model.asked == [(2, 100, 150)]


def test_it_gives_up_below_the_smallest_tile_and_keeps_what_it_has() -> None:
    """Oracle: the message; images before the failure are answered."""
    with pytest.raises(OutOfMemoryError, match="not even tiles of 128 pixels fit"):
        list(Asking(Bright(128 * 128 - 1), Inference(), CPU)(noise(1, 300, 200)))
    model = Bright()
    answers = Asking(model, Inference(), CPU)(noise(2, 100, 100))
    next(answers)
    model.most = 1
    with pytest.raises(OutOfMemoryError, match=r"inference ran out of memory: 7.00 GiB more were asked for"):
        next(answers)


def test_freed_memory_is_given_back_at_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the calls: for two halves of the batch and a tile."""
    calls: list[torch.device] = []
    monkeypatch.setattr("ccnet.prediction.asking.return_freed_memory", calls.append)
    list(Asking(Bright(256 * 256), Inference(batch_size=4), CPU)(noise(4, 300, 400)))
    assert calls == [CPU] * 3


@pytest.mark.parametrize(("crop_size", "first"), [((200, 300), 128), ((256, 256), 256), ((900, 900), 256)])
def test_tiles_are_no_larger_than_the_windows(crop_size: tuple[int, int], first: int) -> None:
    """Oracle: the largest power of two that neither the windows nor the image's longest side, 400, is below; two
    windows at once are too much, one is not."""
    model = Bright(2 * min(300, crop_size[0]) * min(400, crop_size[1]) - 1)
    ask = Asking(model, Inference(crop_size=crop_size, batch_size=2), CPU)
    if crop_size == (900, 900):  # a single window sees all of the image
        model.most = 300 * 400 - 1
    list(ask(noise(1, 300, 400)))
    assert ask.ways == {(300, 400): Way(1, first)}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("options", [{}, {"crop_size": (32, 32), "flip": True}])
def test_what_is_no_number_is_no_answer(value: float, options: dict[str, Any]) -> None:
    """One place of one window. Oracle: the error, after the images before; a class that a model rules out with -inf is
    an answer."""

    class Spoilt(Bright):
        value = float("-inf")

        def forward(self, image: Tensor) -> SimpleNamespace:
            outputs = super().forward(image)
            outputs.logits[:, 1][image[:, 0] == 77] = self.value
            return outputs

    images = noise(2, 40, 50)
    for image in images:
        image[..., 0] = np.where(image[..., 0] == 77, 78, image[..., 0])
    images[1][5, 6, 0] = 77
    model = Spoilt()
    ask = Asking(model, Inference(**options), CPU)
    assert [each.mask[5, 6] for each in ask(images)][1] == 0
    model.value = value
    answers = ask(images)
    next(answers)
    with pytest.raises(UserError, match="the model answers NaN; leave out --amp, or take another checkpoint"):
        next(answers)


def test_memory_of_the_host_counts_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the batch after NumPy could not stack four images."""
    real, failed = np.stack, []

    def stack(images: list[np.ndarray]) -> np.ndarray:
        if len(images) > 2:
            failed.append(len(images))
            raise MemoryError
        return real(images)

    monkeypatch.setattr("ccnet.prediction.asking.np.stack", stack)
    ask = Asking(Bright(), Inference(batch_size=4), CPU)
    assert len(list(ask(noise(4, 9, 9)))) == 4
    assert (failed, ask.ways) == ([4], {(9, 9): Way(2)})


@pytest.mark.parametrize(
    ("size", "tiles"), [((1024, 2048), [1024, 512, 256, 128]), ((769, 400), [512, 256, 128]), ((128, 128), [])]
)
def test_tiles_are_powers_of_two_below_the_image(size: tuple[int, int], tiles: list[int]) -> None:
    """Oracle: written out."""
    way, found = Way(1), []
    while (cheaper := way.cheaper(1, size)) is not None:
        found.append(cheaper.tile)
        way = cheaper
    assert found == tiles
