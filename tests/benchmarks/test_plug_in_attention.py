"""The benchmark of plug-in attention: it measures what it says, and the rows keep to the tool's rules."""

from collections.abc import Callable
from contextlib import nullcontext

import pytest
import torch

from ccnet.benchmarks import plug_in_attention
from ccnet.benchmarks.measure import Row
from ccnet.benchmarks.plug_in_attention import FORMS, HOSTS, PEER, Host, layers, num_parameters, rows
from ccnet.benchmarks.table import as_json, readable


@pytest.fixture(scope="module")
def found() -> list[Row]:
    """All rows at sizes that take no time: one light network, few channels."""
    light = Host("mobilenet_v3_small", "features.[56]", {**HOSTS[-1].placements, "replaced": ("dual", "replace")})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plug_in_attention, "HOSTS", (light,))
        patch.setattr(plug_in_attention, "CHANNELS", 16)
        patch.setattr(plug_in_attention, "SIDE", 4)
        patch.setattr(plug_in_attention, "IMAGE", 64)
        patch.setattr(plug_in_attention, "threads", lambda count: nullcontext())
        patch.setattr(torch.cuda, "is_available", lambda: False)
        patch.setattr(plug_in_attention, "interleaved", briefly(plug_in_attention.interleaved))
        return list(rows(quick=True))


def briefly(interleaved: Callable[..., object]) -> Callable[..., object]:
    """The same with as few rounds as there may be."""
    return lambda variants, seconds, **options: interleaved(variants, 0, min_rounds=1, **options)


def test_rows_keep_to_the_rules(found: list[Row]) -> None:
    """Oracle: the rules: a case has one baseline, the peer or the plain network; every row can be shown."""
    assert {(row.case.split()[0], row.baseline) for row in found} == {
        ("2x16x4x4", PEER),
        ("mobilenet_v3_small", "plain"),
    }
    assert {row.metric for row in found} == {"flops (forward)", "time"}
    assert all(row.benchmark == "plug_in_attention" and row.ratio > 0 for row in found)
    assert len({(row.case, row.variant, row.metric) for row in found}) == len(found) == 2 * (3 + 4)
    assert all(readable(row.metric, row.measured) and as_json(row) for row in found)


def test_names_tell_the_parameters() -> None:
    """Oracle: the sums by hand. The peer has the channel form's."""
    made = layers()
    assert list(made) == [PEER, "dual 66,625", "dual_light 33,825", "channel 66,112"]
    assert num_parameters(made[PEER]) == 66_112


@pytest.mark.parametrize("host", HOSTS, ids=str)
def test_networks_with_attention_share_their_numbers(host: Host) -> None:
    """Oracle: identity of the parameters, and the articles' networks with the real channels; on the meta device."""
    with torch.device("meta"):
        made = host.build()
    plain = made.pop("plain")
    own = {id(parameter) for parameter in plain.parameters()}
    expected = {
        "vgg16": ["+66,625", "+33,825", "+66,112"],
        "resnet50": ["+1,052,929", "+528,513", "+1,050,880", "-3,409,663"],
        "mobilenet_v3_large": ["+6,741", "+3,531", "+6,580"],
    }[host.name]
    assert [name.split()[1] for name in made] == expected
    for name, network in made.items():
        new = [parameter for parameter in network.parameters() if id(parameter) not in own]
        if "replaced" not in name:
            assert f"+{sum(parameter.numel() for parameter in new):,}" == name.split()[1]
    assert [name.split()[0] for name in made][:3] == list(FORMS)


def test_operations_are_counted(found: list[Row]) -> None:
    """Oracle: two per multiply-add of the three 1x1 convolutions, by hand."""
    layer = [row for row in found if row.case.startswith("2x16") and row.metric.startswith("flops")]
    assert [row.measured.value for row in layer] == [
        2 * 2 * (16 * reduced * 2 + spatial * 16 * 4 * 4) for reduced, spatial in ((2, 1), (1, 1), (2, 0))
    ]
