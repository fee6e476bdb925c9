"""mmsegmentation's files: the golden logits of the reference, and what their configuration's text tells."""

from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from ccnet.build import build_model
from ccnet.config import compose_config
from ccnet.errors import CheckpointError
from ccnet.importers import mmseg
from ccnet.importers.translation import translated
from ccnet.models.backbones.resnet import Variant
from ccnet.schema import RunConfig
from tests.importers.foreign_files import mmseg_state, source
from tests.importers.parity import assert_equal_logits, reference, shapes_of

MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
SLIDING = """
norm_cfg = dict(type='SyncBN', requires_grad=True)
model = dict(
    type='EncoderDecoder',
    decode_head=dict(type='CCHead', recurrence=3, align_corners=True, loss_decode=dict(type='CrossEntropyLoss')),
    auxiliary_head=dict(type='FCNHead', align_corners=True),
    test_cfg=dict(mode='slide', crop_size=(769, 769), stride=(513, 513)))
test_cfg = dict(type='TestLoop')
"""
WHOLE = "model = dict(decode_head=dict(align_corners=False, recurrence=1), test_cfg=dict(mode='whole'))"


def overrides(meta: dict[str, object], recurrence: int | None = None) -> list[str]:
    """What a small file makes of the configuration."""
    with torch.device("meta"):
        state = mmseg_state()
    return mmseg.read(source(state, meta), recurrence).overrides


def fitted(state: dict[str, Tensor]) -> tuple[RunConfig, dict[str, Tensor]]:
    """The configuration of a file and its tensors under our names."""
    foreign = mmseg.read(source(state), None)
    config = compose_config(foreign.overrides)
    with torch.device("meta"):
        model = build_model(config, foreign.num_classes, pretrained=False)
    return config, translated(foreign.source, foreign.names, model)


def test_the_logits_are_those_of_the_reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: mmsegmentation's own logits in float64, main and auxiliary, through file, folder and preprocessing."""
    golden = reference("mmseg_r101_r2")
    mean, std = (np.array(each).reshape(1, 3, 1, 1) for each in (MEAN, STD))
    assert_equal_logits(golden, "mmseg", golden.image * std + mean, tmp_path, monkeypatch)


def test_all_names_of_the_reference_have_their_place() -> None:
    """Oracle: the names of the reference; nothing is left on either side but counters."""
    shapes = shapes_of("mmseg_r101_r2")
    config, ours = fitted({name: torch.empty(shape, device="meta") for name, shape in shapes.items()})
    assert sum(not name.endswith("num_batches_tracked") for name in ours) == len(shapes)
    assert (config.backbone["depth"], config.backbone["contract_dilation"]) == (101, True)
    assert (config.model.mean, config.model.std, config.model.channel_order.value) == (MEAN, STD, "rgb")


@pytest.mark.parametrize(
    ("depth", "variant", "aux"), [(18, "v1c", True), (50, "v1c", True), (50, "plain", False), (50, "v1d", False)]
)
def test_other_depths_stems_widths_and_classes(depth: int, variant: Variant, aux: bool) -> None:
    """Oracle: the network that the file was made from."""
    with torch.device("meta"):
        state = mmseg_state(depth, variant, classes=150, channels=24, aux=aux)
    config, ours = fitted(state)
    assert len(ours) == len(state)
    assert (config.backbone["depth"], config.backbone["variant"], config.head["channels"]) == (depth, variant, 24)
    assert config.loss["auxiliary_weight"] == (0.4 if aux else 0.0)


def test_the_configurations_text_tells_loops_corners_and_windows() -> None:
    """Oracle: the text, of 1.x and of 0.x; the command line's recurrence comes before it."""
    sliding, whole, nothing = (compose_config(overrides(meta)) for meta in ({"cfg": SLIDING}, {"config": WHOLE}, {}))
    assert [config.head["recurrence"] for config in (sliding, whole, nothing)] == [3, 1, 2]
    assert [config.model.align_corners for config in (sliding, whole, nothing)] == [True, False, False]
    assert "head.recurrence=0" in overrides({"cfg": SLIDING}, recurrence=0)
    evaluation = sliding.evaluation
    assert (evaluation["crop_size"], evaluation["stride"], evaluation["average"]) == ([769, 769], [513, 513], "logits")
    assert whole.evaluation["crop_size"] is None


def configured(**settings: str) -> str:
    """A configuration's text with a backbone that is as in mmsegmentation's repository but for these settings."""
    told = {"strides": "(1, 2, 1, 1)", "dilations": "(1, 1, 2, 4)", "style": "'pytorch'", "contract_dilation": "True"}
    listed = ", ".join(f"{name}={value}" for name, value in {**told, **settings}.items())
    return f"model = dict(backbone=dict(type='ResNetV1c', {listed}))"


def test_the_backbones_dilation_is_taken_from_the_text() -> None:
    """Oracle: mmsegmentation's ResNet: contract_dilation is false where a told backbone does not say it."""
    untold = configured().replace(", contract_dilation=True", "")
    contracted = (configured(), configured(dilations="[1, 1, 2, 4]"), "")
    others = (configured(contract_dilation="False"), untold)
    for text, contract in [*((text, True) for text in contracted), *((text, False) for text in others)]:
        assert compose_config(overrides({"cfg": text})).backbone["contract_dilation"] == contract


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (configured(dilations="(1, 1, 1, 2)"), r"its backbone has dilations \(1, 1, 1, 2\); only \(1, 1, 2, 4\)"),
        (configured(strides="(1, 2, 2, 1)"), r"its backbone has strides \(1, 2, 2, 1\)"),
        (configured(style="'caffe'"), "its backbone has style caffe"),
        ("model = dict(backbone=dict(type='ResNetV1c'))", r"its backbone has strides \(1, 2, 2, 2\)"),
        ("a = dict(mean=[1, 2, 3]); b = dict(mean=[1, 2, 4])", "normalises in more than one way: mean"),
        ("a = dict(to_rgb=True); b = dict(bgr_to_rgb=False)", "normalises in more than one way: channel_order"),
        ("a = dict(rgb_to_bgr=True)", "its configuration has rgb_to_bgr"),
    ],
)
def test_another_network_by_its_text_is_refused(text: str, message: str) -> None:
    """Oracle: what contradicts, in the message; a backbone that is told but for its strides has mmsegmentation's."""
    with pytest.raises(CheckpointError, match=message):
        overrides({"cfg": text})


@pytest.mark.parametrize(
    "text",
    [
        "model = dict(data_preprocessor=dict(mean=[127.5, 0, 1], std=(1, 2.5, 1e-05), bgr_to_rgb=False))",
        "img_norm_cfg = dict(mean=[127.5, 0, 1], std=[1, 2.5, 1e-05], to_rgb=False)\ntrain_pipeline = [dict(type="
        "'Normalize', mean=[127.5, 0, 1], std=[1, 2.5, 1e-05], to_rgb=False)]\n"
        "x = dict(init_cfg=dict(std=0.01, mean=0))",
    ],
)
def test_the_normalisation_is_that_of_the_text(text: str) -> None:
    """Oracle: the numbers written out, of 1.x and of 0.x; pictures that are not swapped to RGB stay BGR."""
    model = compose_config(overrides({"cfg": text})).model
    assert (model.mean, model.std, model.channel_order.value) == ([127.5, 0.0, 1.0], [1.0, 2.5, 1e-5], "bgr")


def test_sizes_may_be_lists() -> None:
    """Oracle: the same text with tuples."""
    text = SLIDING.replace("(769, 769)", "[769, 769]").replace("(513, 513)", "[513, 513]")
    assert overrides({"cfg": text}) == overrides({"cfg": SLIDING})


@pytest.mark.parametrize("depth", [18, 34])
def test_basic_blocks_with_the_plain_stem_are_refused(depth: int) -> None:
    """Oracle: the reason: they are dilated otherwise than ours."""
    with torch.device("meta"):
        state = mmseg_state(depth, "plain")
    with pytest.raises(CheckpointError, match=f"a ResNet-{depth} with the 7x7 stem dilates one convolution a block"):
        mmseg.read(source(state), None)


@pytest.mark.parametrize(
    "text",
    [
        7, None, b"recurrence=3", "not python at all (", "dict(" * 5000, "a" * (1 << 19), "x=" + "-" * 100_000 + "1",
        "f(recurrence=10**9)", "f(recurrence=999999)", "f(recurrence=-1)", "f(recurrence='3')", "f(recurrence=True)",
        "f(recurrence=__import__('os').getpid())", "f(test_cfg=dict(mode='slide', crop_size=(0, 769), stride=(1, 1)))",
        "f(test_cfg=dict(mode='slide', crop_size=769, stride=513))", "f(test_cfg=dict(mode='slide'))", "f(**x)",
        "f(test_cfg=dict(mode='slide', crop_size=('${seed}', 1), stride=(1, 1)))", "f(align_corners='yes')", "\0",
        "f(mean=[1, 2], std=[0, 1, 1], to_rgb=1)", "f(mean=[1e999, 1, 1], std=['${seed}', 1, 1])", "f(backbone=3)",
    ],
)  # fmt: skip
def test_a_text_that_makes_no_sense_says_nothing(text: object) -> None:
    """Oracle: what is taken where there is no text at all; nothing in it is run."""
    assert overrides({"cfg": text}) == overrides({})


def test_what_meta_says_about_the_classes_in_both_forms() -> None:
    """Oracle: the words, unjudged."""
    with torch.device("meta"):
        state = mmseg_state()
    old = mmseg.read(source(state, {"CLASSES": ("a",), "PALETTE": [[1, 2, 3]]}), None).told
    new = mmseg.read(source(state, {"dataset_meta": {"classes": ("b",), "palette": [[1, 2, 3]]}}), None).told
    assert (old.names, old.palette, new.names, new.palette) == (("a",), [[1, 2, 3]], ("b",), [[1, 2, 3]])
    assert mmseg.read(source(state, {}), None).told.names is None
    about = OrderedDict(classes=("c",))
    vars(about)["get"] = 3  # what a file may hang on it
    assert mmseg.read(source(state, {"dataset_meta": about}), None).told.names == ("c",)


def test_another_head_is_refused() -> None:
    """Oracle: the names that are missing and those that have no place, such as those of a PSPNet."""
    with torch.device("meta"):
        state = mmseg_state()
    cca = [name for name in state if ".cca." in name]
    changed = {name: value for name, value in state.items() if name not in cca}
    with pytest.raises(CheckpointError, match=r"unexpected decode_head\.psp; missing decode_head\.cca\.gamma\.scale"):
        fitted({**changed, "decode_head.psp": torch.ones(1)})
    with pytest.raises(CheckpointError, match=r"missing decode_head\.convs\.0\.conv\.weight"):
        fitted({name: value for name, value in state.items() if name.startswith("backbone.")})
