"""Staged training against stages set by hand."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor, nn

from ccnet.build import build_model
from ccnet.config import compose_config
from ccnet.errors import ConfigError
from ccnet.schema import PhaseConfig
from ccnet.training.phases import Phases, Stage, require_parameters, resolve

STAGES = [
    Stage(("head.*",), 0.1, 0, 3),
    Stage(("head.*", "backbone.[1].*"), 0.01, 3, 7),
    Stage(("*",), None, 7, 10),
]


class Net(nn.Module):
    """A backbone of two layers and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
        self.head = nn.Linear(2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.backbone[1](self.backbone[0](x).relu()).relu())


@dataclass
class Run:
    """A model in training with its phases."""

    stages: Sequence[Stage] = field(default_factory=lambda: STAGES)
    make: Callable[..., torch.optim.Optimizer] = torch.optim.SGD

    def __post_init__(self) -> None:
        torch.manual_seed(0)
        self.model, self.changes = Net(), 0
        groups = [
            {"params": list(self.model.backbone.parameters()), "lr": 0.2},
            {"params": list(self.model.head.parameters()), "lr": 2.0},
        ]
        momentum = {"momentum": 0.9} if self.make is torch.optim.SGD else {}
        self.optimizer = self.make(groups, lr=0.2, weight_decay=0.1, **momentum)
        self.phases = Phases(self.model, self.optimizer, self.stages, lr=0.2, on_change=self.changed)

    def changed(self) -> None:
        self.changes += 1

    def step(self, step: int) -> set[str]:
        """One step; the names of the parameters that moved."""
        self.phases(step)
        before = {name: value.clone() for name, value in self.model.named_parameters()}
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"]
        self.optimizer.zero_grad()
        data = torch.randn(4, 2, generator=torch.Generator().manual_seed(step))
        self.model(data + 1).square().mean().backward()
        self.optimizer.step()
        return {name for name, value in self.model.named_parameters() if not torch.equal(value, before[name])}


def names(*prefixes: str) -> set[str]:
    return {f"{prefix}.{kind}" for prefix in prefixes for kind in ("weight", "bias")}


@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.AdamW])
def test_each_phase_trains_its_own(make: Callable[..., torch.optim.Optimizer]) -> None:
    """Oracle: the names written out; weight decay and momentum leave the frozen ones alone, also those that have
    trained before; the caller is told of the three changes."""
    stages = [*STAGES, Stage(("backbone.0.*",), None, 10, 12)]
    run = Run(stages, make)
    moved = [run.step(step) for step in range(12)]
    assert moved[:3] == [names("head")] * 3
    assert moved[3:7] == [names("head", "backbone.1")] * 4
    assert moved[7:10] == [names("head", "backbone.0", "backbone.1")] * 3
    assert moved[10:] == [names("backbone.0")] * 2
    assert run.changes == 4


def test_freezing_drops_the_gradient() -> None:
    """Oracle: what wants a gradient and what has one left, before the next backward pass."""
    run = Run()
    run.step(8)
    assert all(parameter.grad is not None for parameter in run.model.parameters())
    run.phases(0)
    left = {name for name, value in run.model.named_parameters() if value.grad is not None}
    assert left == {name for name, value in run.model.named_parameters() if value.requires_grad} == names("head")


def test_each_group_keeps_its_share_of_the_learning_rate() -> None:
    """Oracle: the head's rate is ten times the backbone's, as the optimizer was built; none given is the first."""
    run, rates = Run(), []
    for step in (0, 3, 7):
        run.phases(step)
        rates.append([group["initial_lr"] for group in run.optimizer.param_groups])
    assert rates == [[0.1, 1.0], [0.01, 0.1], [0.2, 2.0]]


def test_it_equals_stages_by_hand() -> None:
    """Oracle: an optimizer over the trained parameters alone, for the first phase; bit for bit."""
    run, twin = Run(), Run()
    for step in range(3):
        run.step(step)
    optimizer = torch.optim.SGD(twin.model.head.parameters(), lr=1.0, momentum=0.9, weight_decay=0.1)
    for step in range(3):
        optimizer.zero_grad()
        data = torch.randn(4, 2, generator=torch.Generator().manual_seed(step))
        twin.model(data + 1).square().mean().backward()
        optimizer.step()
    for ours, theirs in zip(run.model.parameters(), twin.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.AdamW])
@pytest.mark.parametrize("cut", range(1, 10))
def test_resuming_in_the_middle_is_exact(cut: int, make: Callable[..., torch.optim.Optimizer]) -> None:
    """Oracle: the run that was not interrupted, bit for bit, at every step; optimizer and weights are handed over."""
    whole, first, second = Run(make=make), Run(make=make), Run(make=make)
    for step in range(10):
        whole.step(step)
    for step in range(cut):
        first.step(step)
    second.model.load_state_dict(first.model.state_dict())
    second.optimizer.load_state_dict(first.optimizer.state_dict())
    for step in range(cut, 10):
        second.step(step)
    for ours, theirs in zip(whole.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_what_was_frozen_before_stays_frozen() -> None:
    """Oracle: the parameters that wanted no gradient when the phases were made; a phase of those alone is refused."""
    model = Net()
    model.backbone[0].requires_grad_(False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    phases = Phases(model, optimizer, [Stage(("head.*",), None, 0, 1), Stage(("*",), None, 1, 2)], 0.2, lambda: None)
    for step, expected in ((0, names("head")), (1, names("head", "backbone.1"))):
        phases(step)
        assert {name for name, value in model.named_parameters() if value.requires_grad} == expected
    with pytest.raises(ConfigError, match=r"phases\[0\].train=\['backbone.0.\*'\] matches only what the model keeps"):
        require_parameters(model, [Stage(("backbone.0.*",), None, 0, 1)])


def test_the_log_tells_each_change_once(caplog: pytest.LogCaptureFixture) -> None:
    """Oracle: the lines; steps are counted from 1 for people, and the rate is the largest that a group has, as in the
    log of the steps."""
    run = Run()
    with caplog.at_level(logging.INFO, "ccnet"):
        for step in range(2, 8):
            run.phases(step)
    assert [record.getMessage() for record in caplog.records] == [
        "phase 1 of 3, steps 1..3: 0.00 M of 0.00 M parameters train (head.*), lr 1",
        "phase 2 of 3, steps 4..7: 0.00 M of 0.00 M parameters train (head.*, backbone.[1].*), lr 0.1",
        "phase 3 of 3, steps 8..10: 0.00 M of 0.00 M parameters train (*), lr 2",
    ]


def test_the_log_tells_scaled_rates(caplog: pytest.LogCaptureFixture) -> None:
    """Oracle: batches four times as large as those that optimizer.lr was found with, by hand: 4 * 0.01 and 4 * 0.1."""
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.04)
    phases = Phases(model, optimizer, [Stage(("*",), 0.1, 0, 2), Stage(("*",), None, 2, 4)], 0.01, lambda: None)
    with caplog.at_level(logging.INFO, "ccnet"):
        phases(0)
        phases(2)
    assert [record.getMessage().rpartition(" ")[2] for record in caplog.records] == ["0.4", "0.04"]


@pytest.mark.parametrize("lr", [0.0, -0.1, float("nan")])
def test_phases_need_a_learning_rate_to_stand_beside(lr: float) -> None:
    """Oracle: the documented error, which names the key."""
    model = Net()
    with pytest.raises(ConfigError, match=r"optimizer.lr must be positive where there are phases, got (0.0|-0.1|nan)"):
        Phases(model, torch.optim.SGD(model.parameters(), lr=0.1), STAGES, lr, lambda: None)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("hed.*", r"phases\[1\].train: no parameter matches hed.\*; there are head.\*"),
        ("backbone.2.*", r"no parameter matches backbone.2.\*; there are backbone.[01].\*, backbone.[01].\*"),
        ("HEAD.*", r"no parameter matches HEAD.\*"),
        ("zzz", r"no parameter matches zzz; there are backbone.\*, head.\*"),
    ],
)
def test_a_pattern_without_a_parameter(pattern: str, message: str) -> None:
    """Oracle: the documented error, with near names."""
    with pytest.raises(ConfigError, match=message):
        Run([STAGES[0], Stage(("head.*", pattern), None, 3, 9)])


def test_where_phases_begin_and_end() -> None:
    """Oracle: sums by hand; quarters of an epoch of 10.2 steps do not drift: eight of them are two epochs."""
    phases = [PhaseConfig(["a"], 0.1, steps=7), PhaseConfig(["b"], 0.2, epochs=2), PhaseConfig(["c"])]
    assert resolve(phases, 10.0, 40) == [
        Stage(("a",), 0.1, 0, 7),
        Stage(("b",), 0.2, 7, 27),
        Stage(("c",), None, 27, 40),
    ]
    fractions = [*(PhaseConfig(epochs=0.25) for _ in range(8)), PhaseConfig()]
    stages = resolve(fractions, 10.2, 50)
    assert [stage.end for stage in stages] == [3, 5, 8, 10, 13, 15, 18, 20, 50]
    assert [stage.start for stage in stages] == [0, 3, 5, 8, 10, 13, 15, 18, 20]
    assert resolve([PhaseConfig(lr=0.3)], 10.0, 5) == [Stage(("*",), 0.3, 0, 5)]
    assert resolve([], 10.0, 5) == []


@pytest.mark.parametrize(
    ("phases", "message"),
    [
        ([PhaseConfig(), PhaseConfig()], r"phases\[0\] needs either steps or epochs, .* it has none"),
        ([PhaseConfig(steps=3, epochs=1), PhaseConfig()], r"phases\[0\] needs either steps or epochs, .* it has both"),
        ([PhaseConfig(steps=3), PhaseConfig(steps=3)], r"phases\[1\] is the last phase and lasts to the end"),
        ([PhaseConfig(epochs=3)], r"phases\[0\] is the last phase"),
        ([PhaseConfig(steps=0), PhaseConfig()], r"phases\[0\].steps must be positive, got 0"),
        ([PhaseConfig(epochs=-1), PhaseConfig()], r"phases\[0\].epochs must be positive, got -1"),
        ([PhaseConfig(epochs=float("inf")), PhaseConfig()], r"phases\[0\].epochs must be positive, got inf"),
        ([PhaseConfig(lr=0.0)], r"phases\[0\].lr must be positive, got 0"),
        ([PhaseConfig(lr=float("nan"))], r"phases\[0\].lr must be positive, got nan"),
        ([PhaseConfig(train=[])], r"phases\[0\].train is empty"),
        ([PhaseConfig(steps=20), PhaseConfig()], r"phases\[1\] would begin with step 21, after trainer.max_steps=20"),
        ([PhaseConfig(steps=30), PhaseConfig()], r"phases\[1\] would begin with step 31"),
        ([PhaseConfig(epochs=0.01), PhaseConfig()], r"phases\[0\] is shorter than a step; an epoch has 10"),
    ],
)
def test_phases_that_make_no_sense(phases: list[PhaseConfig], message: str) -> None:
    """Oracle: the documented error, which names the key."""
    with pytest.raises(ConfigError, match=message):
        resolve(phases, 10.0, 20)


def test_the_staged_experiment() -> None:
    """Oracle: the recipe's numbers; epochs 1-5 and 6-15 of 2975 images in batches of 8; the patterns fit the network,
    and each phase trains more than the one before."""
    config = compose_config(["+experiment=cityscapes_r2_staged"])
    with torch.device("meta"):
        model = build_model(config, 19, pretrained=False)
    require_parameters(model, config.phases)
    stages = resolve(config.phases, 2975 / config.trainer.batch_size, config.trainer.max_steps)
    assert [(stage.start, stage.lr) for stage in stages] == [(0, 0.01), (1859, 0.001), (5578, 0.0001)]
    assert (config.trainer.clip_grad_norm, config.schedule["_target_"]) == (2.0, "ccnet.schedule.Constant")
    assert config.schedule["warmup_steps"] == 0
    phases = Phases(model, torch.optim.SGD(model.parameters(), lr=0.01), stages, 0.01, lambda: None)
    trained = []
    for stage in stages:
        phases(stage.start)
        trained.append({name.split(".")[0] for name, value in model.named_parameters() if value.requires_grad})
        assert model.backbone.layer1[0].conv1.weight.requires_grad == (stage is stages[-1])
    assert trained == [{"head", "auxiliary_head"}, *[{"head", "auxiliary_head", "backbone"}] * 2]
    assert compose_config(["+experiment=cityscapes_r2_staged", "+debug=smoke"]).phases == []
