"""The loop against the loop that one would write by hand."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ccnet.errors import CheckpointError
from ccnet.training.finite import FiniteGuard, NonFiniteLossError
from ccnet.training.trainer import StepResult, Trainer


class Net(nn.Module):
    """A convolution with dropout and batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.dropout = nn.Dropout(0.5)

    def forward(self, image: Tensor) -> Tensor:
        return self.norm(self.conv(self.dropout(image.float() / 255)))


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


def trainer_of(max_bad_steps: int = 1, **arguments: Any) -> Trainer:
    torch.manual_seed(0)
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    guard = FiniteGuard(model, max_bad_steps)
    return Trainer(model, loss, optimizer, lambda step: 1 / (1 + step), torch.device("cpu"), guard, **arguments)


def test_it_does_what_a_bare_loop_does() -> None:
    """Oracle: zero_grad, forward, backward, clip, step, with the learning rate set by hand; bit for bit."""
    ours, theirs = trainer_of(clip_grad_norm=0.1), trainer_of()
    results: list[StepResult] = []
    ours.fit(batches(range(5)), after_step=[results.append])
    for step, batch in enumerate(batches(range(5))):
        torch.manual_seed(theirs._step_seed())
        theirs.step += 1
        theirs.optimizer.param_groups[0]["lr"] = 0.1 / (1 + step)
        theirs.optimizer.zero_grad()
        first, second = loss(theirs.model(batch["image"]), batch["mask"].long()).values()
        (first + second).backward()
        norm = nn.utils.clip_grad_norm_(theirs.model.parameters(), 0.1)
        theirs.optimizer.step()
        assert torch.equal(results[step].grad_norm, norm)
    for left, right in zip(ours.model.parameters(), theirs.model.parameters(), strict=True):
        assert torch.equal(left, right)
    assert [result.step for result in results] == [1, 2, 3, 4, 5]
    assert results[2].learning_rate == pytest.approx(0.1 / 3)
    assert results[0].losses.keys() == {"first", "second"}
    assert results[0].batch_size == 2


def test_continuing_equals_going_through() -> None:
    """Oracle: five steps in one go; dropout depends on the step, not on what was drawn before."""
    whole, split = trainer_of(), trainer_of()
    whole.fit(batches(range(5)))
    split.fit(batches(range(2)))
    torch.rand(100)
    split.fit(batches(range(2, 5)))
    assert torch.equal(whole.model.conv.weight, split.model.conv.weight)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_autocast_trains(precision: str) -> None:
    """Oracle: the float32 run, within the precision of the format."""
    exact, rounded = trainer_of(), trainer_of(precision=precision)
    seen: list[torch.dtype] = []
    rounded.model.conv.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    for trainer in (exact, rounded):
        trainer.fit(batches(range(3)))
    assert seen[0] in (torch.bfloat16, torch.float16)
    torch.testing.assert_close(exact.model.conv.weight, rounded.model.conv.weight, rtol=0.05, atol=0.01)


def test_accumulated_parts_are_the_whole_batch() -> None:
    """Oracle: the same steps in one part; norms are frozen and nothing is dropped, so that the loss is a mean over
    pixels; the second image has few valid pixels, which have to weigh no less for it."""

    def uneven(steps: range) -> Iterator[dict[str, Any]]:
        for batch in batches(steps):
            batch["mask"][1, 1:] = 255
            yield batch

    whole, parts = trainer_of(), trainer_of(accumulation=2)
    results: dict[Trainer, list[StepResult]] = {whole: [], parts: []}
    for trainer in (whole, parts):
        trainer.model.norm.requires_grad_(False)
        trainer.model.dropout.p = 0.0
        trainer.fit(uneven(range(3)), after_step=[results[trainer].append])
    torch.testing.assert_close(dict(whole.model.state_dict()), dict(parts.model.state_dict()))
    for one, other in zip(results[whole], results[parts], strict=True):
        torch.testing.assert_close(one.losses, other.losses)
        torch.testing.assert_close(one.grad_norm, other.grad_norm)
        assert one.batch_size == other.batch_size == 2


def test_a_batch_without_a_label_changes_nothing_but_statistics() -> None:
    """Oracle: the weights before, in one part and in two."""
    for parts in (1, 2):
        trainer = trainer_of(accumulation=parts)
        trainer.loss = lambda logits, mask: {"sum": (logits.sum(dim=1) * (mask != 255)).sum()}
        before = trainer.model.conv.weight.clone()
        batch = next(batches(range(1)))
        batch["mask"].fill_(255)
        results: list[StepResult] = []
        trainer.fit([batch], after_step=[results.append])
        assert torch.equal(trainer.model.conv.weight, before)
        assert results[0].losses["sum"] == 0
        assert not results[0].skipped


def test_before_step_sees_the_steps_that_are_done() -> None:
    """Oracle: the numbers; what it does to a group's base learning rate counts in the same step."""
    trainer, seen, rates = trainer_of(), [], []

    def prepare(step: int) -> None:
        seen.append(step)
        trainer.optimizer.param_groups[0]["initial_lr"] = 0.5

    trainer.fit(batches(range(2)), [prepare], [lambda result: rates.append(result.learning_rate)])
    assert seen == [0, 1]
    assert rates == [0.5, 0.25]


def test_half_precision_never_scales_below_one() -> None:
    """Oracle: the scale after overflows at 2, and the weights after them; an overflow at 1 is a bad step."""
    trainer = trainer_of(max_bad_steps=2, precision="fp16")
    trainer.scaler = torch.amp.GradScaler("cpu", init_scale=2.0, growth_interval=1000)
    trainer.loss = lambda logits, mask: {"steep": (logits * 0).sum().sqrt()}
    before = trainer.model.conv.weight.clone()
    results: list[StepResult] = []
    with pytest.raises(NonFiniteLossError, match="2 times in a row"):
        trainer.fit(batches(range(5)), after_step=[results.append])
    assert [result.skipped for result in results] == [False, True]
    assert trainer.scaler.get_scale() == 1.0
    assert torch.equal(trainer.model.conv.weight, before)


@pytest.mark.parametrize(
    "state",
    [{}, {"bad_in_a_row": 0}, {"bad_in_a_row": "1", "scaler": {}}, {"bad_in_a_row": 0, "scaler": {"scale": 1.0}},
     {"bad_in_a_row": True, "scaler": {}}, {"bad_in_a_row": 0, "scaler": []}],
)  # fmt: skip
def test_a_damaged_state_is_refused(state: dict[str, Any]) -> None:
    """Oracle: the refusal; its own state is taken."""
    trainer = trainer_of()
    with pytest.raises(CheckpointError, match="state of the trainer is damaged"):
        trainer.load_state_dict(state)
    scaled = trainer_of(precision="fp16")
    with pytest.raises(CheckpointError):
        scaled.load_state_dict({"bad_in_a_row": 0, "scaler": {**scaled.scaler.state_dict(), "scale": "big"}})
    scaled.load_state_dict({**scaled.state_dict(), "bad_in_a_row": 3})
    assert scaled.guard.bad_in_a_row == 3


def test_channels_last_reaches_the_model() -> None:
    """Oracle: the strides that the model sees."""
    trainer = trainer_of(channels_last=True)
    layouts: list[bool] = []
    trainer.model.register_forward_pre_hook(
        lambda module, inputs: layouts.append(inputs[0].is_contiguous(memory_format=torch.channels_last))
    )
    trainer.fit(batches(range(1)))
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
        trainer.fit(batches(range(3)))
    torch.testing.assert_close(on_cpu.model.conv.weight, on_cuda.model.conv.weight.cpu(), rtol=0.05, atol=0.01)
