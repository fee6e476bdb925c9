"""Checkpoints of the official CCNet (speedinghzl/CCNet), of any of its branches.

Its norms are in-place activated ones (mapillary/inplace_abn), which scale by |weight| + 1e-5 whatever the sign: the
weights become that here. The rest of the network is that of configs/experiment/cityscapes_r2_ohem_official.yaml.
"""

from dataclasses import replace

from ccnet.importers.foreign import Foreign, auxiliary_overrides, classes_in
from ccnet.importers.source import Source
from ccnet.importers.translation import Names, resnet_depth, width_of

EPSILON = 1e-5
DEFAULT_RECURRENCE = 2
STEM = {f"{layer}{index}.": f"backbone.{layer}{index}." for layer in ("conv", "bn") for index in (1, 2, 3)}
STAGES = {f"layer{stage}.": f"backbone.layer{stage}." for stage in (1, 2, 3, 4)}
NAMES = Names(
    {
        **STEM,
        **STAGES,
        "head.conva.": "head.reduction.",
        "head.cca.": "head.attention.",
        "head.convb.": "head.fusion.context.",
        "head.bottleneck.0.": "head.fusion.convs.0.0.",
        "head.bottleneck.1.": "head.fusion.convs.0.1.",
        "head.bottleneck.3.": "head.classifier.",
        "dsn.0.": "auxiliary_head.conv.0.",
        "dsn.1.": "auxiliary_head.conv.1.",
        "dsn.3.": "auxiliary_head.classifier.",
    }
)


def read(source: Source, recurrence: int | None) -> Foreign:
    """The network of a file, which does not tell its recurrence.

    Raises:
        CheckpointError: it is another network.
    """
    overrides = [
        "+experiment=cityscapes_r2_ohem_official",
        f"backbone.depth={resnet_depth(source)}",
        f"head.channels={width_of(source, 'head.conva.0.weight')}",
        f"head.recurrence={DEFAULT_RECURRENCE if recurrence is None else recurrence}",
        *auxiliary_overrides(source, "dsn.0.weight"),
    ]
    num_classes = classes_in(source, "head.bottleneck.3.weight")
    is_told = recurrence is not None
    return Foreign(with_plain_norms(source), overrides, NAMES, num_classes, is_recurrence_told=is_told)


def with_plain_norms(source: Source) -> Source:
    """The weights of in-place activated norms as those of plain ones."""
    norms = {name.removesuffix("running_mean") + "weight" for name in source.state if name.endswith("running_mean")}
    state = {name: value.abs() + EPSILON if name in norms else value for name, value in source.state.items()}
    return replace(source, state=state)
