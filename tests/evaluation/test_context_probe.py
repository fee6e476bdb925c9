"""What a run on the context probe says and draws at its end, from files written by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageColor

from ccnet.errors import DataError
from ccnet.evaluation.context_probe import ContextProbeReport, read_curve
from ccnet.evaluation.context_probe_figure import COLORS, SAMPLE, SIZE, Curve, draw_figure
from ccnet.evaluation.outcome import Picture


def write_run(folder: Path, on_cross: float, off_cross: float) -> Path:
    """What a run leaves: two evaluations among rows of losses, and the report of the last."""
    rows = [
        {"step": 10, "loss": 0.7},
        {"step": 10, "mIoU": 0.3, "aAcc/on-cross": 0.5, "aAcc/off-cross": 0.5},
        {"step": 20, "loss": 0.1},
        {"step": 20, "mIoU": 0.9, "aAcc/on-cross": on_cross, "aAcc/off-cross": off_cross},
    ]
    (folder / "report").mkdir(parents=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    regions = {"on-cross": {"aAcc": on_cross}, "off-cross": {"aAcc": off_cross}}
    (folder / "report" / "metrics.json").write_text(json.dumps({"mIoU": 0.9, "regions": regions}))
    return folder


def sample() -> Picture:
    """4 x 4 cells of 8 pixels, each of its own grey; keys at (0, 0) and (1, 2), queries at (0, 3) and (3, 1)."""
    cells = np.arange(16, dtype=np.uint8).reshape(4, 4) * 10
    region, mask = np.full((4, 4), 1, np.uint8), np.full((4, 4), 255, np.uint8)
    region[[0, 1]] = region[:, [0, 2]] = 0
    region[[0, 1], [0, 2]] = 255
    mask[[0, 3], [3, 1]] = 1
    image, mask, region = (part.repeat(8, 0).repeat(8, 1) for part in (np.stack([cells] * 3, axis=2), mask, region))
    return Picture("val_000001", image, mask, mask, region)


def pixels_of(figure: Image.Image, color: str) -> int:
    """How many pixels have exactly this colour."""
    return int((np.asarray(figure) == ImageColor.getrgb(color)).all(axis=2).sum())


def test_the_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: the line, written out; asked again without pictures it says the same and draws nothing."""
    run = write_run(tmp_path / "context_probe", 0.9996, 0.51249)
    report = ContextProbeReport(recurrence=1, cell=8)
    report(run, [sample()])
    assert capsys.readouterr().out == "context probe R=1: on-cross 1.000 off-cross 0.512\n"
    (run / "report" / "context_probe.png").unlink()
    report(run)
    assert capsys.readouterr().out == "context probe R=1: on-cross 1.000 off-cross 0.512\n"
    assert [path.name for path in (run / "report").iterdir()] == ["metrics.json"]


def test_another_data_set_is_named_as_the_reason(tmp_path: Path) -> None:
    """Oracle: the documented error."""
    run = write_run(tmp_path / "run", 1, 1)
    (run / "report" / "metrics.json").write_text('{"mIoU": 0.5}')
    with pytest.raises(DataError, match="not scored on-cross and off-cross; its report needs dataset=context_probe"):
        ContextProbeReport(recurrence=1, cell=8)(run)


def test_a_region_without_pixels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: nan, as its score is null in the file."""
    run = write_run(tmp_path / "run", 1, 1)
    regions = {"on-cross": {"aAcc": 1.0}, "off-cross": {"aAcc": None}}
    (run / "report" / "metrics.json").write_text(json.dumps({"regions": regions}))
    ContextProbeReport(recurrence=1, cell=8)(run)
    assert capsys.readouterr().out == "context probe R=1: on-cross 1.000 off-cross nan\n"


def test_a_curve_is_read_from_the_evaluations(tmp_path: Path) -> None:
    """Oracle: the rows that were written; what a crash cut short is left out."""
    run = write_run(tmp_path / "run", 1.0, 0.6)
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 30, "aAcc/on-c')
    assert read_curve(run) == Curve([10, 20], [0.5, 1.0], [0.5, 0.6])


def test_the_runs_of_a_sweep(tmp_path: Path) -> None:
    """Oracle: folders that differ in R alone, by R; other sweeps, other seeds and folders without a run are none."""
    names = {r: f"context_probe,head.recurrence={r},seed=1" for r in (10, 0, 2)}
    for name in names.values():
        write_run(tmp_path / name, 1, 1)
    for other in ("context_probe", "context_probe,head.recurrence=1", "mine,head.recurrence=1,seed=1"):
        write_run(tmp_path / other, 1, 1)
    (tmp_path / "context_probe,head.recurrence=3,seed=1").mkdir()
    (tmp_path / "latest").write_text("context_probe\n")
    found = ContextProbeReport(2, 8).runs(tmp_path / names[2])
    assert list(found.items()) == [(r, tmp_path / names[r]) for r in (0, 2, 10)]
    assert ContextProbeReport(2, 8).runs(tmp_path / "context_probe") == {2: tmp_path / "context_probe"}


def test_the_figure_has_a_curve_of_every_run_so_far(tmp_path: Path) -> None:
    """Oracle: the colours of R on the page, in the order in which a sweep runs."""
    for recurrence in range(3):
        run = write_run(tmp_path / f"context_probe,head.recurrence={recurrence}", 0.8, 0.6)
        ContextProbeReport(recurrence, cell=8)(run, [sample()])
        with Image.open(run / "report" / "context_probe.png") as figure:
            drawn = [pixels_of(figure.convert("RGB"), color) > 100 for color in COLORS]
            assert figure.size == SIZE
        assert drawn == [r <= recurrence for r in range(len(COLORS))]


def test_curves_lie_where_their_values_say() -> None:
    """Oracle: the height of a flat curve's pixels: higher accuracy is higher up, equal steps of it equally far."""
    heights = []
    for accuracy in (0.6, 0.7, 0.8, 0.9):
        figure = draw_figure({1: Curve([5, 10], [accuracy] * 2, [accuracy] * 2)}, sample(), 8)
        plot = np.asarray(figure)[:, 100:400]  # left of the legend
        heights.append(np.nonzero((plot == ImageColor.getrgb(COLORS[1])).all(axis=2))[0].mean())
    steps = np.diff(heights)
    assert (steps < -30).all()
    assert np.ptp(steps) < 1.5


def test_off_cross_is_dashed_and_low_accuracies_stay_on_the_page() -> None:
    """Oracle: colour changes along the middle of a flat line: none in the solid one, many in the dashed one."""
    changes = {}
    for name, curve in {
        "solid": Curve([0, 100], [0.7] * 2, [0.1] * 2),
        "dashed": Curve([0, 100], [0.1] * 2, [0.7] * 2),
    }.items():
        plot = np.asarray(draw_figure({1: curve}, sample(), 8))[:, 100:400]
        drawn = (plot == ImageColor.getrgb(COLORS[1])).all(axis=2)
        rows = np.nonzero(drawn.sum(axis=1) > 100)[0]
        upper = rows[rows < rows.max() - 50]  # the other line is the lower one
        changes[name] = int(np.abs(np.diff(drawn[int(upper.mean())].astype(int))).sum())
    assert changes["solid"] == 0
    assert changes["dashed"] > 20


def test_the_sample_is_shown_with_its_marks() -> None:
    """Oracle: a corner of every cell has the cell's own grey but where a key's frame lies; discs in the queries."""
    figure = np.asarray(draw_figure({}, sample(), 8)).astype(int)
    left, top, side = SAMPLE
    for row in range(4):
        for column in range(4):
            x, y = left + column * side // 4, top + row * side // 4
            shown, middle = figure[y + 12, x + 12, 0], figure[y + side // 8, x + side // 8, 0]
            grey = 10 * (4 * row + column)
            assert abs(shown - grey) <= 1
            edge = figure[y + 1, x + 40, 0]
            assert edge < 30 if (row, column) in ((0, 0), (1, 2)) else abs(edge - grey) <= 30
            disc = {(0, 3): 0, (3, 1): 255}.get((row, column), grey)
            assert abs(middle - disc) <= 2


@pytest.mark.parametrize("steps", [[], [2], [25, 50, 75, 100], [100000]])
def test_any_number_of_evaluations_can_be_drawn(steps: list[int]) -> None:
    """Oracle: the size of the page."""
    assert draw_figure({2: Curve(steps, [1.0] * len(steps), [0.0] * len(steps))}, sample(), 8).size == SIZE
