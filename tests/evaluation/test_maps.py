"""Maps by rows against the whole maps that PyTorch or a loop makes."""

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from ccnet.evaluation.maps import Held, Maps, Mean, Mirrored, Resized, Softmax, Windows

SIDES = st.tuples(st.integers(1, 13), st.integers(1, 13))


def random_maps(height: int, width: int, batch: int = 2, classes: int = 3) -> Tensor:
    return torch.rand(batch, classes, height, width, generator=torch.Generator().manual_seed(height * 31 + width))


def by_ranges(maps: Maps, step: int) -> Tensor:
    """All rows, `step` at a time."""
    height = maps.shape[2]
    return torch.cat([maps.rows(top, min(top + step, height)) for top in range(0, height, step)], dim=2)


@settings(deadline=None, max_examples=60)
@given(source=SIDES, target=SIDES, align_corners=st.booleans(), step=st.integers(1, 6))
@example(source=(1, 1), target=(7, 5), align_corners=True, step=2)
@example(source=(13, 2), target=(1, 1), align_corners=True, step=1)
@example(source=(13, 11), target=(2, 3), align_corners=False, step=1)
@example(source=(5, 4), target=(5, 4), align_corners=False, step=3)
@example(source=(5, 4), target=(5, 9), align_corners=True, step=3)
def test_resized(source: tuple[int, int], target: tuple[int, int], align_corners: bool, step: int) -> None:
    """Oracle: F.interpolate, up and down, to any size."""
    maps = random_maps(*source)
    resized = Resized(Held(maps), target, align_corners)
    assert resized.shape == (2, 3, *target)
    expected = F.interpolate(maps, target, mode="bilinear", align_corners=align_corners)
    torch.testing.assert_close(by_ranges(resized, step), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("align_corners", [False, True])
def test_far_down_an_image_rows_are_as_exact(align_corners: bool) -> None:
    """Oracle: F.interpolate in float64; positions in float32 would have few digits left."""
    maps = random_maps(255, 3, 1, 1)
    expected = F.interpolate(maps.double(), (2047, 3), mode="bilinear", align_corners=align_corners).float()
    torch.testing.assert_close(
        by_ranges(Resized(Held(maps), (2047, 3), align_corners), 64), expected, rtol=0, atol=3e-7
    )


def test_only_the_rows_that_are_needed_are_asked_for() -> None:
    """Oracle: by hand: rows 8 to 15 of 8-fold upsampling lie between the centres of rows 0 and 2."""
    asked = []

    class Watched(Held):
        def rows(self, top: int, bottom: int) -> Tensor:
            asked.append((top, bottom))
            return super().rows(top, bottom)

    Resized(Watched(random_maps(16, 4)), (128, 32), align_corners=False).rows(8, 16)
    assert asked == [(0, 3)]


def test_mirrored_softmax_and_mean() -> None:
    """Oracle: the functions of PyTorch on the whole maps, which are left as they were."""
    maps, others = random_maps(5, 4), random_maps(5, 4) + 1
    before = maps.clone()
    assert torch.equal(by_ranges(Mirrored(Held(maps)), 2), maps.flip(-1))
    torch.testing.assert_close(by_ranges(Softmax(Held(maps)), 2), maps.softmax(1))
    torch.testing.assert_close(by_ranges(Mean([Held(maps), Held(others), Held(maps)]), 2), (2 * maps + others) / 3)
    assert torch.equal(maps, before)


@settings(deadline=None, max_examples=40)
@given(data=st.data(), size=SIDES, step=st.integers(1, 6))
def test_windows(data: st.DataObject, size: tuple[int, int], step: int) -> None:
    """Oracle: a loop over pixels and windows, in float64; windows anywhere over one that sees all."""
    height, width = size
    windows: list[tuple[int, int, Tensor]] = [(0, 0, random_maps(height, width))]
    for _ in range(data.draw(st.integers(0, 3))):
        top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
        sides = data.draw(st.integers(1, height - top)), data.draw(st.integers(1, width - left))
        windows.append((top, left, random_maps(*sides)))
    expected = torch.zeros(2, 3, height, width, dtype=torch.float64)
    for y in range(height):
        for x in range(width):
            seen = [
                window[..., y - top, x - left].double()
                for top, left, window in windows
                if 0 <= y - top < window.shape[-2] and 0 <= x - left < window.shape[-1]
            ]
            expected[..., y, x] = torch.stack(seen).mean(0)
    maps = Windows([(top, left, Held(window)) for top, left, window in windows], size)
    torch.testing.assert_close(by_ranges(maps, step).double(), expected, rtol=1e-6, atol=1e-6)
