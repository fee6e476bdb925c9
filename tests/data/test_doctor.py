"""The doctor against every wrong label that it knows, made on disk."""

import logging
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ccnet.data.cache import CachedImages
from ccnet.data.cityscapes import Cityscapes
from ccnet.data.context_probe import ContextProbe
from ccnet.data.doctor import confirmation
from ccnet.data.doctor.between import check_between
from ccnet.data.doctor.examination import chosen, examine_all
from ccnet.data.doctor.findings import Finding, Kind, Severity
from ccnet.data.doctor.quick import quick_check
from ccnet.data.doctor.split import check_split
from ccnet.data.folder import Folder
from ccnet.data.sample import LabelledImages, Sample
from ccnet.errors import DataError
from ccnet.preparation.cache_writer import write_cache
from tests.conftest import write_cityscapes
from tests.data.wrong_labels import MISTAKES, NUM_IMAGES, ORIENTATION, each_mask, open_split, palette_image, write


def examined(dataset: LabelledImages, split: str = "train") -> list[Finding]:
    return check_split(split, dataset, examine_all(dataset, range(len(dataset)), 0, split))


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_stops_training_before_its_first_step(name: str, tmp_path: Path) -> None:
    """Oracle: the mistake as it was made; the line names its values, its files and what to do.

    A class that no training image shows, the twelfth mistake, may be meant so: see the next test.
    """
    mistake = MISTAKES[name]
    root = write(tmp_path)
    mistake.make(root)
    with pytest.raises(DataError) as caught:
        quick_check(*(open_split(root, split, mistake.names) for split in NUM_IMAGES), images=9)
    message = str(caught.value)
    assert "\n" not in message
    for word in mistake.words:
        assert word in message


def test_a_class_without_a_pixel_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Oracle: the class that was left out, which an incomplete look does not accuse."""
    root = write(tmp_path, labels=(0, 1, 2))
    sets = [open_split(root, split) for split in NUM_IMAGES]
    with caplog.at_level(logging.WARNING, "ccnet"):
        [finding] = quick_check(*sets)
    assert (finding.kind, finding.severity) == (Kind.ABSENT_CLASS, Severity.WARNING)
    assert finding.values == "d in 6 of 6 images"
    assert finding.message() in caplog.text
    assert quick_check(*sets, images=4) == []


@pytest.mark.parametrize("name", [name for name, mistake in MISTAKES.items() if mistake.kind not in
                                  (Kind.FILES, Kind.LEAK, Kind.IGNORED, Kind.BINARY)])  # fmt: skip
def test_one_bad_file_among_good_ones_is_found(name: str, tmp_path: Path) -> None:
    """Oracle: a clean data set, into which one file of a spoiled one is put."""
    mistake = MISTAKES[name]
    clean, spoiled = write(tmp_path / "clean"), write(tmp_path / "spoiled")
    mistake.make(spoiled)
    for kind in ("images", "masks"):
        (clean / kind / "train" / "train_3.png").unlink()
        [path] = (spoiled / kind / "train").glob("train_3.*")
        (clean / kind / "train" / path.name).write_bytes(path.read_bytes())
    [finding] = examined(open_split(clean, "train", mistake.names))
    assert (finding.kind, finding.severity, finding.count) == (mistake.kind, Severity.ERROR, 1)
    assert [Path(file).stem for file in finding.files] == ["train_3"]


def test_every_mistake_is_told_at_once(tmp_path: Path) -> None:
    """Oracle: three files spoiled in three ways."""
    root = write(tmp_path)
    each_mask(root, lambda mask: mask[:40], "train/train_1.png")
    each_mask(root, lambda mask: palette_image(mask).convert("RGB"), "train/train_2.png")
    (root / "images" / "train" / "train_4.png").write_bytes(b"nonsense")
    findings = {finding.kind: finding for finding in examined(open_split(root, "train"))}
    assert set(findings) == {Kind.SIZE, Kind.COLORS, Kind.UNREADABLE}
    assert "train_4.png is not an image" in findings[Kind.UNREADABLE].message()


def test_unreadable_files_that_training_skips_are_no_mistake_of_training(tmp_path: Path) -> None:
    """Oracle: the same damage in train is skipped, in val it is not."""
    root = write(tmp_path)
    (root / "images" / "train" / "train_4.png").write_bytes(b"nonsense")
    sets = [open_split(root, split) for split in NUM_IMAGES]
    with pytest.raises(DataError, match=r"train_4\.png"):
        quick_check(*sets)
    assert quick_check(*sets, skip_unreadable=True) == []
    (root / "images" / "val" / "val_0.png").write_bytes(b"other nonsense")
    with pytest.raises(DataError, match=r"val: samples cannot be read .*val_0\.png is not an image"):
        quick_check(*sets, skip_unreadable=True)


@pytest.mark.parametrize("name", ["0 and 255", "all ignored"])
def test_what_a_few_masks_hint_at_counts_when_all_agree(name: str, tmp_path: Path) -> None:
    """Oracle: the number of readable masks, of which two were looked at first."""
    root = write(tmp_path)
    MISTAKES[name].make(root)
    sets = [open_split(root, split) for split in NUM_IMAGES]
    with pytest.raises(DataError, match=r"train: masks .* \(6 of 6\)"):
        quick_check(*sets, images=2)
    looked_at = chosen(6, 2, 0)
    spoiled = next(index for index in range(6) if index not in looked_at)
    (root / "masks" / "train" / f"train_{spoiled}.png").write_bytes(b"nonsense")
    with pytest.raises(DataError, match=r"train: masks .* \(5 of 5\)"):
        quick_check(*sets, images=2, skip_unreadable=True)


def test_masks_are_read_to_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the number of masks read beside the two looked at."""
    root = write(tmp_path)
    MISTAKES["0 and 255"].make(root)
    monkeypatch.setattr(confirmation, "MASKS", 3)
    with pytest.raises(DataError, match=r"train: masks .* \(5 of 5\)"):
        quick_check(*(open_split(root, split) for split in NUM_IMAGES), images=2)


def test_a_cityscapes_without_its_later_ids_in_sight_is_right(tmp_path: Path) -> None:
    """Oracle: labelIds 0..18 and an unlabelled 255 in all masks but one, which holds 23."""
    root = write_cityscapes(tmp_path, num_train=8)
    [*others, last] = sorted((root / "gtFine" / "train").glob("*/*_labelIds.png"))
    for path in [*others, *(root / "gtFine" / "val").glob("*/*_labelIds.png")]:
        ids = np.where(np.asarray(Image.open(path)) > 18, 255, np.asarray(Image.open(path))).astype(np.uint8)
        Image.fromarray(ids).save(path)
    Image.fromarray(np.full((48, 64), 23, np.uint8)).save(last)
    sets = [Cityscapes(str(root), split) for split in NUM_IMAGES]
    for seed in range(4):
        found = [finding for finding in quick_check(*sets, seed=seed, images=2) if finding.kind is Kind.TRAIN_IDS]
        assert [(finding.split, finding.severity) for finding in found] in ([], [("val", Severity.WARNING)])


def damaged_headers(root: Path) -> tuple[Path, Path]:
    """An orientation that is text, and a TIFF whose pixels lie at a place that is a fraction."""
    image, mask = root / "images" / "train" / "train_1.png", root / "masks" / "train" / "train_2.tif"
    exif = b"Exif\0\0II*\0" + struct.pack("<IHHHI4sI", 8, 1, ORIENTATION, 2, 2, b"6\0\0\0", 0)
    Image.open(image).save(image, exif=exif)
    Image.open(mask.with_suffix(".png")).save(mask)
    mask.with_suffix(".png").unlink()
    data, offsets = bytearray(mask.read_bytes()), struct.pack("<HH", 273, 4)
    data[data.index(offsets) + 2] = 12
    mask.write_bytes(data)
    return image, mask


def test_damaged_headers_are_findings(tmp_path: Path) -> None:
    """Oracle: Pillow's TypeError on the TIFF, which the data set tells too; an orientation of text turns nothing."""
    image, mask = damaged_headers(write(tmp_path))
    with pytest.raises(TypeError), Image.open(mask) as picture:
        picture.load()
    with Image.open(image) as picture:
        assert picture.getexif()[ORIENTATION] == "6"
    [finding] = examined(open_split(tmp_path, "train"))
    assert (finding.kind, finding.count) == (Kind.UNREADABLE, 1)
    assert mask.name in finding.message()


@pytest.mark.parametrize("method", ["open", "stat"])
def test_files_without_permission_stop_no_comparison(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: the leak among the other files, and nothing else."""
    root = write(tmp_path)
    MISTAKES["the same image in both splits"].make(root)
    first, second = (open_split(root, split).pairs for split in NUM_IMAGES)
    closed, original = [first[0].image, second[2].image], getattr(Path, method)
    closed[1].write_bytes(closed[0].read_bytes())

    def refuse(path: Path, *args: object, **options: object) -> object:
        if path in closed:
            raise PermissionError(13, "Permission denied", str(path))
        return original(path, *args, **options)

    monkeypatch.setattr(Path, method, refuse)
    [finding] = check_between(("train", "val"), first, second)
    assert (finding.kind, finding.count) == (Kind.LEAK, 1)
    assert "val_1.png" in finding.files[0]


def test_grey_levels_that_happen_to_be_classes_are_found(tmp_path: Path) -> None:
    """Oracle: 250 classes in 25 shades of grey, so that every grey level is a valid label, and one in ten labels is a
    grey level by chance."""
    names, shades = tuple(f"class {index}" for index in range(250)), [(10 * (index % 25),) * 3 for index in range(250)]
    root = write(tmp_path)
    each_mask(root, lambda mask: np.where(mask == 255, 255, 21 + mask).astype(np.uint8))
    assert examined(Folder(str(root), "train", names, shades)) == []
    each_mask(root, lambda mask: np.where(mask == 255, 255, 10 * (mask - 20)).astype(np.uint8))
    [finding] = examined(Folder(str(root), "train", names, shades))
    assert (finding.kind, finding.values) == (Kind.GREY_PALETTE, "labels 10, 20, 30, 40, 255")


def test_train_ids_in_files_of_label_ids_are_found(tmp_path: Path) -> None:
    """Oracle: labelIds are never 255, and in a city they go beyond 18."""
    root = write_cityscapes(tmp_path)
    for path in (root / "gtFine").glob("*/*/*_labelIds.png"):
        train_ids = np.where(np.asarray(Image.open(path)) == 7, 0, 255).astype(np.uint8)
        Image.fromarray(train_ids).save(path)
    with pytest.raises(DataError, match="hold train ids already"):
        quick_check(Cityscapes(str(root), "train"), Cityscapes(str(root), "val"))


def test_a_cache_does_not_hide_what_it_was_made_of(tmp_path: Path) -> None:
    """Oracle: masks of 0 and 255, which the cache holds as they were read."""
    root = write(tmp_path / "data")
    each_mask(root, lambda mask: (mask > 1).astype(np.uint8) * 255)
    train_set = open_split(root, "train")
    write_cache(train_set, tmp_path / "cache")
    with pytest.raises(DataError, match="train: masks hold 0 and 255 only"):
        quick_check(CachedImages(train_set, tmp_path / "cache"), open_split(root, "val"))


def test_a_few_ignored_masks_are_a_warning(tmp_path: Path) -> None:
    """Oracle: one of six."""
    root = write(tmp_path)
    each_mask(root, lambda mask: np.full_like(mask, 255), "train/train_1.png")
    [finding] = quick_check(open_split(root, "train"), open_split(root, "val"))
    assert (finding.kind, finding.severity, finding.count) == (Kind.IGNORED, Severity.WARNING, 1)


def test_common_files_and_names_are_warnings(tmp_path: Path) -> None:
    """Oracle: a split against itself; two splits that number their files from 0."""
    root = write(tmp_path)
    pairs = open_split(root, "val").pairs
    [same] = check_between(("val", "val"), pairs, pairs)
    assert (same.kind, same.severity, same.count) == (Kind.SHARED_FILES, Severity.WARNING, 3)
    for kind in ("images", "masks"):
        (root / kind / "val" / "val_0.png").rename(root / kind / "val" / "train_0.png")
    sets = [open_split(root, split) for split in NUM_IMAGES]
    [namesake] = check_between(("train", "val"), *(dataset.pairs for dataset in sets))
    assert (namesake.kind, namesake.severity) == (Kind.SHARED_NAMES, Severity.WARNING)
    assert namesake.files == (str(root / "images" / "val" / "train_0.png"),)
    assert quick_check(*sets) == []


def test_unknown_labels_of_data_without_files_are_found() -> None:
    """Oracle: a data set in memory that draws a third class of two."""

    class Three(ContextProbe):
        def __getitem__(self, index: int) -> Sample:
            sample = super().__getitem__(index)
            sample["mask"][:2] = 2
            return sample

    with pytest.raises(DataError, match=r"labels 2 in sample \d+"):
        quick_check(Three("train"), Three("val"))
