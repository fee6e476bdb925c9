"""Whole images, windows, scales and mirror images against plain loops; the models are a few lines."""

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from ccnet.evaluation.inference import Inference, mean_over_views, sliding, whole


class Fake(nn.Module):
    """A function of the image as a model; counts the images of each call."""

    def __init__(self, function: Callable[[Tensor], Tensor], align_corners: bool = False) -> None:
        super().__init__()
        self.function = function
        self.align_corners = align_corners
        self.batches: list[int] = []

    def forward(self, image: Tensor) -> Any:
        self.batches.append(len(image))
        return SimpleNamespace(logits=self.function(image))


def image(height: int, width: int, batch: int = 2) -> Tensor:
    return torch.randint(0, 256, (batch, 3, height, width), generator=torch.Generator().manual_seed(1)).byte()


def convolution(x: Tensor, stride: int = 1) -> Tensor:
    """Three classes; depends on the neighbours, on zero padding and on the position within what is seen."""
    kernel = torch.randn(3, 3, 3, 3, generator=torch.Generator().manual_seed(2))
    logits = F.conv2d(x.float() / 255, kernel, padding=1, stride=stride)
    position = torch.linspace(-2, 2, logits.shape[-2])[:, None] * torch.linspace(-1, 2, logits.shape[-1])
    return logits + position * torch.tensor([0.0, 1.0, -1.0])[:, None, None]


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("size", [(9, 14), (8, 12)])
def test_whole_upsamples_logits_as_the_model_says(align_corners: bool, size: tuple[int, int]) -> None:
    """Oracle: F.interpolate of the logits, then softmax."""
    picture = image(*size)
    logits = F.interpolate(convolution(picture, 4), size, mode="bilinear", align_corners=align_corners)
    out = whole(Fake(lambda x: convolution(x, 4), align_corners), picture)
    torch.testing.assert_close(out, logits.softmax(1))


def test_whole_takes_the_softmax_in_float32() -> None:
    """Oracle: float32 upsampling and softmax of logits that come in bfloat16."""
    out = whole(Fake(lambda x: convolution(x, 4).bfloat16()), image(9, 14))
    logits = F.interpolate(convolution(image(9, 14), 4).bfloat16().float(), (9, 14), mode="bilinear")
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, logits.softmax(1))


def starts(side: int, crop: int, step: int) -> list[int]:
    """0, step, 2 step, ... while there is more to see behind; the last window ends at the border."""
    places, place = [], 0
    while place + crop < side:
        places.append(place)
        place += step
    return [*places, max(0, side - crop)]


def naive_sliding(picture: Tensor, crop: Sequence[int], step: Sequence[int]) -> Tensor:
    """Pixel by pixel, the mean of the probabilities over the windows that contain it."""
    height, width = picture.shape[-2:]
    seen: dict[tuple[int, int], list[Tensor]] = {}
    for top in starts(height, crop[0], step[0]):
        for left in starts(width, crop[1], step[1]):
            window = convolution(picture[..., top : top + crop[0], left : left + crop[1]]).softmax(1)
            for y in range(window.shape[-2]):
                for x in range(window.shape[-1]):
                    seen.setdefault((top + y, left + x), []).append(window[..., y, x])
    means = [torch.stack(seen[y, x]).mean(0) for y in range(height) for x in range(width)]
    return torch.stack(means, dim=-1).unflatten(-1, (height, width))


@settings(deadline=None, max_examples=25)
@given(
    size=st.tuples(st.integers(1, 11), st.integers(1, 11)),
    crop=st.tuples(st.integers(1, 6), st.integers(2, 7)),
    overlap=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    batch_size=st.integers(1, 5),
)
def test_sliding(size: tuple[int, int], crop: tuple[int, int], overlap: tuple[int, int], batch_size: int) -> None:
    """Oracle: the naive loop; images smaller than the window, last windows shifted inward, windows in batches."""
    step = [max(1, c - o) for c, o in zip(crop, overlap, strict=True)]
    out = sliding(crop, step, batch_size)(Fake(convolution), image(*size))
    torch.testing.assert_close(out, naive_sliding(image(*size), crop, step))


@pytest.mark.parametrize(("batch_size", "batches"), [(1, [2] * 6), (4, [8, 4]), (99, [12])])
def test_windows_are_batched(batch_size: int, batches: list[int]) -> None:
    """Oracle: 2 x 3 windows of two images; the same probabilities however they are grouped."""
    model, picture = Fake(convolution), image(7, 11)
    out = sliding((5, 5), (3, 4), batch_size)(model, picture)
    assert model.batches == batches
    torch.testing.assert_close(out, sliding((5, 5), (3, 4), 1)(Fake(convolution), picture))


def left_is_one(x: Tensor) -> Tensor:
    """Class 1 in the left half of whatever is seen, class 0 in the right half."""
    is_left = torch.arange(x.shape[-1]) < x.shape[-1] // 2
    logits = torch.where(is_left[None], torch.tensor([[-9.0], [9.0]]), torch.tensor([[9.0], [-9.0]]))
    return logits[None, :, None].expand(len(x), -1, x.shape[-2], -1)


def test_mirrored_answers_are_mirrored_back() -> None:
    """Oracle: by hand: the mirrored view says "right half", so that both classes are even everywhere."""
    out = mean_over_views(whole, [1.0], flip=True)(Fake(left_is_one), image(4, 6))
    torch.testing.assert_close(out, torch.full((2, 2, 4, 6), 0.5))


def test_flip_is_the_mean_of_both_views() -> None:
    """Oracle: the plain view and the un-mirrored mirror image, by hand."""
    picture = image(5, 8)
    plain, mirrored = whole(Fake(convolution), picture), whole(Fake(convolution), picture.flip(-1)).flip(-1)
    out = mean_over_views(whole, [1.0], flip=True)(Fake(convolution), picture)
    torch.testing.assert_close(out, (plain + mirrored) / 2)


@pytest.mark.parametrize("flip", [False, True])
def test_a_model_of_colours_is_invariant_on_plain_images(flip: bool) -> None:
    """Oracle: the answer at scale 1; images of one colour, a linear model of the pixel."""
    picture = torch.tensor([[200, 10, 90], [0, 50, 255]]).byte()[:, :, None, None].expand(2, 3, 7, 9)
    model = Fake(lambda x: x.float() / 100)
    out = Inference(scales=[0.5, 1.0, 1.75], flip=flip)(model, picture)
    torch.testing.assert_close(out, whole(model, picture))
    assert len(model.batches) == 1 + 3 * (1 + flip)


@pytest.mark.parametrize(("scale", "size"), [(0.5, (4, 6)), (1.5, (12, 18)), (0.01, (1, 1))])
def test_scales_resize_the_image_and_the_probabilities(scale: float, size: tuple[int, int]) -> None:
    """Oracle: F.interpolate there and back by hand, averaged with the plain view."""
    picture = image(8, 12)
    seen = F.interpolate(picture.float(), size, mode="bilinear")
    back = F.interpolate(convolution(seen).softmax(1), (8, 12), mode="bilinear")
    out = Inference(scales=[scale, 1.0])(Fake(convolution), picture)
    torch.testing.assert_close(out, (back + convolution(picture).softmax(1)) / 2)


def test_inference_composes_views_and_windows() -> None:
    """Oracle: naive windows on each view; the default stride is two thirds of the crop, rounded up."""
    picture = image(10, 9)
    plain, mirrored = naive_sliding(picture, (5, 6), (4, 4)), naive_sliding(picture.flip(-1), (5, 6), (4, 4)).flip(-1)
    out = Inference(flip=True, crop_size=(5, 6), window_batch_size=3)(Fake(convolution), picture)
    torch.testing.assert_close(out, (plain + mirrored) / 2)


def test_inference_keeps_no_graph() -> None:
    """Oracle: a model with weights; its answer wants no gradient."""
    conv = nn.Conv2d(3, 2, 1)
    assert not Inference()(Fake(lambda x: conv(x.float())), image(3, 3)).requires_grad


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scales": []}, "scales must be positive"),
        ({"scales": [1.0, 0.0]}, "scales must be positive"),
        ({"scales": [-0.5]}, "scales must be positive"),
        ({"stride": [4, 4]}, "no effect without crop_size"),
        ({"crop_size": [4, 4], "stride": [5, 4]}, "must be positive and at most crop_size"),
        ({"crop_size": [4, 4], "stride": [4, 0]}, "must be positive and at most crop_size"),
        ({"crop_size": [0, 4]}, "must be positive and at most crop_size"),
        ({"crop_size": [4, 4], "stride": [4]}, "stride must be height and width"),
        ({"crop_size": [4, 4], "window_batch_size": 0}, "window_batch_size"),
    ],
)
def test_options_that_make_no_inference(options: dict[str, Any], message: str) -> None:
    """Oracle: the documented ValueErrors."""
    with pytest.raises(ValueError, match=message):
        Inference(**options)
