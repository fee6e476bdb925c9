"""The doctor on data sets that are right: it must say nothing."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ccnet.config import compose_config
from ccnet.data.cityscapes import Cityscapes
from ccnet.data.context_probe import ContextProbe
from ccnet.data.doctor.examination import examine
from ccnet.data.doctor.findings import Finding, Kind, Severity
from ccnet.data.doctor.quick import quick_check
from ccnet.data.doctor.split import absent_classes, check_split
from ccnet.data.folder import Folder
from ccnet.data.sample import FilePair, LabelledImages, SegmentationDataset
from ccnet.data.streets import generate
from ccnet.data.voc import VOC
from tests.conftest import write_cityscapes
from tests.data.wrong_labels import NUM_IMAGES, ORIENTATION, PALETTE, each_mask, open_split, palette_image, write


def examined(dataset: LabelledImages) -> list[Finding]:
    examinations = [examine(dataset, index) for index in range(min(len(dataset), 20))]
    return [*check_split("train", dataset, examinations), *absent_classes("train", dataset, examinations)]


@pytest.mark.parametrize("orientation", [2, 3, 6, 8])
def test_masks_of_images_as_they_are_seen_are_right(orientation: int, tmp_path: Path) -> None:
    """Oracle: images stored turned, with the orientation that undoes it, and masks drawn on what one sees."""
    root = write(tmp_path)
    undo = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 6: "ROTATE_90", 8: "ROTATE_270"}[orientation]
    for path in (root / "images").glob("*/*.png"):
        picture = Image.open(path).transpose(Image.Transpose[undo])
        picture.getexif()[ORIENTATION] = orientation
        picture.save(path, exif=picture.getexif())
    assert examined(open_split(root, "train")) == []


def write_voc(root: Path) -> Path:
    """Palette masks with the border that VOC leaves out."""
    write(root)
    for kind, folder, suffix in (("images", "JPEGImages", "jpg"), ("masks", "SegmentationClass", "png")):
        (root / folder).mkdir()
        for path in (root / kind).glob("*/*.png"):
            picture = Image.open(path) if kind == "images" else palette_image(np.asarray(Image.open(path)))
            picture.save(root / folder / f"{path.stem}.{suffix}")
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    for split, count in NUM_IMAGES.items():
        (lists / f"{split}.txt").write_text("\n".join(f"{split}_{index}" for index in range(count)))
    return root


def write_defects(root: Path, seed: int, background: int = 0, num_val: int = 4) -> Path:
    """A rare class: in one of twenty images a small defect; else background within an ignored border."""
    rng = np.random.default_rng(seed)
    for split, count in (("train", 60), ("val", num_val)):
        defects = set(rng.permutation(count)[: max(1, count // 20)].tolist())
        for index in range(count):
            mask = np.full((12, 16), 255, np.uint8)
            mask[1:-1, 1:-1] = background
            if index in defects:
                mask[4:6, 5:9] = 1
            for kind, pixels in (("images", rng.integers(0, 256, (12, 16, 3))), ("masks", mask)):
                (root / kind / split).mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels.astype(np.uint8)).save(root / kind / split / f"{split}_{index:02}.png")
    return root


@pytest.mark.parametrize("background", [0, 255], ids=["labelled", "ignored"])
def test_rare_classes_stop_no_run(background: int, tmp_path: Path) -> None:
    """Oracle: right data; of most choices of six images, none has the defect."""
    root = write_defects(tmp_path, 3, background)
    sets = [open_split(root, split, ("back", "defect")) for split in NUM_IMAGES]
    found = [finding for seed in range(12) for finding in quick_check(*sets, seed=seed)]
    assert {finding.kind for finding in found} <= ({Kind.IGNORED} if background else set())
    assert bool(found) == bool(background)


def test_a_rare_class_that_no_validation_image_has_is_a_warning(tmp_path: Path) -> None:
    """Oracle: right training masks, which say what 255 means in the others."""
    root = write_defects(tmp_path, 3)
    each_mask(root, lambda mask: np.where(mask == 1, 0, mask).astype(np.uint8), "val/*.png")
    [finding] = quick_check(*(open_split(root, split, ("back", "defect")) for split in NUM_IMAGES))
    assert (finding.kind, finding.split, finding.severity) == (Kind.BINARY, "val", Severity.WARNING)


def test_a_label_map_confirms_what_255_means(tmp_path: Path) -> None:
    """Oracle: masks of 0 and 255, of which the configuration says that it is meant so."""
    root = write(tmp_path)
    each_mask(root, lambda mask: (mask == 255).astype(np.uint8) * 255)
    names, mapping = (["back", "front"], PALETTE[:2]), {0: 0, 1: 1, 255: 255}
    sets = [Folder(str(root), split, *names, label_map=mapping) for split in NUM_IMAGES]
    assert {finding.kind for finding in quick_check(*sets)} == {Kind.ABSENT_CLASS}


def test_ids_that_would_wrap_to_their_own_classes_are_right(tmp_path: Path) -> None:
    """Oracle: 256 and 257, which the label map gives the classes 0 and 1."""
    root = write(tmp_path, labels=(0, 1))
    each_mask(root, lambda mask: np.where(mask == 255, 255, mask + np.uint16(256)).astype(np.uint16))
    sets = [Folder(str(root), split, "ab", PALETTE[:2], label_map={256: 0, 257: 1}) for split in NUM_IMAGES]
    assert quick_check(*sets) == []


def clean_sets(tmp_path: Path) -> dict[str, tuple[LabelledImages, LabelledImages]]:
    """Train and val of everything that is right."""
    generate(tmp_path / "streets", num_train=10, num_val=3, height=64, width=128)
    folder, voc, city = write(tmp_path / "folder"), write_voc(tmp_path / "voc"), write_cityscapes(tmp_path / "city")
    wide_ids = write(tmp_path / "wide")
    each_mask(wide_ids, lambda mask: mask.astype(np.uint16) + 299)
    mapping = {299: 0, 300: 1, 301: 2, 302: 3, 554: 255}
    zero_one = write(tmp_path / "binary", labels=(0, 1))
    each_mask(zero_one, lambda mask: (mask == 1).astype(np.uint8) * 255)
    two = (["back", "front"], [(0, 0, 0), (255, 255, 255)])
    splits = tuple(NUM_IMAGES)
    return {
        "folder": tuple(open_split(folder, split) for split in splits),
        "voc": tuple(VOC(str(voc), split) for split in splits),
        "cityscapes": tuple(Cityscapes(str(city), split) for split in splits),
        "streets": tuple(Cityscapes(str(tmp_path / "streets"), split) for split in splits),
        "mapped": tuple(Folder(str(wide_ids), split, "abcd", PALETTE, label_map=mapping) for split in splits),
        "binary": tuple(Folder(str(zero_one), split, *two, label_map={0: 0, 255: 1}) for split in splits),
        "context probe": (ContextProbe("train"), ContextProbe("val")),
    }  # type: ignore[return-value]


def test_right_labels_are_left_in_peace(tmp_path: Path) -> None:
    """Oracle: data sets without mistakes; the striped VOC and Cityscapes show a few classes only, which is said."""
    for name, sets in clean_sets(tmp_path).items():
        found = quick_check(*sets)
        assert {finding.kind for finding in found} <= {Kind.ABSENT_CLASS}, name
        assert bool(found) == (name in ("voc", "cityscapes")), name
        for dataset in sets:
            assert [f for f in examined(dataset) if f.kind is not Kind.ABSENT_CLASS] == [], name


def test_camvid_is_left_in_peace(camvid: Path) -> None:
    """Oracle: photographs and masks that have been trained on; every seed looks at others."""
    part = compose_config(["+experiment=camvid_mobilenetv3"]).dataset
    sets = [Folder(str(camvid), split, part["class_names"], part["palette"]) for split in NUM_IMAGES]
    for seed in range(3):
        assert quick_check(*sets, seed=seed) == []


def test_images_without_labels_are_left_in_peace(tmp_path: Path) -> None:
    """Oracle: a test split, of which every pixel is ignored and nothing is wrong."""
    pairs = [FilePair(pair.name, pair.image, None) for pair in open_split(write(tmp_path), "val").pairs]
    dataset = SegmentationDataset(pairs, "abcd", PALETTE)
    assert check_split("test", dataset, [examine(dataset, index) for index in range(len(dataset))]) == []
