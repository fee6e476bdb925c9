"""The loop against the loop that one would write by hand."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ccnet.training.trainer import NonFiniteLossError, StepResult, Trainer


class Net(nn.Module):
    """A convolution with dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.dropout = nn.Dropout(0.5)

    def forward(self, image: Tensor) -> Tensor:
        return self.conv(self.dropout(image.float() / 255))


def loss(logits: Tensor, mask: Tensor) -> dict[str, Tensor]:
    total = nn.functional.cross_entropy(logits.float(), mask, ignore_index=255)
    return {"first": 0.75 * total, "second": 0.25 * total}


def batches(steps: range) -> Iterator[dict[str, Any]]:
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        yield {
            "image": torch.randint(0, 256, (2, 3, 8, 8), generator=generator, dtype=torch.uint8),
            "mask": torch.randint(0, 4, (2, 8, 8), generator=generator, dtype=torch.uint8),
            "name": [f"a{step}", f"b{step}"],
        }


def trainer_of(**arguments: Any) -> Trainer:
    torch.manual_seed(0)
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    return Trainer(model, loss, optimizer, lambda step: 1 / (1 + step), torch.device("cpu"), **arguments)


def test_it_does_what_a_bare_loop_does() -> None:
    """Oracle: zero_grad, forward, backward, clip, step, with the learning rate set by hand; bit for bit."""
    ours, theirs = trainer_of(clip_grad_norm=0.1), trainer_of()
    results: list[StepResult] = []
    ours.fit(batches(range(5)), [results.append])
    for step, batch in enumerate(batches(range(5))):
        torch.manual_seed(theirs._step_seed())
        theirs.step += 1
        theirs.optimizer.param_groups[0]["lr"] = 0.1 / (1 + step)
        theirs.optimizer.zero_grad()
        nn.functional.cross_entropy(theirs.model(batch["image"]), batch["mask"].long()).backward()
        norm = nn.utils.clip_grad_norm_(theirs.model.parameters(), 0.1)
        theirs.optimizer.step()
        assert torch.equal(results[step].grad_norm, norm)
    for left, right in zip(ours.model.parameters(), theirs.model.parameters(), strict=True):
        torch.testing.assert_close(left, right, rtol=0, atol=1e-7)
    assert [result.step for result in results] == [1, 2, 3, 4, 5]
    assert results[2].learning_rate == pytest.approx(0.1 / 3)
    assert results[0].losses.keys() == {"first", "second"}
    assert results[0].batch_size == 2


def test_continuing_equals_going_through() -> None:
    """Oracle: five steps in one go; dropout depends on the step, not on what was drawn before."""
    whole, split = trainer_of(), trainer_of()
    whole.fit(batches(range(5)), [])
    split.fit(batches(range(2)), [])
    torch.rand(100)
    split.fit(batches(range(2, 5)), [])
    assert torch.equal(whole.model.conv.weight, split.model.conv.weight)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_autocast_trains(precision: str) -> None:
    """Oracle: the float32 run, within the precision of the format."""
    exact, rounded = trainer_of(), trainer_of(precision=precision)
    seen: list[torch.dtype] = []
    rounded.model.conv.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    for trainer in (exact, rounded):
        trainer.fit(batches(range(3)), [])
    assert seen[0] in (torch.bfloat16, torch.float16)
    torch.testing.assert_close(exact.model.conv.weight, rounded.model.conv.weight, rtol=0.05, atol=0.01)


def test_a_loss_that_is_not_finite_stops_before_the_step() -> None:
    """Oracle: the weights before; the message names step, terms and samples."""
    trainer = trainer_of()
    trainer.fit(batches(range(1)), [])
    before = trainer.model.conv.weight.clone()
    trainer.loss = lambda logits, mask: {"bad": logits.sum() * float("nan")}
    with pytest.raises(NonFiniteLossError, match=r"step 1 \(bad nan\) on the samples a1, b1; lower optimizer.lr"):
        trainer.fit(batches(range(1, 2)), [])
    assert torch.equal(trainer.model.conv.weight, before)
    # 0 as a value, and an infinite gradient: sqrt at zero
    trainer.loss = lambda logits, mask: {"steep": (logits * 0).sum().sqrt()}
    with pytest.raises(NonFiniteLossError, match="gradient norm nan"):
        trainer.fit(batches(range(1, 2)), [])
    assert torch.equal(trainer.model.conv.weight, before)


def test_channels_last_reaches_the_model() -> None:
    """Oracle: the strides that the model sees."""
    trainer = trainer_of(channels_last=True)
    layouts: list[bool] = []
    trainer.model.register_forward_pre_hook(
        lambda module, inputs: layouts.append(inputs[0].is_contiguous(memory_format=torch.channels_last))
    )
    trainer.fit(batches(range(1)), [])
    assert layouts == [True]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_cuda_trains_as_the_cpu_does(precision: str) -> None:
    """Oracle: the same steps on the CPU; dropout is off, because devices draw differently."""
    on_cpu, on_cuda = trainer_of(clip_grad_norm=1.0), trainer_of(clip_grad_norm=1.0, precision=precision)
    on_cuda.device = torch.device("cuda")
    on_cuda.scaler = torch.amp.GradScaler("cuda", enabled=precision == "fp16", init_scale=64.0)
    on_cuda.model.cuda()
    for trainer in (on_cpu, on_cuda):
        trainer.model.dropout.p = 0.0
        trainer.fit(batches(range(3)), [])
    torch.testing.assert_close(on_cpu.model.conv.weight, on_cuda.model.conv.weight.cpu(), rtol=0.05, atol=0.01)
