"""What stands on the terminal."""

import io
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from rich.console import Console

from ccnet.evaluation.bootstrap import intervals
from ccnet.evaluation.metrics import Scores
from ccnet.evaluation.outcome import Outcome
from ccnet.evaluation.score_table import print_comparison, print_scores, score_table
from tests.evaluation.page.cases import make_outcome

CONFUSION = torch.tensor([[1500, 500, 0], [0, 1000, 0], [0, 0, 0]])
SCORES = Scores(CONFUSION, ["road", "car, parked", "sky"])


def shown(outcome: Outcome, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    console.print(score_table(outcome, width))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_table_and_summary(capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: one row per class with numbers worked out by hand; the summary is last, after the means."""
    boundary = torch.tensor([[1, 1, 0], [2, 4, 0], [2, 1, 0]])
    print_scores(Outcome(replace(SCORES, boundary=boundary, loss=0.12345), []))
    *table, means, last = capsys.readouterr().out.splitlines()
    assert last == "mIoU 70.8  mAcc 87.5  aAcc 83.3"
    assert means == "mIoU 95 % - over 0 images  fwIoU 72.2  mBIoU 29.2  loss 0.1235"
    rows = {name: next(line for line in table if name in line).replace("│", " ").split() for name in SCORES.class_names}
    assert rows["road"] == ["road", "75.0", "-", "75.0", "100.0", "85.7", "33.3", "2,000"]
    assert rows["car, parked"][2:] == ["66.7", "-", "100.0", "66.7", "80.0", "25.0", "1,000"]
    assert rows["sky"] == ["sky", *["-"] * 6, "0"]


def test_intervals_are_those_of_the_bootstrap(capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: the bootstrap's own answer, in per cent."""
    outcome = make_outcome()
    print_scores(outcome)
    lines = capsys.readouterr().out.splitlines()
    found = intervals(outcome.images)
    ends = [f"{100 * each.low:.1f}-{100 * each.high:.1f}" for each in (found.mean_iou, *found.iou[:2])]
    assert f"mIoU 95 % {ends[0]} over 5 images" in lines[-2]
    assert ends[1] in next(line for line in lines if "road" in line)
    assert ends[2] in next(line for line in lines if "car, parked" in line)


@pytest.mark.parametrize("width", [100, 80, 60])
def test_the_table_fits(width: int) -> None:
    """Oracle: the columns of the terminal; interval and name of each class are whole at any width."""
    outcome = make_outcome(["road", "q" * 200, "traffic light with a rather long name"])
    pixels = torch.full((3, 3), 987_654_321_012)
    lines = shown(replace(outcome, scores=replace(outcome.scores, confusion=pixels)), width)
    assert max(map(len, lines)) <= width
    found = intervals(outcome.images).iou[0]
    [road] = [line for line in lines if "road" in line]
    assert f"{100 * found.low:.1f}-{100 * found.high:.1f}" in road
    assert sum(line.count("q") for line in lines) == 200
    assert ("2,962,962,963,036" in road) == (width >= 100)


def test_a_name_cannot_move_the_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: no control character arrives, and no markup is taken for one."""
    print_scores(make_outcome(["\x1b[2Jroad\r", "[red]car[/red]", "sky\n\u202e"]))
    out = capsys.readouterr().out
    assert "\x1b" not in out and "\r" not in out and "\u202e" not in out  # noqa: PT018
    assert "[red]car[/red]" in out
    assert "?[2Jroad?" in out


def test_regions_have_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: 3 of 4 by hand, above the means."""
    regions = {"near": torch.tensor([[3, 1, 0], [0, 0, 0], [0, 0, 0]])}
    print_scores(Outcome(replace(SCORES, regions=regions), []))
    assert capsys.readouterr().out.splitlines()[-3] == "aAcc near 75.0"


def test_several_evaluations_side_by_side(capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: a row each in their order, the best mIoU marked, none of them where all are without a score."""
    outcome = make_outcome()
    better = replace(outcome, scores=replace(SCORES, confusion=torch.eye(3) * 7, loss=math.nan))
    empty = [replace(image, counts=0 * image.counts) for image in outcome.images]
    nothing = Outcome(Scores(torch.zeros(3, 3, dtype=torch.int64), SCORES.class_names), empty)
    assert better.scores.mean_iou > outcome.scores.mean_iou
    print_comparison({"step 1": nothing, "step 2": outcome, "step 3": better})
    printed = capsys.readouterr().out
    assert "no best" not in printed
    rows = [line.strip("│ ") for line in printed.splitlines() if "step" in line]
    assert [row.split()[0] for row in rows] == ["step", "step", "*"]
    low, high = (
        100 * value for value in (intervals(outcome.images).mean_iou.low, intervals(outcome.images).mean_iou.high)
    )
    means = [outcome.scores.mean_iou, outcome.scores.mean_accuracy, outcome.scores.pixel_accuracy]
    first, *others = (f"{100 * value:.1f}" for value in (*means, outcome.scores.mean_boundary_iou))
    assert rows[1].replace("│", " ").split() == ["step", "2", first, f"{low:.1f}-{high:.1f}", *others, "0.2500"]
    assert rows[2].replace("│", " ").split()[-3:] == ["100.0", "-", "-"]
    assert rows[0].replace("│", " ").split() == ["step", "1", *["-"] * 6]
    print_comparison({"step 1": nothing, "step 2": nothing})
    assert "*" not in capsys.readouterr().out


@pytest.mark.parametrize("differs", ["an image", "the number of images", "a class"])
def test_no_best_among_other_data(differs: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: no mark, and a line that says why."""
    outcome = make_outcome()
    other = {
        "an image": replace(outcome, images=[replace(outcome.images[0], digest="f" * 64), *outcome.images[1:]]),
        "the number of images": replace(outcome, images=outcome.images[1:]),
        "a class": replace(outcome, scores=replace(outcome.scores, class_names=["street", "car, parked", "sky"])),
    }[differs]
    print_comparison({"a": outcome, "b": other})
    *table, last = capsys.readouterr().out.splitlines()
    assert "*" not in "".join(table)
    assert last == "not of the same images or classes: no best"


def test_long_names_leave_the_numbers_whole(capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: 100 columns where there is no terminal, and the loss in the last one."""
    print_comparison({"runs/" + "long" * 40: make_outcome(), "b": make_outcome()})
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    assert sum("0.2500" in line for line in lines) == 2
    assert np.sum([line.count("long") for line in lines]) >= 30
