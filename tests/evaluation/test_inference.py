"""Whole images, windows, scales and mirror images against plain loops; the models are a few lines."""

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from ccnet.evaluation.answers import labels, probabilities
from ccnet.evaluation.inference import Inference, Predict, mean_over_views, sliding, unchanged, whole


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


def asked(predict: Predict, model: Fake, picture: Tensor) -> Tensor:
    """All that a function says about an image at the image's size."""
    return probabilities(predict(model, picture, picture.shape[-2:]))


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("size", [(9, 14), (8, 12)])
def test_whole_upsamples_logits_as_the_model_says(align_corners: bool, size: tuple[int, int]) -> None:
    """Oracle: F.interpolate of the logits, then softmax, if it is wanted."""
    picture, model = image(*size), Fake(lambda x: convolution(x, 4), align_corners)
    logits = F.interpolate(convolution(picture, 4), size, mode="bilinear", align_corners=align_corners)
    torch.testing.assert_close(asked(whole(), model, picture), logits.softmax(1))
    torch.testing.assert_close(asked(whole(unchanged), model, picture), logits)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_scores_are_float32_whatever_the_model_gives(dtype: torch.dtype) -> None:
    """Oracle: float32 upsampling and softmax of logits that come in another format."""
    out = Inference()(Fake(lambda x: convolution(x, 4).to(dtype)), image(9, 14))
    logits = F.interpolate(convolution(image(9, 14), 4).to(dtype).float(), (9, 14), mode="bilinear")
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, logits.softmax(1))


def starts(side: int, crop: int, step: int) -> list[int]:
    """0, step, 2 step, ... while there is more to see behind; the last window ends at the border."""
    places, place = [], 0
    while place + crop < side:
        places.append(place)
        place += step
    return [*places, max(0, side - crop)]


def naive_sliding(logits_of: Callable[[Tensor], Tensor], picture: Tensor, crop: Sequence[int], step: Sequence[int],
                  average: str = "probabilities") -> Tensor:  # fmt: skip
    """Pixel by pixel, the mean in float64 over the windows that contain it."""
    height, width = picture.shape[-2:]
    seen: dict[tuple[int, int], list[Tensor]] = {}
    for top in starts(height, crop[0], step[0]):
        for left in starts(width, crop[1], step[1]):
            window = logits_of(picture[..., top : top + crop[0], left : left + crop[1]]).double()
            window = window.softmax(1) if average == "probabilities" else window
            for y in range(window.shape[-2]):
                for x in range(window.shape[-1]):
                    seen.setdefault((top + y, left + x), []).append(window[..., y, x])
    means = [torch.stack(seen[y, x]).mean(0) for y in range(height) for x in range(width)]
    result = torch.stack(means, dim=-1).unflatten(-1, (height, width))
    return result if average == "probabilities" else result.softmax(1)


@settings(deadline=None, max_examples=40)
@given(
    size=st.tuples(st.integers(1, 13), st.integers(1, 13)),
    crop=st.tuples(st.integers(1, 6), st.integers(2, 7)),
    overlap=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    batch_size=st.integers(1, 5),
    average=st.sampled_from(["probabilities", "logits"]),
    stride=st.sampled_from([1, 2]),
    align_corners=st.booleans(),
)
@example(
    size=(11, 12), crop=(6, 7), overlap=(2, 3), batch_size=4, average="probabilities", stride=2, align_corners=True
)
@example(size=(11, 12), crop=(6, 7), overlap=(2, 3), batch_size=1, average="logits", stride=2, align_corners=False)
def test_sliding(size: tuple[int, int], crop: tuple[int, int], overlap: tuple[int, int], batch_size: int,
                 average: Any, stride: int, align_corners: bool) -> None:  # fmt: skip
    """Oracle: the naive loop; images smaller than the window, last windows shifted inward, windows in batches, logits
    of half the size."""
    step = [max(1, c - o) for c, o in zip(crop, overlap, strict=True)]
    inference = Inference(crop_size=crop, stride=step, batch_size=batch_size, average=average)
    out = inference(Fake(lambda x: convolution(x, stride), align_corners), image(*size))

    def upsampled(x: Tensor) -> Tensor:
        return F.interpolate(convolution(x, stride), x.shape[-2:], mode="bilinear", align_corners=align_corners)

    torch.testing.assert_close(out.double(), naive_sliding(upsampled, image(*size), crop, step, average),
                               rtol=1e-5, atol=1e-6)  # fmt: skip


@pytest.mark.parametrize(("batch_size", "batches"), [(1, [2] * 6), (4, [8, 4]), (99, [12])])
def test_windows_are_batched(batch_size: int, batches: list[int]) -> None:
    """Oracle: 2 x 3 windows of two images; the same probabilities however they are grouped."""
    model, picture = Fake(convolution), image(7, 11)
    out = asked(sliding((5, 5), (3, 4), batch_size), model, picture)
    assert model.batches == batches
    torch.testing.assert_close(out, asked(sliding((5, 5), (3, 4), 1), Fake(convolution), picture))


@pytest.mark.parametrize("options", [{}, {"scales": [0.5, 1.5], "flip": True}, {"crop_size": (5, 6)}])
def test_two_images_at_once_are_two_alone(options: dict[str, Any]) -> None:
    """Oracle: each image asked about by itself."""
    picture, inference = image(11, 8), Inference(**options)
    alone = [inference(Fake(convolution), picture[index : index + 1]) for index in range(2)]
    torch.testing.assert_close(inference(Fake(convolution), picture), torch.cat(alone))


def left_is_one(x: Tensor) -> Tensor:
    """Class 1 in the left half of whatever is seen, class 0 in the right half."""
    is_left = torch.arange(x.shape[-1]) < x.shape[-1] // 2
    logits = torch.where(is_left[None], torch.tensor([[-9.0], [9.0]]), torch.tensor([[9.0], [-9.0]]))
    return logits[None, :, None].expand(len(x), -1, x.shape[-2], -1)


@pytest.mark.parametrize("predict", [whole(), sliding((4, 6), (4, 6))])
def test_mirrored_answers_are_mirrored_back(predict: Predict) -> None:
    """Oracle: by hand: the mirrored view says "right half", so that both classes are even everywhere."""
    out = asked(mean_over_views(predict, [1.0], flip=True), Fake(left_is_one), image(4, 6))
    torch.testing.assert_close(out, torch.full((2, 2, 4, 6), 0.5))


def test_a_model_that_sees_the_left_half_sees_it_in_a_mirror() -> None:
    """Oracle: by hand: a dark half stays where it is, although one view shows it on the other side."""
    picture = image(4, 6) // 255
    picture[..., :3] += 200
    model = Fake(lambda x: torch.stack([9 - x[:, 0].float() / 10, x[:, 0].float() / 10 - 9], dim=1))
    expected = (torch.arange(6) < 3).byte().expand(2, 4, 6)
    assert torch.equal(labels(Inference(flip=True).answer(model, picture)), expected)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("crop_size", [None, (4, 5)])
@pytest.mark.parametrize("average", ["probabilities", "logits"])
def test_a_linear_model_is_invariant(flip: bool, crop_size: Any, average: Any) -> None:
    """Oracle: the answer at scale 1; images of one colour, a linear model of the pixel."""
    picture = torch.tensor([[200, 10, 90], [0, 50, 255]]).byte()[:, :, None, None].expand(2, 3, 7, 9)
    model = Fake(lambda x: x.float() / 100)
    out = Inference([0.5, 1.0, 1.75], flip, crop_size, average=average)(model, picture)
    torch.testing.assert_close(out, (picture.float() / 100).softmax(1))


@settings(deadline=None, max_examples=40)
@given(
    size=st.tuples(st.integers(1, 17), st.integers(1, 17)),
    scales=st.lists(st.sampled_from([0.01, 0.5, 0.75, 1.0, 1.25, 2.0]), min_size=1, max_size=3),
    flip=st.booleans(),
    average=st.sampled_from(["probabilities", "logits"]),
    align_corners=st.booleans(),
)
def test_scales_and_flips(size: tuple[int, int], scales: list[float], flip: bool, average: Any,
                          align_corners: bool) -> None:  # fmt: skip
    """Oracle: a loop over the views as mmsegmentation has it: each view's logits go to the image's size at once."""
    picture, total = image(*size), torch.zeros(2, 3, *size, dtype=torch.float64)
    for scale in scales:
        seen = F.interpolate(picture.float(), [max(1, round(side * scale)) for side in size], mode="bilinear")
        for mirrored in (False, True)[: 1 + flip]:
            logits = convolution(seen.flip(-1) if mirrored else seen, 2)
            logits = F.interpolate(logits, size, mode="bilinear", align_corners=align_corners).double()
            logits = logits.flip(-1) if mirrored else logits
            total += (logits.softmax(1) if average == "probabilities" else logits) / (len(scales) * (1 + flip))
    expected = total if average == "probabilities" else total.softmax(1)
    model = Fake(lambda x: convolution(x, 2), align_corners)
    out = Inference(scales, flip, average=average)(model, picture)
    torch.testing.assert_close(out.double(), expected, rtol=1e-5, atol=1e-6)
    assert model.batches == [2] * len(scales) * (1 + flip)


def test_windows_on_scaled_and_mirrored_images() -> None:
    """Oracle: naive windows on each view, which F.interpolate brings to the image's size; the default stride is two
    thirds of the crop, rounded up."""
    picture, views = image(10, 9), []
    for scale in ((5, 4), (10, 9)):
        seen = F.interpolate(picture.float(), scale, mode="bilinear")
        for mirrored in (False, True):
            out = naive_sliding(convolution, seen.flip(-1) if mirrored else seen, (5, 6), (4, 4))
            out = F.interpolate(out, (10, 9), mode="bilinear")
            views.append(out.flip(-1) if mirrored else out)
    out = Inference([0.5, 1.0], flip=True, crop_size=(5, 6), batch_size=3)(Fake(convolution), picture)
    torch.testing.assert_close(out.double(), torch.stack(views).mean(0), rtol=1e-5, atol=1e-6)


def test_an_image_at_its_own_size_is_seen_as_it_is() -> None:
    """Oracle: type and values of what the model is given; scaled images are not rounded to whole numbers."""
    seen: list[Tensor] = []

    def remember(x: Tensor) -> Tensor:
        seen.append(x)
        return x.float()

    picture = image(4, 4)
    Inference([1.0, 0.5]).answer(Fake(remember), picture)
    assert seen[0].dtype == torch.uint8
    assert torch.equal(seen[0], picture)
    torch.testing.assert_close(seen[1], F.avg_pool2d(picture.float(), 2))


def test_inference_keeps_no_graph() -> None:
    """Oracle: a model with weights; its answer wants no gradient and can be worked with."""
    conv = nn.Conv2d(3, 2, 1)
    out = Inference()(Fake(lambda x: conv(x.float())), image(3, 3))
    assert not out.requires_grad
    out.mul_(2)


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16), ("fp32", None)])
def test_the_forward_pass_is_in_the_precision_asked_for(precision: Any, dtype: torch.dtype | None) -> None:
    """Oracle: the type that a convolution gives, on whole images and on windows, also inside another autocast."""
    conv, found = nn.Conv2d(3, 2, 1), set()

    def remember(x: Tensor) -> Tensor:
        logits: Tensor = conv(x.float())
        found.add(logits.dtype)
        return logits

    for options in ({}, {"crop_size": (3, 3)}, {"scales": [0.5]}):
        with torch.autocast("cpu", torch.bfloat16):
            answer = Inference(**options, precision=precision).answer(Fake(remember), image(5, 4))
        assert answer.rows(0, 5).dtype == torch.float32
    assert found == {dtype or torch.float32}


def test_tiles_are_the_same_views_through_windows() -> None:
    """Oracle: an Inference that was made with these windows; one window at a time."""
    options: dict[str, Any] = {"scales": [0.5, 1.5], "flip": True, "average": "logits", "precision": "bf16"}
    model, picture = Fake(convolution), image(9, 13, 1)
    tiled = Inference(**options, batch_size=4).tiled(5)
    expected = Inference(**options, crop_size=(5, 5), stride=(4, 4))(Fake(convolution), picture)
    assert torch.equal(tiled(model, picture), expected)
    assert set(model.batches) == {1}


def test_the_caller_is_told_how_many_images_go_together() -> None:
    """Oracle: as documented; windows make a batch of their own."""
    assert Inference(batch_size=3).batch_size == 3
    assert Inference(crop_size=(4, 4), batch_size=3).batch_size == 1
    assert Inference(batch_size=3).tiled(4).batch_size == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scales": []}, "scales must be positive"),
        ({"scales": [1.0, 0.0]}, "scales must be positive"),
        ({"scales": [-0.5]}, "scales must be positive"),
        ({"scales": [1.0, float("nan")]}, "scales must be positive"),
        ({"scales": [float("inf")]}, "scales must be positive numbers of at most 16, got"),
        ({"scales": [16.1]}, "scales must be positive numbers of at most 16, got"),
        ({"stride": [4, 4]}, "no effect without crop_size"),
        ({"crop_size": [4, 4], "stride": [5, 4]}, "must be positive and at most crop_size"),
        ({"crop_size": [4, 4], "stride": [4, 0]}, "must be positive and at most crop_size"),
        ({"crop_size": [0, 4]}, "must be positive and at most crop_size"),
        ({"crop_size": [4, 4], "stride": [4]}, "stride must be height and width"),
        ({"crop_size": [4, 4], "batch_size": 0}, "batch_size must be positive"),
        ({"average": "votes"}, "average must be probabilities or logits"),
        ({"precision": "fp8"}, "precision must be one of fp32, bf16, fp16"),
    ],
)
def test_options_that_make_no_inference(options: dict[str, Any], message: str) -> None:
    """Oracle: the documented ValueErrors."""
    with pytest.raises(ValueError, match=message):
        Inference(**options)
