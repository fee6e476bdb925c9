"""The options that val and predict share."""

import pytest

from ccnet.command_line import effective_overrides, evaluation_parser, inference_overrides, parse, share
from ccnet.errors import ConfigError


@pytest.mark.parametrize(
    ("words", "overrides"),
    [
        ([], []),
        (["--aug-eval"], ["evaluation.scales=[0.75,1.0,1.25]", "evaluation.flip=true"]),
        (["--aug-eval", "--flip-horizontal"], ["evaluation.scales=[1.0]", "evaluation.flip=true"]),
        (["--aug-eval", "--scales", "0.5,1"], ["evaluation.scales=[0.5,1.0]", "evaluation.flip=false"]),
        (["--flip-horizontal"], ["evaluation.scales=[1.0]", "evaluation.flip=true"]),
        (["--slide", "--crop-size", "64,96"], ["evaluation.crop_size=[64,96]", "evaluation.stride=null"]),
        (
            ["--slide", "--crop-size", "64,96", "--stride", "32,48"],
            ["evaluation.crop_size=[64,96]", "evaluation.stride=[32,48]"],
        ),
    ],
)
def test_options_become_overrides(words: list[str], overrides: list[str]) -> None:
    """Oracle: PaddleSeg's meaning of --aug-eval, and that what is not named stays the checkpoint's."""
    assert inference_overrides(parse(evaluation_parser(""), words)) == overrides


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


@pytest.mark.parametrize("words", [["--aug-evl"], ["whatever"], ["--scales", "a"]])
def test_a_typo_is_an_error(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: exit status 2 and the word in the message."""
    with pytest.raises(SystemExit) as caught:
        parse(evaluation_parser(""), words)
    assert caught.value.code == 2
    assert words[0].lstrip("-") in capsys.readouterr().err


def test_options_win_over_overrides_and_idle_overrides_are_refused() -> None:
    """Oracle: the order; a key that the tool does not use would be silence."""
    arguments = parse(evaluation_parser(""), ["--flip-horizontal", "evaluation=sliding_window"])
    assert effective_overrides(arguments, ["evaluation"]) == [
        "evaluation=sliding_window",
        "evaluation.scales=[1.0]",
        "evaluation.flip=true",
    ]
    arguments = parse(evaluation_parser(""), ["optimizer.lr=1"])
    with pytest.raises(ConfigError, match=r"the override optimizer.lr has no effect here; these have: head"):
        effective_overrides(arguments, ["head"])


def test_a_share_lies_between_0_and_1() -> None:
    """Oracle: the bounds."""
    assert share("0.5") == 0.5
    with pytest.raises(ValueError, match="5"):
        share("5")
