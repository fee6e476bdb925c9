"""The network as a whole: its input contract, and what it returns when."""

import pytest
import torch
from torch import Tensor, nn

from ccnet.models.segmentor import Preprocess, Segmentor

MEAN, STD = (10.0, 20.0, 30.0), (2.0, 4.0, 8.0)


class Backbone(nn.Module):
    """The image at a quarter of its size, and the same doubled."""

    out_channels = (3, 3)
    output_stride = 4

    def forward(self, image: Tensor) -> list[Tensor]:
        return [image[..., ::4, ::4], 2 * image[..., ::4, ::4]]


class Head(nn.Module):
    """Logits and features that tell which feature they were made from."""

    def __init__(self, index: int) -> None:
        super().__init__()
        self.index = index

    def forward(self, features: list[Tensor]) -> tuple[Tensor, Tensor]:
        return features[self.index] + 1, features[self.index] - 1


def segmentor(auxiliary: bool = True) -> Segmentor:
    return Segmentor(Preprocess(MEAN, STD), Backbone(), Head(-1), Head(0) if auxiliary else None)


def image(dtype: torch.dtype) -> Tensor:
    return torch.randint(0, 256, (2, 3, 9, 6), generator=torch.Generator().manual_seed(0)).to(dtype)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_preprocess_normalises_each_channel(dtype: torch.dtype, order: str) -> None:
    """Oracle: (x - mean) / std written per channel; mean and std are in the backbone's own order."""
    pixels = image(dtype)
    out = Preprocess(MEAN, STD, order)(pixels)  # type: ignore[arg-type]
    assert out.dtype == torch.float32
    for channel, source in enumerate((0, 1, 2) if order == "rgb" else (2, 1, 0)):
        torch.testing.assert_close(out[:, channel], (pixels[:, source].float() - MEAN[channel]) / STD[channel])


def test_preprocess_defaults_are_those_of_imagenet() -> None:
    """Oracle: torchvision's mean and std, given there for 0..1."""
    pixels = image(torch.uint8)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    expected = (pixels / 255 - mean[:, None, None]) / std[:, None, None]
    torch.testing.assert_close(Preprocess()(pixels), expected, rtol=1e-5, atol=1e-5)


def test_the_input_contract_travels_with_the_weights() -> None:
    """Oracle: a default Preprocess that loads another one's state dict computes what that one does."""
    source, loaded = Preprocess(MEAN, STD, "bgr"), Preprocess()
    loaded.load_state_dict(source.state_dict())
    assert torch.equal(loaded(image(torch.uint8)), source(image(torch.uint8)))


def test_training_returns_everything() -> None:
    """Oracle: the fakes' arithmetic on the normalised image."""
    pixels = image(torch.uint8)
    quarter = Preprocess(MEAN, STD)(pixels)[..., ::4, ::4]
    output = segmentor().train()(pixels)
    assert torch.equal(output.logits, 2 * quarter + 1)
    assert torch.equal(output.auxiliary, quarter + 1)
    assert torch.equal(output.features, 2 * quarter - 1)


def test_evaluation_returns_the_logits_alone() -> None:
    """Oracle: the logits of training; auxiliary head not even called."""
    model, pixels = segmentor(), image(torch.uint8)
    trained = model.train()(pixels).logits
    model.eval()
    assert model.auxiliary_head is not None
    model.auxiliary_head.index = 99  # would raise IndexError
    output = model(pixels)
    assert torch.equal(output.logits, trained)
    assert (output.auxiliary, output.features) == (None, None)


def test_without_an_auxiliary_head() -> None:
    """Oracle: None while training too, features still there."""
    output = segmentor(auxiliary=False).train()(image(torch.uint8))
    assert output.auxiliary is None
    assert output.features is not None
