"""Checkpoints of mmsegmentation's CCNet, 0.x and 1.x, on a ResNet of output stride 8.

`meta` holds the text of the training configuration (mmseg_config.py). What it does not tell is as in the configurations
of mmsegmentation's repository.
"""

from ccnet.errors import CheckpointError
from ccnet.importers import mmseg_config
from ccnet.importers.foreign import Foreign, Told, auxiliary_overrides, classes_in
from ccnet.importers.source import Source
from ccnet.importers.translation import Names, resnet_depth, width_of
from ccnet.models.backbones.weights import plain_dict

DEFAULT_RECURRENCE = 2
MOST_LOOPS = 64
NAMES = Names(
    {
        "backbone.": "backbone.",
        "decode_head.convs.0.conv.": "head.reduction.0.",
        "decode_head.convs.0.bn.": "head.reduction.1.",
        "decode_head.cca.": "head.attention.",
        "decode_head.cca.gamma.scale": "head.attention.gamma",
        "decode_head.convs.1.conv.": "head.fusion.context.0.",
        "decode_head.convs.1.bn.": "head.fusion.context.1.",
        "decode_head.conv_cat.conv.": "head.fusion.convs.0.0.",
        "decode_head.conv_cat.bn.": "head.fusion.convs.0.1.",
        "decode_head.conv_seg.": "head.classifier.",
        "auxiliary_head.convs.0.conv.": "auxiliary_head.conv.0.",
        "auxiliary_head.convs.0.bn.": "auxiliary_head.conv.1.",
        "auxiliary_head.conv_seg.": "auxiliary_head.classifier.",
    }
)


def read(source: Source, recurrence: int | None) -> Foreign:
    """The network of a file.

    Args:
        source: the file.
        recurrence: in place of what its configuration says.

    Raises:
        CheckpointError: it is another network.
    """
    settings = mmseg_config.settings_of(source.meta.get("cfg", source.meta.get("config")))
    align = [value for key, value in settings if key == "align_corners" and isinstance(value, bool)]
    if recurrence is None:
        loops = (value for key, value in settings if key == "recurrence" and mmseg_config.is_count(value, MOST_LOOPS))
        recurrence = next(loops, None)
    depth = resnet_depth(source, "backbone.")
    overrides = [
        "+experiment=cityscapes_r2",
        "backbone=resnet50",
        f"backbone.variant={_variant(source, depth)}",
        f"backbone.depth={depth}",
        *mmseg_config.dilation(source.path, settings),
        f"head.channels={width_of(source, 'decode_head.convs.0.conv.weight')}",
        f"head.recurrence={DEFAULT_RECURRENCE if recurrence is None else recurrence}",
        f"model.align_corners={str(any(align)).lower()}",
        *mmseg_config.normalisation(source.path, settings),
        *mmseg_config.windows(settings),
        *auxiliary_overrides(source, "auxiliary_head.convs.0.conv.weight"),
    ]
    note = "align_corners as its configuration says" if align else "align_corners untold: true if trained at 769x769"
    num_classes = classes_in(source, "decode_head.conv_seg.weight")
    return Foreign(source, overrides, NAMES, num_classes, _classes(source), [note], recurrence is not None)


def _variant(source: Source, depth: int) -> str:
    if "backbone.stem.0.weight" not in source.state:
        if depth < 50:
            raise CheckpointError(
                f"{source.path}: a ResNet-{depth} with the 7x7 stem dilates one convolution a block, ours both; of "
                "this depth only v1c and v1d can be imported"
            )
        return "plain"
    return "v1c" if "backbone.layer2.0.downsample.0.weight" in source.state else "v1d"


def _classes(source: Source) -> Told:
    about = plain_dict(source.meta.get("dataset_meta"))
    if about is not None:  # 1.x
        return Told(about.get("classes"), about.get("palette"))
    return Told(source.meta.get("CLASSES"), source.meta.get("PALETTE"))
