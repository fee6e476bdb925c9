"""The page as a whole: what is on it, that it needs nothing but itself, and that no name can write into it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ccnet.evaluation.metrics import Scores
from ccnet.evaluation.metrics_json import metrics_dict
from ccnet.evaluation.outcome import Outcome
from ccnet.evaluation.page import style
from ccnet.evaluation.page.document import render
from ccnet.evaluation.page.matrix import STRONGEST
from ccnet.evaluation.page.run_log import Series
from tests.evaluation.page.cases import NAMES, Page, make_outcome, palette

ABOUT = {
    "checkpoint": str(Path("runs", "mine", "checkpoints", "step_0000004")),
    "step": 4,
    "split": "val",
    "head": {"recurrence": 2, "scales": [1.0, 0.5]},
}
SERIES = {"loss": Series([2, 4], [2.0, 1.0]), "mIoU": Series([4], [0.5]), "lr": Series([2, 4], [0.1, 0.0])}


def page_of(outcome: Outcome, about: dict[str, Any] = ABOUT, series: dict[str, Series] = SERIES) -> Page:
    text = render(metrics_dict(outcome), about, outcome, palette(len(outcome.scores.class_names)), series)
    page = Page(text)
    page.require_self_contained()
    return page


def test_the_page_holds_everything_and_needs_nothing() -> None:
    """Oracle: an HTML parser that minds open tags; the sections; a policy that forbids the network and scripts."""
    page = page_of(make_outcome())
    assert page.words("h2") == ["Classes", "Training", "Confusion", "All figures", "Images", "Worst images"]
    assert page.words("h1") == ["mine / step_0000004 on val"]
    assert page.words("summary") == ["What was evaluated"]
    assert page.tags[3] == (
        "meta",
        {
            "http-equiv": "Content-Security-Policy",
            "content": "default-src 'none'; img-src data:; style-src 'unsafe-inline'",
        },
    )
    assert len(page.pictures()) == 3 * 4
    assert all(attributes.get("aria-label", "-") for tag, attributes in page.tags if tag == "svg")


def test_the_figures_are_those_of_the_scores() -> None:
    """Oracle: the scores, in per cent with one digit; the keys and values of what was evaluated."""
    outcome = make_outcome()
    page, scores = page_of(outcome), outcome.scores
    tiles = [scores.mean_iou, scores.mean_accuracy, scores.pixel_accuracy, scores.frequency_weighted_iou]
    tiles += [scores.mean_boundary_iou]
    assert page.words("dd") == [*(f"{100 * value:.1f}" for value in tiles), "0.25"]
    cells = page.words("td")
    low, high = metrics_dict(outcome)["mIoU_interval"]
    assert f"95 % interval {100 * low:.1f} \u2013 {100 * high:.1f}" in page.words("small")
    for index, name in enumerate(NAMES[:2]):
        ends = metrics_dict(outcome)["classes"][name]["IoU_interval"]
        values = (scores.accuracy, scores.precision, scores.dice, scores.boundary_iou)
        figures = [f"{100 * values[index]:.1f}" for values in values]
        row = [f"{100 * scores.iou[index]:.1f}", f"{100 * ends[0]:.1f} \u2013 {100 * ends[1]:.1f}", *figures]
        row += [f"{int(scores.confusion[index].sum()):,}"]
        assert any(cells[start : start + len(row)] == row for start in range(len(cells)))
    rows = dict(zip(page.words("th")[-7:], page.words("bdi")[-7:], strict=True))
    assert rows["head.recurrence"] == "2"
    assert rows["head.scales"] == "[1.0, 0.5]"
    assert (rows["images"], rows["data fingerprint"]) == ("5", outcome.fingerprint)


def test_regions_are_told() -> None:
    """Oracle: 3 of 4 by hand, a dash for one without pixels, and names that are escaped."""
    outcome = make_outcome()
    regions = {"near": torch.tensor([[3, 1, 0], [0, 0, 0], [0, 0, 0]]), "<b>": torch.zeros(3, 3)}
    page = page_of(replace(outcome, scores=replace(outcome.scores, regions=regions)))
    assert any(words.endswith("Pixel accuracy by region: near 75.0, <b> \u2013.") for words in page.words("p"))
    assert not any("region" in words for words in page_of(outcome).words("p"))


EVIL = (
    '<script>alert("x")</script>',
    "\"><img src=x onerror='alert(1)'>",
    "</title></style></svg></table>&lt;b&gt;",
    "-->]]>{score}{0}%s\\",
    "שלום\u202egnp.exe\u0000\n",
    "long " * 40,
)


@pytest.mark.parametrize("evil", EVIL)
def test_no_name_can_write_into_the_page(evil: str) -> None:
    """Oracle: the page of harmless names: tag by tag the same, with the same attributes; the words arrive."""

    def tags(word: str) -> list[tuple[str, list[str]]]:
        outcome = make_outcome([f"{word}{index}" for index in range(3)], image_name=word)
        about = {"checkpoint": word, "split": word, word: {word: [word]}, "step": 4}
        series = {**SERIES, f"{word}0": Series([1, 4], [1.0, 2.0]), f"{word}1": Series([4], [1.0])}
        page = page_of(outcome, about, series)
        words = word.replace("\0", "\ufffd").replace("\n", "\ufffd")[:20]
        assert any(words in text for text in page.words("bdi"))
        return [(tag, list(attributes)) for tag, attributes in page.tags]

    assert tags(evil) == tags("harmless")


def test_an_evaluation_of_nothing_has_a_page() -> None:
    """Oracle: dashes for what is not defined; no histogram, curves and gallery."""
    outcome = Outcome(Scores(torch.zeros(2, 2, dtype=torch.int64), ["a", "b"]), [])
    page = page_of(outcome, {}, {})
    assert page.words("h2") == ["Classes", "Confusion", "All figures"]
    assert page.words("dd") == ["\u2013"] * 6
    assert page.words("h1") == ["last evaluation"]


def rgb_of(color: str) -> np.ndarray:
    return np.array([int(color[at : at + 2], 16) for at in (1, 3, 5)])


def luminance(color: str | np.ndarray) -> float:
    """Relative luminance as WCAG 2 defines it."""
    share = (rgb_of(color) if isinstance(color, str) else color) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(one: str | np.ndarray, other: str | np.ndarray) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("colors", [style.LIGHT, style.DARK], ids=["light", "dark"])
def test_text_and_lines_stand_out(colors: dict[str, str]) -> None:
    """Oracle: WCAG 2 AA: 4.5 for text, also on the strongest cells of the matrix, 3 for lines and bars."""
    assert min(contrast(colors[ink], colors[ground]) for ink in ("ink", "soft") for ground in ("paper", "card")) >= 4.5
    assert contrast(colors["right"], colors["card"]) >= 4.5
    assert min(contrast(colors[f"s{index}"], colors["card"]) for index in range(style.NUM_SERIES)) >= 3
    line, card = rgb_of(colors["line"]), rgb_of(colors["card"])
    ground = 0.4 * line + 0.6 * card
    for cell in ("right", "wrong"):
        assert contrast(colors["ink"], STRONGEST * rgb_of(colors[cell]) + (1 - STRONGEST) * ground) >= 4.5


def test_every_colour_has_its_other_mode() -> None:
    """Oracle: the same names in both, and each that the style uses."""
    assert style.LIGHT.keys() == style.DARK.keys()
    used = {part.split(")")[0] for part in style.STYLE.split("var(--")[1:]}
    assert used == {*style.LIGHT}


def test_a_page_is_the_same_every_time() -> None:
    """Oracle: the page before: nothing of the time or the machine is on it."""
    outcome = make_outcome()
    pages = {render(json.loads(json.dumps(metrics_dict(outcome))), ABOUT, outcome, palette(3), {}) for _ in range(2)}
    assert len(pages) == 1
