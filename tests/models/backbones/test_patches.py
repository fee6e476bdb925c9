"""Patches against a plain matrix product, and by what each position can see."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from ccnet.errors import CheckpointError
from ccnet.models.backbones.patches import Patches


@pytest.mark.parametrize("stride", [4, 8, 16, 32])
def test_a_position_sees_its_own_patch_and_all_of_it(stride: int) -> None:
    """Oracle: the gradient of one position: not zero on the s x s pixels below it, zero on every other."""
    backbone = Patches(64, stride).eval()  # type: ignore[arg-type]
    image = torch.randn(1, 3, 4 * stride, 3 * stride, requires_grad=True)
    feature = backbone(image)[-1]
    assert feature.shape == (1, 64, 4, 3)
    feature[0, :, 2, 1].sum().backward()
    assert image.grad is not None
    seen = image.grad.abs().sum(dim=(0, 1)) > 0
    expected = torch.zeros(4 * stride, 3 * stride, dtype=torch.bool)
    expected[2 * stride : 3 * stride, stride : 2 * stride] = True
    assert torch.equal(seen, expected)


def test_the_first_stage_is_a_matrix_product_of_each_patch() -> None:
    """Oracle: the pixels of a patch in a row times the kernel, normalised by the running statistics, written out."""
    backbone = Patches(8).eval()
    stage = backbone.stages[0]
    stage.norm.running_mean.uniform_(-1, 1)
    stage.norm.running_var.uniform_(0.5, 2)
    image = torch.randn(2, 3, 12, 8)
    patches = image.view(2, 3, 3, 4, 2, 4).permute(0, 2, 4, 1, 3, 5).reshape(2, 3, 2, 48)
    product = patches @ stage.conv.weight.view(8, 48).T
    expected = ((product - stage.norm.running_mean) / (stage.norm.running_var + 1e-5).sqrt()).clamp(min=0)
    torch.testing.assert_close(backbone(image)[0], expected.permute(0, 3, 1, 2))


@pytest.mark.parametrize("size", [(1, 1), (33, 47), (63, 64)])
def test_odd_sizes_are_filled_up_with_zeros_at_the_end(size: tuple[int, int]) -> None:
    """Oracle: the first stage of an image that was filled up beforehand; no pixel is dropped."""
    backbone = Patches(8).eval()
    image = torch.randn(1, 3, *size)
    full = F.pad(image, (0, -size[1] % 32, 0, -size[0] % 32))
    expected = backbone(full)[0][..., : -(-size[0] // 4), : -(-size[1] // 4)]
    assert torch.equal(backbone(image)[0], expected)


def test_weights_come_from_a_file_only(tmp_path: Path) -> None:
    """Oracle: the other network's features; DEFAULT and a network of another width are refused with the reason."""
    first = Patches(8).eval()
    save_file(first.state_dict(), tmp_path / "patches.safetensors")
    second = Patches(8, weights=str(tmp_path / "patches.safetensors")).eval()
    image = torch.randn(1, 3, 32, 32)
    assert torch.equal(first(image)[-1], second(image)[-1])
    with pytest.raises(CheckpointError, match="does not fit patches"):
        Patches(16, weights=str(tmp_path / "patches.safetensors"))
    with pytest.raises(CheckpointError, match=r"DEFAULT: .* no tag of patches; backbone\.weights takes a file or null"):
        Patches(weights="DEFAULT")


def test_a_stride_that_is_not_offered() -> None:
    """Oracle: the documented ValueError."""
    with pytest.raises(ValueError, match="output_stride must be 4, 8, 16 or 32, got 2"):
        Patches(output_stride=2)  # type: ignore[arg-type]
