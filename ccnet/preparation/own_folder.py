"""A folder of images and masks -> a data set file for configs/dataset, ready to be trained on."""

import re
from pathlib import Path

from ccnet.data.folder import folder_pairs
from ccnet.data.pairing import require_folder
from ccnet.errors import DataError
from ccnet.preparation.class_file import find_class_file, read_class_file
from ccnet.preparation.folder_description import Description, Rgb, describe, to_yaml
from ccnet.preparation.mask_survey import survey_masks
from ccnet.preparation.published_folder import publish_text, refuse_existing
from ccnet.preparation.splits import draw_splits, existing_splits, undivided, write_lists


def prepare_folder(
    root: Path,
    output: Path,
    classes: Path | None = None,
    binary: bool = False,
    ignore_color: Rgb | None = None,
    val_share: float = 0.2,
    seed: int = 0,
    overwrite: bool = False,
) -> list[str]:
    """Inspects root/images and root/masks, divides them where they are not yet, and writes the YAML that reads them.

    Args:
        root: the folder.
        output: the YAML.
        classes: a file of class names; None for root/classes.txt or root/labelmap.txt where there is one.
        binary: masks of 0 and 255 hold background and foreground.
        ignore_color: of colour masks.
        val_share: of the images, where the folder has no training and validation split.
        seed: of the split.
        overwrite: whether an existing YAML may be replaced; lists of names never are.

    Returns:
        Lines that say what was found and what to do next.

    Raises:
        DataError: a folder that cannot be trained on, with what to change.
    """
    if not re.fullmatch(r"\w[\w-]*\.yaml", output.name, re.ASCII):
        raise DataError(f"--output {output}: name it NAME.yaml, of letters, digits, - and _")
    refuse_existing(output, overwrite)
    for part in ("images", "masks"):
        _require_part(root, part)
    splits = existing_splits(root)
    pairs = undivided(root) if splits is None else [pair for name in splits for pair in folder_pairs(root, name)]
    drawn = None if splits else draw_splits([pair.name for pair in pairs], val_share, seed)
    survey = survey_masks(pair.mask for pair in pairs if pair.mask is not None)
    class_file = find_class_file(root) if classes is None else classes
    found = describe(survey, None if class_file is None else read_class_file(class_file), binary, ignore_color)
    if drawn:
        write_lists(root, drawn)
    publish_text(output, to_yaml(_from_here(root), found), overwrite=overwrite)
    train, val = splits or ("train", "val")
    told = f"{root}: {len(pairs)} images, splits {train} and {val}, {survey.mask_format} masks"
    if drawn:
        told += f"; drew {len(drawn['train'])} for training, {len(drawn['val'])} for validation: {root / 'splits'}"
    return [told, *_table(found), f"wrote {output}", _next_command(output, train, val)]


def _require_part(root: Path, part: str) -> None:
    folder = require_folder(root, "the folder", "name one that does")
    if not (folder / part).is_dir():
        there = ", ".join(sorted(path.name for path in folder.iterdir() if path.is_dir())) or "no folder"
        raise DataError(f"{folder} must hold images/ and masks/; it has no {part}/, but {there}: rename or move them")


def _from_here(root: Path) -> Path:
    """Relative where it lies below the current folder: `root` of a data set is taken from where a run starts."""
    full = root.resolve()
    return full.relative_to(Path.cwd()) if full.is_relative_to(Path.cwd()) else full


def _table(found: Description) -> list[str]:
    return [
        f"  {index:3d}  {name}  {share:.2%} of the pixels{'' if share else ' (in no mask)'}"
        for index, (name, share) in enumerate(zip(found.class_names, found.shares, strict=True))
    ]


def _next_command(output: Path, train: str, val: str) -> str:
    words = [f"dataset={output.stem}", f"name={output.stem}"]
    words += [f"{usual}_split={name}" for usual, name in (("train", train), ("val", val)) if name != usual]
    return f"next: python tools/train.py {' '.join(words)}"
