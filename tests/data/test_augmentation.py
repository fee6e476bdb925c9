"""Augmentation: sizes, labels, distributions, and randomness that depends on the seed alone."""

import random
from collections.abc import Sequence
from typing import Any

import albumentations as A
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare, ks_2samp

import ccnet.data.augmentation as augmentation_module
from ccnet.data.augmentation import MEAN_COLOR, ScaleCropFlip, Unchanged
from ccnet.data.sample import Sample
from ccnet.errors import ConfigError

NO_COLORS = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}


def sample_of(height: int, width: int) -> Sample:
    rng = np.random.default_rng(3)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return {"image": image, "mask": rng.integers(0, 19, (height, width), dtype=np.uint8), "name": "x"}


def geometry(crop_size: Sequence[int], scale: Sequence[float] = (1.0, 1.0), **other: Any) -> ScaleCropFlip:
    """Scale and crop alone, where nothing else is said."""
    return ScaleCropFlip(crop_size, scale, **{"flip": 0.0, **NO_COLORS, **other})


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    seed=st.integers(0, 2**32),
    colors=st.booleans(),
    cat_max_ratio=st.sampled_from([0.5, 1.0]),
    balanced=st.sampled_from([0.0, 1.0]),
    scale_step=st.sampled_from([None, 0.25]),
)
def test_crops_have_their_size_and_no_new_values(
    height: int, width: int, seed: int, colors: bool, **options: Any
) -> None:
    """Oracle: the labels before, and 255 for padding; between the darkest and the brightest value before or padding."""
    sample = sample_of(height, width)
    sample["image"] //= 2
    augmentation = (
        ScaleCropFlip((16, 24), blur=0.5, **options) if colors else geometry((16, 24), (0.5, 2.0), flip=0.5, **options)
    )
    result = augmentation(sample, np.random.SeedSequence(seed))
    assert result["image"].shape == (16, 24, 3)
    assert result["mask"].shape == (16, 24)
    assert result["image"].dtype == result["mask"].dtype == np.uint8
    assert set(np.unique(result["mask"])) <= {*np.unique(sample["mask"]), 255}
    assert colors or result["image"].max() <= max(*MEAN_COLOR, sample["image"].max())
    assert colors or result["image"].min() >= min(*MEAN_COLOR, sample["image"].min())
    assert result["name"] == "x"


def test_parameters_of_no_effect_leave_the_sample_alone() -> None:
    """Oracle: the sample itself."""
    sample = sample_of(16, 24)
    for same in (geometry((16, 24)), Unchanged()):
        result = same(sample, np.random.SeedSequence(0))
        assert np.array_equal(result["image"], sample["image"])
        assert np.array_equal(result["mask"], sample["mask"])


def test_padding_is_mean_coloured_ignored_and_on_all_sides() -> None:
    """Oracle: the sample in the middle of a larger crop, as PadIfNeeded puts it."""
    sample = sample_of(4, 7)
    result = geometry((9, 12))(sample, np.random.SeedSequence(0))
    pipeline = A.PadIfNeeded(9, 12, border_mode=cv2.BORDER_CONSTANT, fill=MEAN_COLOR, fill_mask=255)
    expected = pipeline(image=sample["image"], mask=sample["mask"])
    assert np.array_equal(result["image"], expected["image"])
    assert np.array_equal(result["mask"], expected["mask"])


def test_padding_at_the_end_in_another_colour() -> None:
    """Oracle: the official CCNet's way: the sample in the upper left corner, the rest ignored."""
    sample = sample_of(4, 7)
    result = geometry((9, 12), padding="end", padding_color=[1, 2, 3])(sample, np.random.SeedSequence(0))
    image, mask = np.full((9, 12, 3), (1, 2, 3), np.uint8), np.full((9, 12), 255, np.uint8)
    image[:4, :7], mask[:4, :7] = sample["image"], sample["mask"]
    assert np.array_equal(result["image"], image)
    assert np.array_equal(result["mask"], mask)


def test_a_flip_mirrors_image_mask_and_region() -> None:
    """Oracle: numpy's reversal."""
    sample = sample_of(8, 8)
    sample["region"] = sample["mask"] // 2
    result = geometry((8, 8), flip=1.0)(sample, np.random.SeedSequence(0))
    assert np.array_equal(result["image"], sample["image"][:, ::-1])
    assert np.array_equal(result["mask"], sample["mask"][:, ::-1])
    assert np.array_equal(result["region"], sample["region"][:, ::-1])


def test_the_seed_alone_decides() -> None:
    """Oracle: equality for equal seeds in any order of calls and in another object, difference for others."""
    options = {"cat_max_ratio": 0.75, "balanced": 0.5, "blur": 0.5}
    augmentation, sample = ScaleCropFlip((16, 16), **options), sample_of(30, 30)  # type: ignore[arg-type]
    first = [augmentation(sample, np.random.SeedSequence([1, seed]))["image"] for seed in range(12)]
    other = ScaleCropFlip((16, 16), **options)  # type: ignore[arg-type]
    for seed in reversed(range(12)):
        assert np.array_equal(first[seed], other(sample, np.random.SeedSequence([1, seed]))["image"])
    assert len({image.tobytes() for image in first}) == 12


def centres(augmentation: Any, seeds: range) -> dict[str, list[float]]:
    """Where in a 90x120 source the crop's middle lies, and how many of its rows it shows, over many draws."""
    found: dict[str, list[float]] = {"row": [], "column": [], "extent": []}
    y, x = np.mgrid[:90, :120].astype(np.uint8)
    image = 2 * np.stack([y, x, x], axis=-1)  # so that half pixels survive rounding
    for seed in seeds:
        crop = augmentation(image, seed)
        found["row"].append(crop[31:33, 31:33, 0].mean())
        found["column"].append(crop[31:33, 31:33, 1].mean())
        found["extent"].append(float(crop[:, 32, 0].max()) - crop[:, 32, 0].min())
    return found


def test_crops_are_distributed_as_by_albumentations() -> None:
    """Oracle: RandomScale, PadIfNeeded and RandomCrop on the whole image; Kolmogorov-Smirnov, and correlations."""
    pipeline = A.Compose(
        [A.RandomScale((-0.5, 1.0), p=1), A.PadIfNeeded(64, 64, fill=MEAN_COLOR), A.RandomCrop(64, 64)]
    )
    pipeline.set_random_state(np.random.default_rng(1), random.Random(1))  # shared: with seed=1 all draw the same
    ours = geometry((64, 64), (0.5, 2.0))
    blank = np.zeros((90, 120), np.uint8)

    def draw(image: Any, seed: int) -> Any:
        return ours({"image": image, "mask": blank, "name": "x"}, np.random.SeedSequence(seed))["image"]

    found = centres(draw, range(2000))
    expected = centres(lambda image, _: pipeline(image=image)["image"], range(2000))
    for name, values in found.items():
        assert ks_2samp(values, expected[name]).pvalue > 0.01, name
    correlations = [np.corrcoef(list(each.values())) for each in (found, expected)]
    assert np.abs(correlations[0] - correlations[1]).max() < 0.08


def test_places_factors_and_flips_are_uniform_and_independent() -> None:
    """Oracle: chi-square with fixed seeds; Compose(seed=...) would give all transforms one stream."""
    mask = np.zeros((21, 31), np.uint8)
    augmentation = geometry((10, 10))
    crops = [augmentation.draw(mask, np.random.default_rng(seed)) for seed in range(4000)]
    places = [[crop.rows.start for crop in crops], [crop.columns.start for crop in crops]]
    assert chisquare(np.bincount(places[0], minlength=12)).pvalue > 0.01
    assert chisquare(np.bincount(places[1], minlength=22)).pvalue > 0.01
    assert abs(np.corrcoef(places)[0, 1]) < 0.05
    wide = geometry((1, 1), (0.5, 2.0))
    factors = [wide.draw(np.zeros((1000, 1), np.uint8), np.random.default_rng(s)).rows.scaled for s in range(4000)]
    assert chisquare(np.histogram(factors, 15, (500, 2000))[0]).pvalue > 0.01


def test_flips_do_not_follow_the_place() -> None:
    """Oracle: half of the crops, without correlation."""
    ramp = np.tile(np.arange(64, dtype=np.uint8), (64, 1))
    sample: Sample = {"image": np.stack([ramp] * 3, axis=-1), "mask": ramp // 4, "name": "x"}
    augmentation = geometry((8, 8), flip=0.5)
    rows = [augmentation(sample, np.random.SeedSequence(s))["image"][0, :, 0].astype(int) for s in range(600)]
    flipped = [row[0] > row[-1] for row in rows]
    assert 0.44 < np.mean(flipped) < 0.56
    assert abs(np.corrcoef(flipped, [row.min() for row in rows])[0, 1]) < 0.12


def test_steps_of_scale() -> None:
    """Oracle: the multiples, both ends with them, each as likely."""
    augmentation = geometry((1, 1), (0.5, 2.0), scale_step=0.25)
    mask = np.zeros((100, 100), np.uint8)
    scaled = [augmentation.draw(mask, np.random.default_rng(seed)).rows.scaled for seed in range(1400)]
    values, counts = np.unique(scaled, return_counts=True)
    assert values.tolist() == [50, 75, 100, 125, 150, 175, 200]
    assert chisquare(counts).pvalue > 0.01


def test_one_class_rarely_fills_a_crop() -> None:
    """Oracle: 11 of the 81 places show at least a quarter of either half; one of ten tries has to hit them."""
    mask = np.zeros((100, 100), np.uint8)
    mask[:, 50:] = 1
    mask[:10] = 255  # counts for neither
    for ratio, expected in ((1.0, 11 / 81), (0.75, 1 - (70 / 81) ** 10)):
        augmentation = geometry((20, 20), cat_max_ratio=ratio)
        crops = [augmentation.draw(mask, np.random.default_rng(seed)) for seed in range(600)]
        assert abs(np.mean([35 <= crop.columns.start <= 45 for crop in crops]) - expected) < 0.05


def test_crops_without_labels_are_drawn_again() -> None:
    """Oracle: no crop of two classes without them; ten tries, of which one in nine would do."""
    mask = np.full((30, 30), 255, np.uint8)
    mask[20:, 20:] = np.indices((10, 10)).sum(0) % 2
    augmentation = geometry((10, 10), cat_max_ratio=0.75)
    drawn = [augmentation.draw(mask, np.random.default_rng(seed)).labels(mask) for seed in range(300)]
    assert np.mean([(labels != 255).any() for labels in drawn]) > 0.85


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
def test_balanced_crops_are_near_a_pixel_of_a_drawn_class(scale: float) -> None:
    """Oracle: the one pixel of class 7, which half of the crops draw, at most a quarter of a crop from their middle."""
    mask = np.zeros((100, 200), np.uint8)
    mask[40, 120] = 7
    mask[0, 0] = 255  # no class
    augmentation = geometry((20, 20), (scale, scale), balanced=1.0)
    crops = [augmentation.draw(mask, np.random.default_rng(seed)) for seed in range(800)]
    near = [
        max(abs((crop.rows.start + 10) / scale - 40), abs((crop.columns.start + 10) / scale - 120)) <= 6 / scale + 1
        for crop in crops
    ]
    assert 0.47 < np.mean(near) < 0.6
    shows = [(crop.rows.nearest == 40).any() and (crop.columns.nearest == 120).any() for crop in crops]
    assert scale < 1 or np.mean(shows) >= np.mean(near)


def test_further_tries_do_not_look_at_the_whole_mask_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: one count of the mask, and one search for each of its two classes, over ten tries of which none will do;
    the same crops as when each try looks anew."""
    mask = np.zeros((60, 60), np.uint8)
    mask[30:, 30:] = 1
    looks: list[str] = []

    def counted(name: str, function: Any) -> Any:
        return lambda array: (looks.append(name) if array.shape == mask.shape else None) or function(array)

    monkeypatch.setattr(augmentation_module, "class_counts", counted("count", augmentation_module.class_counts))
    monkeypatch.setattr(np, "flatnonzero", counted("search", np.flatnonzero))
    augmentation = geometry((20, 20), balanced=1.0, cat_max_ratio=0.0)
    crop = augmentation.draw(mask, np.random.default_rng(0))
    assert sorted(looks) == ["count", "search", "search"]
    rng = np.random.default_rng(0)
    rng.uniform()  # the factor
    for _ in range(augmentation_module.TRIES):
        expected = augmentation._place(augmentation_module.PixelsByClass(mask), mask.shape, rng)
    assert crop == expected


def test_balanced_crops_of_masks_without_labels() -> None:
    """Oracle: places as without balance."""
    mask = np.full((40, 40), 255, np.uint8)
    starts = [geometry((20, 20), balanced=1.0).draw(mask, np.random.default_rng(s)).rows.start for s in range(100)]
    assert min(starts) == 0
    assert max(starts) == 20


def test_colours_and_blur_change_the_image_alone() -> None:
    """Oracle: the share of the samples that differ from the same crop without them."""
    sample, plain = sample_of(24, 24), geometry((16, 16))
    jitter, blur = ScaleCropFlip((16, 16), (1.0, 1.0), 0.0), geometry((16, 16), blur=0.25)
    for augmentation, expected in ((jitter, 0.5), (blur, 0.25)):
        changed = []
        for seed in range(300):
            ours, before = (each(sample, np.random.SeedSequence(seed)) for each in (augmentation, plain))
            assert np.array_equal(ours["mask"], before["mask"])
            changed.append(not np.array_equal(ours["image"], before["image"]))
        assert abs(np.mean(changed) - expected) < 0.08


def test_jitters_that_come_apart() -> None:
    """Oracle: two of the four, each in half of the samples: a quarter has neither; together half has both."""
    sample, same = sample_of(16, 16), []
    for jitter in ("apart", "together"):
        augmentation = geometry((16, 16), brightness=0.5, contrast=0.5, jitter=jitter)
        images = [augmentation(sample, np.random.SeedSequence(seed))["image"] for seed in range(400)]
        same.append(np.mean([np.array_equal(image, sample["image"]) for image in images]))
    assert abs(same[0] - 0.25) < 0.06
    assert abs(same[1] - 0.5) < 0.06


def test_jitters_that_come_apart_are_those_of_their_names() -> None:
    """Oracle: brightness alone keeps the ratios of a pixel's channels, and the seed alone decides."""
    sample: Sample = {
        "image": np.full((8, 8, 3), (40, 80, 120), np.uint8),
        "mask": np.zeros((8, 8), np.uint8),
        "name": "",
    }
    augmentation = geometry((8, 8), brightness=0.4, jitter="apart")
    first = [augmentation(sample, np.random.SeedSequence(seed))["image"][0, 0] for seed in range(100)]
    again = [augmentation(sample, np.random.SeedSequence(seed))["image"][0, 0] for seed in range(100)]
    assert np.array_equal(first, again)
    pixels = np.array(first, float)
    assert np.abs(pixels[:, 1] / pixels[:, 0] - 2).max() < 0.05
    assert pixels[:, 0].min() == pytest.approx(24, abs=2)
    assert pixels[:, 0].max() == pytest.approx(56, abs=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop_size": [0, 4]}, r"crop_size=\[0, 4\]: give height and width in pixels, at least 1"),
        ({"crop_size": [256]}, r"crop_size=\[256\]: give height and width"),
        ({"crop_size": [256, 256, 3]}, r"crop_size=\[256, 256, 3\]: give height and width"),
        ({"scale": (2.0, 0.5)}, r"scale=\[2.0, 0.5\]: give the smallest and the largest"),
        ({"scale": (0.0, 0.5)}, r"scale=\[0.0, 0.5\]"),
        ({"scale": (1.0,)}, r"scale=\[1.0\]: give the smallest and the largest"),
        ({"scale": (1.0, float("inf"))}, r"scale=\[1.0, inf\]"),
        ({"scale_step": 0.0}, "scale_step=0.0: a step is above 0"),
        ({"scale_step": 5.0}, r"scale_step=5.0: a step is .* at most from .* augmentation.scale=\[0.5, 2.0\]"),
        ({"brightness": 2.0}, "brightness=2.0: it lies between 0 and 1$"),
        ({"contrast": -0.1}, "contrast=-0.1: it lies between 0 and 1$"),
        ({"saturation": 1.01}, "saturation=1.01: it lies between 0 and 1$"),
        ({"hue": 0.6}, "hue=0.6: it lies between 0 and 0.5$"),
        ({"hue": float("nan")}, "hue=nan"),
        ({"flip": 1.5}, "flip=1.5: it lies between 0 and 1"),
        ({"cat_max_ratio": 75.0}, "cat_max_ratio=75.0"),
        ({"balanced": -0.1}, "balanced=-0.1"),
        ({"blur": 2.0}, "blur=2.0"),
        ({"padding_color": [0, 0, 256]}, r"padding_color: \[0, 0, 256\] is no colour"),
    ],
)
def test_values_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    """Oracle: the key and its value in one line."""
    with pytest.raises(ConfigError, match=f"^augmentation.{message}") as caught:
        ScaleCropFlip(**{"crop_size": [16, 16], **options})
    assert "\n" not in str(caught.value)


def test_the_ends_of_all_ranges_are_accepted() -> None:
    """Oracle: a sample comes out; 0.7 - 0.6 is less than 0.1."""
    colors = {"brightness": 1.0, "contrast": 1.0, "saturation": 1.0, "hue": 0.5}
    shares = {"flip": 1.0, "cat_max_ratio": 0.0, "balanced": 1.0, "blur": 1.0}
    augmentation = ScaleCropFlip((16, 16), (0.6, 0.7), scale_step=0.1, **colors, **shares)
    for seed in range(20):
        assert augmentation(sample_of(20, 20), np.random.SeedSequence(seed))["image"].shape == (16, 16, 3)
