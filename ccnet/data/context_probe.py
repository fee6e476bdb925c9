"""Generated images whose labels cannot be told from near by: what context must a model gather, and from where?

A grid of noisy coloured cells. Two key cells, in different rows and different columns, are both red or both blue. About
30 % of the other cells are grey queries, and the class of every query is the keys' colour; the rest mean nothing.

A query on a key's cross (its row or column) can be answered by one criss-cross attention. One off both crosses cannot:
its own row and column hold no key. A second loop reaches everything (CCNet Sec. 3.3, arXiv:1811.11721).
"""

from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from ccnet.data.sample import IGNORE_INDEX, Sample

Value = TypeVar("Value", bound=np.generic)

ON_CROSS, OFF_CROSS = 0, 1
KEY_COLORS = ((214, 40, 40), (40, 84, 214))
GREY = 128
QUERY_SHARE = 0.3
HUES = (50.0, 160.0)  # of the cells that mean nothing, in degrees: yellow to green, far from red and blue
NOISE = 32  # largest change of a channel of a pixel, of 255


class ContextProbe:
    """Made in memory; sample i of a split is a function of (seed, split, i) alone. Samples 2k and 2k + 1 are twins that
    differ in the colour of their keys and in nothing else: who cannot see the keys is right on exactly half.

    The mask names the class on the inner half (in height and width) of each query and is 255 elsewhere: where features
    have a stride of half a cell, bilinear upsampling then mixes positions of the query's own cell only, and no labelled
    pixel hears of its neighbours. The region is `on-cross` or `off-cross` on whole cells, 255 on the keys.

    Args:
        split: train or val, which share no image.
        num_train, num_val: images of the splits, even.
        grid: cells in a row and in a column.
        cell: side of a cell in pixels.
        seed: of the images.

    Raises:
        ValueError: an unknown split, no images or a lonely twin, a grid without cells off the crosses, or cells that
            cannot be halved twice.
    """

    def __init__(
        self,
        split: Literal["train", "val"],
        num_train: int = 9600,
        num_val: int = 128,
        grid: int = 8,
        cell: int = 8,
        seed: int = 0,
    ) -> None:
        sizes = {"train": num_train, "val": num_val}
        if split not in sizes:
            raise ValueError(f"the context probe has the splits train and val, not {split}")
        if min(sizes.values()) < 2 or num_train % 2 or num_val % 2:
            raise ValueError(f"num_train and num_val must be even, and at least 2; got {num_train} and {num_val}")
        if grid < 3:
            raise ValueError(f"grid must be at least 3, so that cells lie off the keys' crosses; got {grid}")
        if cell < 4 or cell % 4:
            raise ValueError(f"cell must be a multiple of 4 pixels, got {cell}")
        self.split, self.grid, self.cell, self.seed = split, grid, cell, seed
        self.size = sizes[split]
        self.class_names = ["red", "blue"]
        self.palette = KEY_COLORS
        self.region_names = ["on-cross", "off-cross"]

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Sample:
        """Draws a sample.

        Raises:
            IndexError: beyond the last.
        """
        if not 0 <= index < self.size:
            raise IndexError(f"the split {self.split} has {self.size} images, there is no {index}")
        layout, key_class = divmod(index, self.num_classes)
        rng = np.random.default_rng([self.seed, ("train", "val").index(self.split), layout])
        rows, columns = (rng.permutation(self.grid)[:2] for _ in range(2))
        query = rng.random((self.grid, self.grid)) < QUERY_SHARE
        query[rows, columns] = False

        colors = _color_of(rng.uniform(*HUES, query.shape))
        colors[query] = GREY
        colors[rows, columns] = KEY_COLORS[key_class]
        image = self._pixels(colors)
        image += rng.integers(-NOISE, NOISE, image.shape, dtype=np.int8, endpoint=True)

        region = np.full(query.shape, OFF_CROSS, dtype=np.uint8)
        region[rows] = region[:, columns] = ON_CROSS
        region[rows, columns] = IGNORE_INDEX
        return {
            "image": image.clip(0, 255).astype(np.uint8),
            "mask": np.where(self._pixels(query) & self._inner(), np.uint8(key_class), np.uint8(IGNORE_INDEX)),
            "name": f"{self.split}_{index:06d}",
            "region": self._pixels(region),
        }

    def labels(self, index: int) -> NDArray[np.uint8]:
        """The mask of a sample, drawn with it: uint8 (H, W)."""
        return self[index]["mask"]

    def _pixels(self, cells: NDArray[Value]) -> NDArray[Value]:
        """A value per cell (grid, grid, ...) -> a value per pixel (H, W, ...)."""
        return cells.repeat(self.cell, axis=0).repeat(self.cell, axis=1)

    def _inner(self) -> NDArray[np.bool_]:
        """(H, W): whether a pixel lies in the inner half of its cell, down and right."""
        offset = np.arange(self.grid * self.cell) % self.cell
        inner = (offset >= self.cell // 4) & (offset < self.cell - self.cell // 4)
        return inner[:, None] & inner


def _color_of(hue: NDArray[np.float64]) -> NDArray[np.int16]:
    """Degrees (...) -> RGB 0..255 (..., 3) of equal brightness, as the cosine distance to each primary's hue."""
    primaries = np.radians(hue[..., None] - np.array([0.0, 120.0, 240.0]))
    return (GREY + 70 * np.cos(primaries)).astype(np.int16)
