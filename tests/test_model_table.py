"""The table of models, against formulas, torchvision's own figures and the memory of a process."""

import json
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from torchvision.models import get_model_weights

from ccnet import model_table
from ccnet.benchmarks.memory import Call, can_measure_peak, peak_memory
from ccnet.build import build_part
from ccnet.config import compose_config
from ccnet.errors import ConfigError, UserError
from ccnet.model_table import ModelRow, choices, model_rows, print_table, write_json
from ccnet.schema import Part

SIZE = (65, 97)


def row_of(size: tuple[int, int], *overrides: str, monkeypatch: pytest.MonkeyPatch) -> ModelRow:
    """Of the default's parts with changes, which the table itself does not take."""
    config = compose_config(list(overrides))
    monkeypatch.setattr(model_table, "compose_config", lambda _: config)
    (row,) = model_rows(size, ["backbone"], ["head"])
    return row


LONG = pytest.mark.long


@pytest.mark.parametrize("backend", ["fused", *(pytest.param(each, marks=LONG) for each in ("reference", "chunked"))])
def test_loops_of_attention_are_all_counted(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the formula for criss-cross attention: projections, affinities and aggregation, two per multiply-add."""
    words = ["backbone=patches", "backbone.channels=8", "head=rcca", "head.channels=64", f"head.backend={backend}"]
    without, two = (row_of(SIZE, *words, f"head.recurrence={loops}", monkeypatch=monkeypatch) for loops in (0, 2))
    height, width = 9, 13  # ceil(side / 8)
    depth, positions = 64 // 8, height * width
    loop = 2 * positions * (64 * (64 + 2 * depth) + (depth + 64) * (height + width))
    assert two.operations - without.operations == 2 * loop
    assert two.parameters == without.parameters


def test_a_whole_model_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the formulas for convolutions of 4x4 and 2x2 patches, and for FCN's head."""
    row = row_of((64, 96), "backbone=patches", "backbone.channels=8", "head=fcn", "head.channels=16",
                 monkeypatch=monkeypatch)  # fmt: skip
    convs = [(16 * 24, 3 * 16, 8), (8 * 12, 8 * 4, 8), (8 * 12, 8, 8), (8 * 12, 8, 8), (8 * 12, 8 * 9, 16)]
    classifier = (8 * 12, 16, 19)
    assert row.operations == sum(2 * positions * inner * outer for positions, inner, outer in [*convs, classifier])
    norms = 2 * (4 * 8 + 16)
    assert row.parameters == sum(inner * outer for _, inner, outer in [*convs, classifier]) + norms + 19
    assert row.output_stride == 8


HEAVY = ["mobilenet_v2", "mobilenet_v3_small", "shufflenet_v2", "efficientnet_b0", "vgg16_bn", "resnet101"]


@pytest.mark.parametrize("name", ["resnet18", *(pytest.param(each, marks=LONG) for each in HEAVY)])
def test_backbones_cost_what_torchvision_says(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the multiply-adds (`_ops`, in thousand millions) that torchvision states at 224x224, of which up to 4 %
    are the classifier's; and its weights."""
    whole = {"backbone.last_conv": True} if "last_conv" in compose_config([f"backbone={name}"]).backbone else {}
    words = [f"{key}={value}" for key, value in {"backbone.output_stride": 32, **whole}.items()]
    row = row_of((224, 224), f"backbone={name}", *words, "head=fcn", "head.channels=1", monkeypatch=monkeypatch)
    offered = get_model_weights({"shufflenet_v2": "shufflenet_v2_x1_0"}.get(name, name))
    assert row.operations / 2e9 == pytest.approx(offered.DEFAULT.meta["_ops"], rel=0.04)
    assert {"DEFAULT", *offered.__members__} <= set(row.weights)


def test_memory_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the first stage of wide patches, in which two maps at stride 4 are alive beside the image: what a norm
    reads and writes; within 15 %, as operators have temporaries. All later maps are at stride 8."""
    row = row_of((64, 96), "backbone=patches", "backbone.channels=512", "head=fcn", "head.channels=16",
                 monkeypatch=monkeypatch)  # fmt: skip
    norms = 4 * 512 + 16
    weights = 4 * (row.parameters + 2 * norms) + 8 * 5  # running mean and variance; an int64 counter a norm
    assert row.memory - weights == pytest.approx(4 * (2 * 512 * 16 * 24 + 3 * 64 * 96), rel=0.15)


def one_image(part: Part, head_part: Part, size: int) -> Call:
    """The forward pass of a model with data."""
    backbone = build_part(part).eval()
    head = build_part(head_part, in_channels=backbone.out_channels, num_classes=19).eval()

    def forward() -> object:
        with torch.no_grad():
            return head(backbone(torch.zeros(1, 3, size, size)))

    return forward


@LONG
@pytest.mark.skipif(not can_measure_peak(), reason="peak memory of the CPU needs Linux with glibc")
@pytest.mark.parametrize("words", [["backbone=resnet18", "head=rcca"], ["backbone=vgg16", "head=rcca_decoder"]])
def test_memory_is_what_a_process_takes(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the resident memory of a child process beyond its weights: no less, and no more than twice as much, as
    convolutions on the CPU copy what they read and write into a layout of their own."""
    config, row = compose_config(words), row_of((513, 513), *words, monkeypatch=monkeypatch)
    real = peak_memory(partial(one_image, config.backbone, config.head, 513),
                       partial(one_image, config.backbone, config.head, 33))  # fmt: skip
    model = [build_part(config.backbone)]
    model.append(build_part(config.head, in_channels=model[0].out_channels, num_classes=19))
    weights = sum(each.nbytes for part in model for each in part.state_dict().values())
    assert 0.9 * (row.memory - weights) < real < 2 * (row.memory - weights)


@pytest.mark.parametrize("pattern", ["[fn]*", pytest.param("*", marks=LONG)])
def test_heads_with_one_backbone(pattern: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Oracle: the YAML files' names, and the rows read back from the file."""
    heads = choices("head", pattern)
    rows = print_table(model_rows(SIZE, ["patches"], heads))
    printed = capsys.readouterr()
    assert [row.head for row in rows] == heads
    assert "patches: output stride 8; weights: a file" in printed.out
    assert printed.out.count("M parameters") == len(heads)
    assert printed.err == "[1/1] patches\n"
    write_json(tmp_path / "rows.json", rows)
    read = json.loads((tmp_path / "rows.json").read_text())
    assert [ModelRow(**{**each, "weights": tuple(each["weights"])}) for each in read] == rows


def test_a_heads_costs_are_its_own() -> None:
    """Oracle: the rows of the heads alone; those before leave nothing behind."""
    names = ["non_local", "fcn"]
    assert list(model_rows(SIZE, ["patches"], names)) == [
        row for name in names for row in model_rows(SIZE, ["patches"], [name])
    ]


def test_a_backbone_that_cannot_be_built_is_left_out(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: the reason on stderr, and the other backbone's row."""
    monkeypatch.setitem(sys.modules, "timm", None)
    rows = list(model_rows(SIZE, ["timm", "patches"], ["fcn"]))
    assert [row.backbone for row in rows] == ["patches"]
    assert "left out: backbone.name=resnet26d needs timm" in capsys.readouterr().err


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    """Oracle: one line of a UserError, and a folder that holds what it held."""
    (tmp_path / "rows.json").mkdir()
    with pytest.raises(UserError, match=r"rows.json is a folder; name a file"):
        write_json(tmp_path / "rows.json", [])
    assert [path.name for path in tmp_path.iterdir()] == ["rows.json"]


def test_a_pattern_that_matches_nothing() -> None:
    """Oracle: the error lists what there is."""
    with pytest.raises(ConfigError, match=r"no head matches nothing\*; there are fcn, non_local"):
        choices("head", "nothing*")
    assert choices("backbone", "mobilenet_v3*") == ["mobilenet_v3_large", "mobilenet_v3_small"]
