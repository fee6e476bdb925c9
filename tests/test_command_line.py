"""The options that val and predict share."""

import inspect
import re
from pathlib import Path

import pytest
import torch

from ccnet.command_line import (
    effective_overrides,
    evaluation_parser,
    half_precision,
    inference_overrides,
    names,
    parse,
    require_effect,
    share,
)
from ccnet.errors import ConfigError
from ccnet.evaluation.inference import Inference


@pytest.mark.parametrize(
    ("words", "overrides"),
    [
        ([], []),
        (["--aug-eval"], ["evaluation.scales=[0.75,1.0,1.25]", "evaluation.flip=true"]),
        (["--aug-eval", "--flip-horizontal"], ["evaluation.scales=[0.75,1.0,1.25]", "evaluation.flip=true"]),
        (["--aug-eval", "--scales", "0.5,1"], ["evaluation.scales=[0.5,1.0]", "evaluation.flip=true"]),
        (["--scales", "0.5,1"], ["evaluation.scales=[0.5,1.0]"]),
        (["--flip-horizontal"], ["evaluation.flip=true"]),
        (["--flip-horizontal", "--scales", "2"], ["evaluation.scales=[2.0]", "evaluation.flip=true"]),
        (["--slide", "--crop-size", "64,96"], ["evaluation.crop_size=[64,96]", "evaluation.stride=null"]),
        (
            ["--slide", "--crop-size", "64,96", "--stride", "32,48"],
            ["evaluation.crop_size=[64,96]", "evaluation.stride=[32,48]"],
        ),
    ],
)
def test_options_become_overrides(words: list[str], overrides: list[str]) -> None:
    """Oracle: written out; scales and flip do not touch each other, and what is not named stays the checkpoint's."""
    assert inference_overrides(parse(evaluation_parser(""), words)) == overrides


@pytest.mark.parametrize(
    ("words", "overrides"),
    [
        (["--batch-size", "4"], ["evaluation.batch_size=4"]),
        (["--average", "logits"], ["evaluation.average=logits"]),
        (["--amp", "--device", "cpu"], ["evaluation.precision=bf16"]),
    ],
)
def test_how_the_forward_pass_is_made(words: list[str], overrides: list[str]) -> None:
    """Oracle: the keys of Inference."""
    assert inference_overrides(parse(evaluation_parser(""), words)) == overrides
    keys = inspect.signature(Inference).parameters
    assert all(word.removeprefix("evaluation.").partition("=")[0] in keys for word in overrides)


@pytest.mark.parametrize(
    ("device", "cuda", "bf16", "mps", "expected"),
    [
        ("auto", True, True, False, "bf16"),
        ("auto", True, False, False, "fp16"),
        ("cuda", True, False, False, "fp16"),
        ("auto", False, False, True, "fp16"),
        ("auto", False, False, False, "bf16"),
        ("cpu", True, False, True, "bf16"),
    ],
)
def test_half_precision_is_what_the_device_computes_with(
    device: str, cuda: bool, bf16: bool, mps: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: written out."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: bf16)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert half_precision(device) == expected


def test_val_takes_several_checkpoints_and_predict_one() -> None:
    """Oracle: the list; folders of sweeps have = in their names, like overrides."""
    words = ["--checkpoint", "runs/a,head.recurrence=1", "--checkpoint", "runs/b", "head.recurrence=2"]
    arguments = parse(evaluation_parser("", several_checkpoints=True), words)
    assert arguments.checkpoint == ["runs/a,head.recurrence=1", "runs/b"]
    assert arguments.overrides == ["head.recurrence=2"]
    assert parse(evaluation_parser("", several_checkpoints=True), []).checkpoint is None
    assert parse(evaluation_parser(""), ["--checkpoint", "x"]).checkpoint == "x"


@pytest.mark.parametrize("words", [["--crop-size", "64,64"], ["--stride", "2,2"], ["--slide"]])
def test_an_option_without_effect_is_an_error(words: list[str]) -> None:
    """Oracle: silence would let people believe that it worked."""
    with pytest.raises(ConfigError, match="need"):
        inference_overrides(parse(evaluation_parser(""), words))


def test_overrides_may_stand_between_options() -> None:
    """Oracle: the list, in order."""
    words = ["head.recurrence=3", "--aug-eval", "dataset.root=x", "--checkpoint", "y", "seed=1"]
    arguments = parse(evaluation_parser(""), words)
    assert arguments.overrides == ["head.recurrence=3", "dataset.root=x", "seed=1"]
    assert (arguments.aug_eval, arguments.checkpoint) == (True, "y")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--aug-evl"], "unknown option --aug-evl; did you mean --aug-eval?"),
        (["--flip"], "unknown option --flip"),
        (["--batch-sise=4"], "unknown option --batch-sise=4; did you mean --batch-size?"),
        (["whatever"], "'whatever' is neither an option nor an override of the form key=value;"),
        (["--scales", "a"], "argument --scales: invalid comma-separated floats value: 'a'"),
        (["--batch-size", "0"], "argument --batch-size: invalid positive value: '0'"),
        (["--average", "mean"], "argument --average: invalid choice: 'mean'"),
        (["--checkpoint"], "argument --checkpoint: expected one argument"),
    ],
)
def test_a_typo_is_one_line(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: exit status 2, the word and the remedy, nothing else."""
    with pytest.raises(SystemExit) as caught:
        parse(evaluation_parser(""), words)
    assert caught.value.code == 2
    line = capsys.readouterr().err
    assert line.startswith(f"error: {message}")
    assert line.index("\n") == len(line) - 1


def test_a_pattern_that_the_shell_resolved_is_recognised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Oracle: the remedy."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "b.jpg").touch()
    with pytest.raises(SystemExit):
        parse(evaluation_parser(""), ["b.jpg"])
    assert "put a pattern into quotes, so that the shell leaves it alone" in capsys.readouterr().err


def test_options_win_over_overrides_and_idle_overrides_are_refused() -> None:
    """Oracle: the order; a key that the tool does not use would be silence."""
    arguments = parse(evaluation_parser(""), ["--flip-horizontal", "evaluation=sliding_window"])
    assert effective_overrides(arguments, ["evaluation"]) == [
        "evaluation=sliding_window",
        "evaluation.flip=true",
    ]
    arguments = parse(evaluation_parser(""), ["optimizer.lr=1"])
    with pytest.raises(ConfigError, match=r"the override optimizer.lr has no effect here; these have: head"):
        effective_overrides(arguments, ["head"])
    with pytest.raises(ConfigError, match=r"the override hed.recurrence has no effect here \(did you mean head\?\)"):
        require_effect(["hed.recurrence=1"], ["head", "backbone"])


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (["evaluation.flip=false", "--flip-horizontal"], "evaluation.flip=true"),
        (["+evaluation.flip=true", "--aug-eval"], "evaluation.flip=true"),
        (["evaluation.stride=[8,8]", "--slide", "--crop-size", "9,9"], "evaluation.stride=null"),
        (["evaluation.batch_size=2", "--batch-size", "3"], "evaluation.batch_size=3"),
    ],
)
def test_an_override_and_an_option_for_one_key_are_refused(words: list[str], option: str) -> None:
    """Oracle: the message; one of them would be undone. Keys that no option sets pass."""
    arguments = parse(evaluation_parser(""), words)
    message = f"an option already says {option}; leave it out, or the override {words[0]}"
    with pytest.raises(ConfigError, match=re.escape(message)):
        effective_overrides(arguments, ["evaluation"])
    arguments = parse(evaluation_parser(""), ["evaluation.flip=true", "--scales", "0.5"])
    assert effective_overrides(arguments, ["evaluation"]) == ["evaluation.flip=true", "evaluation.scales=[0.5]"]


@pytest.mark.parametrize("word", ["backbone.weights=DEFAULT", "+backbone.weights=null", "~backbone.weights"])
def test_weights_of_the_backbone_are_the_checkpoints(word: str) -> None:
    """Oracle: the message; other keys of the backbone pass."""
    with pytest.raises(ConfigError, match=r"backbone.weights has no effect here; the checkpoint brings the weights"):
        require_effect([word], ["backbone"])
    require_effect(["backbone.depth=50", "backbone=resnet50"], ["backbone"])


def test_names_stand_between_commas() -> None:
    """Oracle: the list."""
    assert names("road, traffic light") == ["road", "traffic light"]
    with pytest.raises(ValueError, match="road,,car"):
        names("road,,car")


def test_a_share_lies_between_0_and_1() -> None:
    """Oracle: the bounds."""
    assert share("0.5") == 0.5
    with pytest.raises(ValueError, match="5"):
        share("5")
