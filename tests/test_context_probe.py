"""The claim of the paper, on the real experiment: what R loops of criss-cross attention can know (CCNet Sec. 3.3)."""

import re
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from ccnet import build
from ccnet.config import compose_config
from ccnet.session import train

# The experiment with fewer steps, which is enough.
SHORT = ["trainer.max_steps=120", "schedule.warmup_steps=36", "trainer.evaluate_every=120", "trainer.device=cpu"]


@pytest.mark.parametrize(
    ("recurrence", "on_cross", "off_cross"),
    [(0, "chance", "chance"), (1, "known", "chance"), (2, "known", "known")],
)
def test_one_loop_knows_the_cross_and_two_know_everything(
    recurrence: int, on_cross: str, off_cross: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Oracle: the paper: without loops nothing is known, with one the keys' rows and columns, with two everything;
    exactly half where nothing is known, because of the twins. The run says so in one line, and when asked again."""
    overrides = ["+experiment=context_probe", f"head.recurrence={recurrence}", f"runs_dir={tmp_path}", *SHORT]
    folder = train(compose_config(overrides))
    line = capsys.readouterr().out
    told = re.fullmatch(r"context probe R=(\d): on-cross (\d\.\d{3}) off-cross (\d\.\d{3})\n", line)
    assert told, line
    assert int(told[1]) == recurrence
    for accuracy, expected in ((float(told[2]), on_cross), (float(told[3]), off_cross)):
        assert accuracy >= 0.99 if expected == "known" else accuracy == pytest.approx(0.5, abs=0.01)
    assert (folder / "report" / "context_probe.png").is_file()
    train(compose_config(overrides))
    assert capsys.readouterr().out == line


@pytest.mark.parametrize("recurrence", [0, 1, 2])
def test_what_a_labelled_pixel_can_see(recurrence: int) -> None:
    """Oracle: the cells that some gradient reaches from a query cell's labelled pixels, by R: its own alone, its row
    and column, all of them. What training finds cannot come from anywhere else."""
    config = compose_config(["+experiment=context_probe", f"head.recurrence={recurrence}"])
    dataset = build.build_dataset(config, "val")
    model = build.build_model(config, dataset.num_classes, pretrained=False).eval()
    torch.nn.init.ones_(model.head.attention.gamma)
    sample = dataset[0]
    row, column = divmod(int((torch.from_numpy(sample["mask"])[4::8, 4::8] != 255).flatten().nonzero()[0]), 8)
    inside = torch.zeros(64, 64, dtype=torch.bool)
    inside[8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = True
    labelled = inside & (torch.from_numpy(sample["mask"]) != 255)
    assert labelled.any()
    image = torch.from_numpy(sample["image"]).permute(2, 0, 1)[None].float().requires_grad_()
    logits = F.interpolate(model(image).logits, (64, 64), mode="bilinear", align_corners=config.model.align_corners)
    (logits[0, 0] * labelled * torch.rand(64, 64)).sum().backward()
    assert image.grad is not None
    reached = image.grad[0].abs().sum(0).view(8, 8, 8, 8).sum(dim=(1, 3)) > 0
    expected = torch.full((8, 8), recurrence > 1)
    expected[row, column] = True
    if recurrence == 1:
        expected[row] = expected[:, column] = True
    assert torch.equal(reached, expected)
