"""The official CCNet's files: the golden logits of the reference, and every form that its files have."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from ccnet.build import build_model
from ccnet.config import compose_config
from ccnet.errors import CheckpointError
from ccnet.importers import official
from ccnet.importers.translation import translated
from tests.importers.foreign_files import official_state, source
from tests.importers.parity import assert_equal_logits, reference, shapes_of

MEAN = np.array([104.00698793, 116.66876762, 122.67891434]).reshape(1, 3, 1, 1)


def meta_state(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


def test_the_logits_are_those_of_the_reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the official code's own logits in float64, main and auxiliary, through file, folder and preprocessing."""
    golden = reference("official_r2")
    image = (golden.image + MEAN)[:, ::-1]  # their BGR without the mean -> RGB
    assert_equal_logits(golden, "official", image, tmp_path, monkeypatch)


@pytest.mark.parametrize("counters", [True, False])
def test_all_names_of_the_reference_have_their_place(counters: bool) -> None:
    """Oracle: the 562 names of the reference, and 110 counters of newer norms; nothing is left on either side."""
    state = meta_state(shapes_of("official_r2"))
    if counters:
        norms = [name.removesuffix("running_mean") for name in state if name.endswith("running_mean")]
        state |= {f"{name}num_batches_tracked": torch.zeros((), dtype=torch.int64, device="meta") for name in norms}
    assert len(state) == (672 if counters else 562)
    foreign = official.read(source(state), recurrence=3)
    config = compose_config(foreign.overrides)
    with torch.device("meta"):
        model = build_model(config, foreign.num_classes, pretrained=False)
    ours = translated(foreign.source, foreign.names, model)
    assert ours.keys() | {"preprocess.mean", "preprocess.std", "preprocess.order"} == model.state_dict().keys()
    assert (config.head["recurrence"], foreign.num_classes) == (3, 19)


@pytest.mark.parametrize(("depth", "aux"), [(50, True), (152, False)])
def test_other_depths_widths_and_classes(depth: int, aux: bool) -> None:
    """Oracle: the network that the file was made from; without its auxiliary head there is none."""
    with torch.device("meta"):
        state = official_state(depth, classes=7, channels=24, aux=aux)
    foreign = official.read(source(state), None)
    config = compose_config(foreign.overrides)
    with torch.device("meta"):
        model = build_model(config, foreign.num_classes, pretrained=False)
    assert len(translated(foreign.source, foreign.names, model)) == len(state)
    assert (config.backbone["depth"], config.head["channels"], config.head["recurrence"]) == (depth, 24, 2)
    assert (model.auxiliary_head is not None) == aux


@pytest.mark.parametrize("shape", [(), (1,)])
def test_gamma_of_one_number_in_either_form(shape: tuple[int, ...]) -> None:
    """Oracle: its value."""
    with torch.device("meta"):
        state = official_state()
    state["head.cca.gamma"] = torch.full(shape, 0.25)
    foreign = official.read(source(state), None)
    with torch.device("meta"):
        model = build_model(compose_config(foreign.overrides), 19, pretrained=False)
    gamma = translated(foreign.source, foreign.names, model)["head.attention.gamma"]
    assert torch.equal(gamma, torch.tensor([0.25]))


def test_norms_scale_by_the_absolute_weight_and_a_little() -> None:
    """Oracle: inplace_abn's kernel written out, |w| + 1e-5, for norms alone."""
    state = {"bn1.weight": torch.tensor([-0.5, 0.0, 2.0]), "bn1.running_mean": torch.zeros(3)}
    state |= {"bn1.bias": torch.tensor([-1.0, 0.0, 1.0]), "conv1.weight": torch.tensor([-1.0])}
    plain = official.with_plain_norms(source(state)).state
    assert torch.equal(plain["bn1.weight"], torch.tensor([0.5 + 1e-5, 1e-5, 2 + 1e-5]))
    for name in ("bn1.bias", "bn1.running_mean", "conv1.weight"):
        assert torch.equal(plain[name], state[name])


def test_the_network_is_the_published_one() -> None:
    """Oracle: what the reference's documentation says, written out."""
    with torch.device("meta"):
        foreign = official.read(source(official_state(101)), None)
    config = compose_config(foreign.overrides)
    model, backbone = config.model, config.backbone
    assert (model.mean, model.std, model.channel_order.value) == (MEAN.flatten().tolist(), [1.0] * 3, "bgr")
    assert model.align_corners
    assert (backbone["variant"], backbone["contract_dilation"], backbone["output_stride"]) == ("ccnet", False, 8)
    assert config.head["activation"] == config.auxiliary_head["activation"] == "leaky_relu"
    evaluation = config.evaluation
    assert (evaluation["crop_size"], evaluation["stride"], evaluation["average"]) == ([769, 769], [513, 513], "logits")


def test_another_projects_file_is_refused() -> None:
    """Oracle: the names that are missing."""
    with torch.device("meta"):
        state = official_state()
    with pytest.raises(CheckpointError, match=r"missing head\.conva\.0\.weight"):
        official.read(source({name: state[name] for name in state if not name.startswith("head.")}), None)
    with pytest.raises(CheckpointError, match=r"layer1 to layer4 have 0, 0, 0, 0 blocks"):
        official.read(source({"decode_head.conv_seg.weight": torch.ones(1)}), None)
