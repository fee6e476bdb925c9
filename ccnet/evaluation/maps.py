"""Maps that are computed where they are looked at: upsampled, mirrored, in windows, averaged.

Each takes a tensor or other maps, and holds no more than these.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

Shape = tuple[int, int, int, int]


class Maps(Protocol):
    """Scores (B, C, H, W), float32, a range of rows at a time."""

    @property
    def shape(self) -> Shape:
        """(B, C, H, W)."""
        ...

    def rows(self, top: int, bottom: int) -> Tensor:
        """(B, C, bottom - top, W); may be a view of what is held, so nobody writes to it."""
        ...


class Held:
    """A tensor (B, C, H, W)."""

    def __init__(self, maps_BCHW: Tensor) -> None:
        batch, classes, height, width = maps_BCHW.shape
        self.maps_BCHW = maps_BCHW
        self.shape: Shape = (batch, classes, height, width)

    def rows(self, top: int, bottom: int) -> Tensor:
        """As they are held."""
        return self.maps_BCHW[:, :, top:bottom]


class Resized:
    """Maps at another size (H, W), bilinear, equal to those of F.interpolate up to rounding."""

    def __init__(self, maps: Maps, size: Sequence[int], align_corners: bool) -> None:
        self.maps, self.align_corners = maps, align_corners
        batch, classes, source, _ = maps.shape
        height, width = size
        self.shape: Shape = (batch, classes, height, width)
        row = torch.arange(height, dtype=torch.float64)
        if align_corners:
            place = row * ((source - 1) / max(1, height - 1))
        else:
            place = ((row + 0.5) * (source / height) - 0.5).clamp_min(0)
        self.above = place.long().clamp_max(source - 1)  # of the two rows that a row lies between
        self.share = (place - self.above).float()[:, None]  # of the one below

    def rows(self, top: int, bottom: int) -> Tensor:
        """Columns first, on the few rows that are needed; then the rows between each two of them."""
        if self.shape == self.maps.shape:
            return self.maps.rows(top, bottom)
        batch, classes, _, width = self.shape
        above, counts = (each.tolist() for each in self.above[top:bottom].unique_consecutive(return_counts=True))
        first, last = above[0], min(above[-1] + 1, self.maps.shape[2] - 1)
        needed = self.maps.rows(first, last + 1)
        needed = F.interpolate(needed, (last + 1 - first, width), mode="bilinear", align_corners=self.align_corners)
        found = needed.new_empty(batch, classes, bottom - top, width)
        shares = self.share[top:bottom].to(needed.device)
        for row, part, share in zip(above, found.split(counts, dim=2), shares.split(counts), strict=True):
            pair = needed[:, :, row - first, None], needed[:, :, min(row + 1, last) - first, None]
            torch.lerp(*pair, share, out=part)
        return found


class Mirrored:
    """Maps with left and right exchanged."""

    def __init__(self, maps: Maps) -> None:
        self.maps, self.shape = maps, maps.shape

    def rows(self, top: int, bottom: int) -> Tensor:
        """The same rows, from right to left."""
        return self.maps.rows(top, bottom).flip(-1)


class Softmax:
    """Probabilities out of logits."""

    def __init__(self, logits: Maps) -> None:
        self.logits, self.shape = logits, logits.shape

    def rows(self, top: int, bottom: int) -> Tensor:
        """Over the classes."""
        return self.logits.rows(top, bottom).softmax(dim=1)


class Mean:
    """The mean of maps of one shape."""

    def __init__(self, maps: Sequence[Maps]) -> None:
        self.maps, self.shape = maps, maps[0].shape

    def rows(self, top: int, bottom: int) -> Tensor:
        """One after the other."""
        first, *others = self.maps
        total = first.rows(top, bottom) / len(self.maps)
        for each in others:
            total.add_(each.rows(top, bottom), alpha=1 / len(self.maps))
        return total


class Windows:
    """Windows of an image of a size (H, W), which they cover; a pixel has the mean over the windows that see it.

    Args:
        windows: each with the row and column of its first pixel.
        size: of the image.
    """

    def __init__(self, windows: Sequence[tuple[int, int, Maps]], size: Sequence[int]) -> None:
        self.windows = windows
        batch, classes, _, _ = windows[0][2].shape
        height, width = size
        self.shape: Shape = (batch, classes, height, width)

    def rows(self, top: int, bottom: int) -> Tensor:
        """Sums of what each window sees of the rows, divided by how many do."""
        seen = []
        for first, left, window in self.windows:
            begin, end = max(top, first), min(bottom, first + window.shape[2])
            if begin < end:
                place = slice(begin - top, end - top), slice(left, left + window.shape[3])
                seen.append((place, window.rows(begin - first, end - first)))
        batch, classes, _, width = self.shape
        total = seen[0][1].new_zeros(batch, classes, bottom - top, width)
        count = seen[0][1].new_zeros(bottom - top, width)
        for place, scores in seen:
            total[..., *place] += scores
            count[place] += 1
        return total.div_(count)
