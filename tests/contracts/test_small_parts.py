"""Augmentations, optimizers, schedules and evaluations, for every YAML that offers one."""

import numpy as np
import pytest
import torch
from torch import nn

from ccnet.build import build_part
from ccnet.data.sample import Sample
from tests.contracts.conftest import names, part


@pytest.mark.parametrize("name", names("augmentation"))
def test_augmentations_crop(name: str) -> None:
    """Oracle: the size asked for, the sample's own where it cannot be asked for; and no label that was not there."""
    node = part("augmentation", name)
    crop_size = (20, 30) if "crop_size" in node else (40, 40)
    augmentation = build_part({**node, "crop_size": list(crop_size)} if "crop_size" in node else node)
    sample: Sample = {"image": np.zeros((40, 40, 3), np.uint8), "mask": np.full((40, 40), 3, np.uint8), "name": "x"}
    result = augmentation(sample, np.random.SeedSequence(1))
    assert result["image"].shape == (*crop_size, 3)
    assert result["mask"].shape == crop_size
    assert set(np.unique(result["mask"])) <= {3, 255}


@pytest.mark.parametrize("name", names("optimizer"))
def test_optimizers_step_every_parameter(name: str) -> None:
    """Oracle: the parameters before."""
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    optimizer = build_part(part("optimizer", name), model=model)
    before = [parameter.clone() for parameter in model.parameters()]
    model(torch.randn(2, 3, 4, 4)).square().mul(torch.arange(16.0).view(4, 4)).sum().backward()
    optimizer.step()
    changed = [not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True)]
    assert all(changed)


@pytest.mark.parametrize("name", names("schedule"))
def test_schedules_stay_in_range(name: str) -> None:
    """Oracle: a factor in (0, 1] at every step, 1 right after the warm-up."""
    schedule = build_part({**part("schedule", name), "warmup_steps": 5}, max_steps=50)
    factors = [schedule(step) for step in range(50)]
    assert all(0 < factor <= 1 for factor in factors)
    assert factors[5] == 1


@pytest.mark.parametrize("name", names("evaluation"))
def test_evaluations_give_probabilities(name: str) -> None:
    """Oracle: they sum to one at the image's own size."""
    model = nn.Conv2d(3, 4, 1)

    class Answer(nn.Module):
        align_corners = False

        def forward(self, image: torch.Tensor) -> "Answer":
            self.logits = model(image.float())
            return self

    probabilities = build_part(part("evaluation", name))(Answer(), torch.randint(0, 256, (1, 3, 21, 34)))
    assert probabilities.shape == (1, 4, 21, 34)
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(1, 21, 34))
