"""The commands of tools/prepare_data.py."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from ccnet.command_line import OneLineParser, share
from ccnet.config_errors import CONFIG_DIR
from ccnet.data.palette import as_color
from ccnet.data.voc import VOC
from ccnet.errors import DataError
from ccnet.preparation.annotated_masks import AnnotatedImage, write_annotated
from ccnet.preparation.coco import coco_images
from ccnet.preparation.labelme import labelme_images
from ccnet.preparation.own_folder import prepare_folder
from ccnet.preparation.voc import prepare

Command = Callable[[argparse.Namespace], list[str]]


def run(words: Sequence[str], description: str | None) -> list[str]:
    """Does what the words say.

    Args:
        words: the command line.
        description: of the tool.

    Returns:
        Lines to print.

    Raises:
        DataError: data that cannot be prepared, with what to change.
    """
    parser = OneLineParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, metavar="{folder,labelme,coco,voc,cache}")
    _add_folder(commands.add_parser("folder", help="images/ and masks/ -> configs/dataset/NAME.yaml"))
    _add_labelme(commands.add_parser("labelme", help="LabelMe's JSON files -> images/ and masks/"))
    _add_coco(commands.add_parser("coco", help="COCO's JSON file -> images/ and masks/"))
    _add_voc(commands.add_parser("voc", help="VOC 2012 and SBD -> the split trainaug"))
    _add_cache(commands.add_parser("cache", help="a copy of the training images that is faster to read"))
    for each in commands.choices.values():
        each.allow_abbrev = False
    arguments = parser.parse_args(words)
    command: Command = arguments.command
    return command(arguments)


def _add_folder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "path", type=Path, help="holds images/ and masks/, divided by sub-folders, lists, or not at all"
    )
    parser.add_argument("--output", type=Path, help="the YAML; default: configs/dataset/PATH's name.yaml")
    parser.add_argument(
        "--classes", type=Path, help="class names, one a line, or name:r,g,b; default: PATH/classes.txt"
    )
    parser.add_argument("--binary", action="store_true", help="masks of 0 and 255 hold background and foreground")
    parser.add_argument("--ignore-color", type=color, metavar="R,G,B", help="of pixels without a class in colour masks")
    parser.add_argument("--val-share", type=share, default=0.2, help="of the images, where nothing divides them yet")
    parser.add_argument("--seed", type=int, default=0, help="of that division")
    parser.add_argument("--overwrite", action="store_true", help="replace the YAML")
    parser.set_defaults(command=_folder)


def _folder(arguments: argparse.Namespace) -> list[str]:
    usual = CONFIG_DIR / "dataset"
    output = arguments.output or usual / f"{arguments.path.resolve().name}.yaml"
    lines = prepare_folder(
        arguments.path,
        output,
        arguments.classes,
        arguments.binary,
        arguments.ignore_color,
        arguments.val_share,
        arguments.seed,
        arguments.overwrite,
    )
    if output.resolve().parent != usual:
        lines.insert(-1, f"move it into {usual}, where data sets are looked for")
    return lines


def _add_labelme(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", type=Path, help="holds the JSON files and the images that they name")
    _add_conversion(parser)
    parser.set_defaults(command=lambda arguments: _convert(labelme_images(arguments.path), arguments))


def _add_coco(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", type=Path, help="the JSON file of instances")
    parser.add_argument("--images", type=Path, required=True, help="the folder that its file names start from")
    _add_conversion(parser)
    parser.set_defaults(command=lambda arguments: _convert(coco_images(arguments.path, arguments.images), arguments))


def _add_conversion(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", type=Path, required=True, help="folder that gets images/, masks/ and classes.txt")
    parser.add_argument("--classes", type=Path, help="class names in their order, one a line; default: by the alphabet")
    parser.add_argument(
        "--ignore-rest", action="store_true", help="pixels outside of all shapes are ignored, not 'background'"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a folder that this command made")


def _convert(images: Sequence[AnnotatedImage], arguments: argparse.Namespace) -> list[str]:
    output: Path = arguments.output
    names = write_annotated(images, output, arguments.classes, arguments.ignore_rest, arguments.overwrite)
    return [
        f"{output}: {len(images)} images with masks of {len(names)} classes: {', '.join(names)}",
        f"next: python tools/prepare_data.py folder {output.as_posix()}",
    ]


def _add_voc(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", nargs="?", default="data/VOCdevkit/VOC2012", help="default: %(default)s")
    parser.add_argument("--download", action="store_true", help="fetch what is missing, 3.4 GB")
    parser.set_defaults(command=_voc)


def _voc(arguments: argparse.Namespace) -> list[str]:
    if not (arguments.download or Path(arguments.path).is_dir()):
        raise DataError(f"{arguments.path} does not exist; unpack VOC 2012 there, or add --download")
    prepare(arguments.path, download=arguments.download)
    counts = ", ".join(f"{len(VOC(arguments.path, split))} in {split}" for split in ("trainaug", "val"))
    return [f"{arguments.path}: {counts}", "next: python tools/train.py +experiment=voc_r2_ohem"]


def _add_cache(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="dataset=NAME and other words of train.py")
    parser.set_defaults(command=_cache)


def _cache(arguments: argparse.Namespace) -> list[str]:
    from ccnet.preparation.cache_command import prepare_cache  # it composes a run, which the other commands do not need

    prepare_cache(arguments.overrides)
    return []


def color(text: str) -> tuple[int, int, int]:
    """Red, green and blue, for argparse."""
    return as_color([int(channel) for channel in text.split(",")], "--ignore-color")
