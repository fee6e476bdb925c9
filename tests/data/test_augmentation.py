"""Augmentation: sizes, labels, and randomness that depends on the seed alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccnet.data.augmentation import MEAN_COLOR, ScaleCropFlip
from ccnet.data.sample import Sample


def sample_of(height: int, width: int) -> Sample:
    rng = np.random.default_rng(3)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return {"image": image, "mask": rng.integers(0, 19, (height, width), dtype=np.uint8), "name": "x"}


def identity(height: int, width: int) -> ScaleCropFlip:
    return ScaleCropFlip((height, width), (1.0, 1.0), flip=0.0, brightness=0, contrast=0, saturation=0, hue=0)


@settings(max_examples=15, deadline=None)
@given(height=st.integers(5, 40), width=st.integers(5, 40), seed=st.integers(0, 2**32))
def test_crops_have_their_size_and_no_new_labels(height: int, width: int, seed: int) -> None:
    """Oracle: the labels before, and 255 for padding: no interpolation between classes."""
    sample = sample_of(height, width)
    result = ScaleCropFlip((16, 24), (0.5, 2.0))(sample, np.random.SeedSequence(seed))
    assert result["image"].shape == (16, 24, 3)
    assert result["mask"].shape == (16, 24)
    assert result["image"].dtype == result["mask"].dtype == np.uint8
    assert set(np.unique(result["mask"])) <= {*np.unique(sample["mask"]), 255}


def test_parameters_of_no_effect_leave_the_sample_alone() -> None:
    """Oracle: the sample itself."""
    sample = sample_of(16, 24)
    result = identity(16, 24)(sample, np.random.SeedSequence(0))
    assert np.array_equal(result["image"], sample["image"])
    assert np.array_equal(result["mask"], sample["mask"])


def test_padding_is_mean_coloured_and_ignored() -> None:
    """albumentations would pad masks with class 0."""
    result = identity(10, 12)(sample_of(4, 6), np.random.SeedSequence(0))
    padded = result["mask"] == 255
    assert padded.sum() == 10 * 12 - 4 * 6
    assert (result["image"][padded] == MEAN_COLOR).all()


def test_a_flip_mirrors_image_and_mask() -> None:
    """Oracle: numpy's reversal."""
    sample = sample_of(8, 8)
    mirror = ScaleCropFlip((8, 8), (1.0, 1.0), flip=1.0, brightness=0, contrast=0, saturation=0, hue=0)
    result = mirror(sample, np.random.SeedSequence(0))
    assert np.array_equal(result["image"], sample["image"][:, ::-1])
    assert np.array_equal(result["mask"], sample["mask"][:, ::-1])


def test_the_seed_alone_decides() -> None:
    """Oracle: equality for equal seeds in any order of calls, difference for others."""
    augmentation, sample = ScaleCropFlip((16, 16), (0.5, 2.0)), sample_of(30, 30)
    first = augmentation(sample, np.random.SeedSequence([1, 2]))["image"]
    other = augmentation(sample, np.random.SeedSequence([1, 3]))["image"]
    again = augmentation(sample, np.random.SeedSequence([1, 2]))["image"]
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_transforms_draw_independently() -> None:
    """Compose(seed=...) would give all transforms one stream: flips and crop positions would go together."""
    augmentation = ScaleCropFlip((8, 8), (1.0, 1.0), brightness=0, contrast=0, saturation=0, hue=0)
    ramp = np.tile(np.arange(64, dtype=np.uint8), (64, 1))
    sample: Sample = {"image": np.stack([ramp] * 3, axis=-1), "mask": ramp // 4, "name": "x"}
    flipped, left = [], []
    for seed in range(400):
        row = augmentation(sample, np.random.SeedSequence(seed))["image"][0, :, 0].astype(int)
        flipped.append(row[0] > row[-1])
        left.append(row.min())
    assert 0.4 < np.mean(flipped) < 0.6
    assert abs(np.corrcoef(flipped, left)[0, 1]) < 0.15


def test_scales_span_their_range() -> None:
    """Oracle: a 20-pixel block seen at scales 0.5 to 2: albumentations' limits are relative to 1."""
    image = np.zeros((40, 40, 3), np.uint8)
    mask = np.zeros((40, 40), np.uint8)
    mask[10:30, 10:30] = 1
    augmentation = ScaleCropFlip((100, 100), (0.5, 2.0), flip=0, brightness=0, contrast=0, saturation=0, hue=0)
    sides = [
        np.sqrt(
            (augmentation({"image": image, "mask": mask, "name": "x"}, np.random.SeedSequence(s))["mask"] == 1).sum()
        )
        for s in range(200)
    ]
    assert 10 <= min(sides) < 12
    assert 38 < max(sides) <= 40


def test_a_crop_size_of_one_number_is_refused() -> None:
    """Oracle: the constructor."""
    with pytest.raises(ValueError, match="not enough values"):
        ScaleCropFlip((16,))
