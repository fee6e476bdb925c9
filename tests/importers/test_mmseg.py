"""mmsegmentation's files: the golden logits of the reference, and what their configuration's text tells."""

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


@pytest.mark.parametrize(
    "text",
    [
        7, None, b"recurrence=3", "not python at all (", "dict(" * 5000, "a" * (1 << 19), "x=" + "-" * 100_000 + "1",
        "f(recurrence=10**9)", "f(recurrence=999999)", "f(recurrence=-1)", "f(recurrence='3')", "f(recurrence=True)",
        "f(recurrence=__import__('os').getpid())", "f(test_cfg=dict(mode='slide', crop_size=(0, 769), stride=(1, 1)))",
        "f(test_cfg=dict(mode='slide', crop_size=769, stride=513))", "f(test_cfg=dict(mode='slide'))", "f(**x)",
        "f(test_cfg=dict(mode='slide', crop_size=('${seed}', 1), stride=(1, 1)))", "f(align_corners='yes')", "\0",
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
