"""VOC and SBD out of their archives into the split trainaug; tiny archives take the place of the real ones."""

import hashlib
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torchvision.datasets.utils
import torchvision.datasets.voc
from PIL import Image
from scipy.io import savemat
from torchvision.datasets import SBDataset

from ccnet.data.voc import VOC, voc_color
from ccnet.errors import DataError
from ccnet.preparation import voc as voc_preparation
from ccnet.preparation.voc import prepare

LISTS = {"train": ["2007_01", "2007_02"], "val": ["2007_03"]}
SBD_LISTS = {"train": ["2007_02", "2008_04"], "val": ["2007_03", "2008_05"]}  # SBD's parts overlap with VOC's val
SIZE = (12, 16)
MASKS = {name: np.random.default_rng(index).integers(0, 21, SIZE, dtype=np.uint8)
         for index, name in enumerate(["2007_01", "2007_02", "2007_03", "2008_04", "2008_05"])}  # fmt: skip


def write_voc(root: Path) -> Path:
    """VOC as unpacked; its own masks are marked by an ignored corner."""
    folder = root / "VOCdevkit" / "VOC2012"
    for sub in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (folder / sub).mkdir(parents=True)
    for name in MASKS:
        Image.new("RGB", SIZE[::-1]).save(folder / "JPEGImages" / f"{name}.jpg")
    for split, names in LISTS.items():
        (folder / "ImageSets/Segmentation" / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
        for name in names:
            mask = MASKS[name].copy()
            mask[0, 0] = 255
            Image.fromarray(mask).save(folder / "SegmentationClass" / f"{name}.png")
    return folder


def write_sbd(root: Path) -> Path:
    """SBD as unpacked: MATLAB structs, one of an image that VOC labels itself."""
    folder = root / "benchmark_RELEASE" / "dataset"
    (folder / "cls").mkdir(parents=True)
    for split, names in SBD_LISTS.items():
        (folder / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
        for name in names:
            struct = np.zeros(1, dtype=[("Boundaries", object), ("Segmentation", object)])
            struct[0] = (0, MASKS[name])
            savemat(folder / "cls" / f"{name}.mat", {"GTcls": struct})
    return folder


def check_trainaug(folder: Path) -> None:
    dataset = VOC(str(folder), "trainaug")
    assert [pair.name for pair in dataset.pairs] == ["2007_01", "2007_02", "2008_04", "2008_05"]
    for index, pair in enumerate(dataset.pairs):
        own = pair.name.startswith("2007")
        mask = dataset[index]["mask"]
        assert (mask[0, 0] == 255) == own
        assert np.array_equal(mask.ravel()[1:], MASKS[pair.name].ravel()[1:])


def test_trainaug_is_both_trains_and_sbds_val_less_vocs_val(tmp_path: Path) -> None:
    """Oracle: the sets, written out; VOC's own masks win, which know the ignored border."""
    folder = write_voc(tmp_path)
    write_sbd(tmp_path)
    prepare(folder)
    check_trainaug(folder)
    assert not (folder / "SegmentationClassAug/2007_03.png").exists()
    converted = Image.open(folder / "SegmentationClassAug/2008_04.png")
    assert converted.getpalette()[3 * 20 : 3 * 21] == list(voc_color(20))
    before = (folder / "ImageSets/Segmentation/trainaug.txt").stat().st_mtime_ns
    prepare(folder)
    assert (folder / "ImageSets/Segmentation/trainaug.txt").stat().st_mtime_ns == before


def test_converted_masks_that_lie_there_are_kept(tmp_path: Path) -> None:
    """The archive of PNGs that many have holds val's masks, too. Oracle: the list without them."""
    folder = write_voc(tmp_path)
    (folder / "SegmentationClassAug").mkdir()
    for name in ("2007_03", "2008_05", "2008_04"):
        Image.fromarray(MASKS[name]).save(folder / "SegmentationClassAug" / f"{name}.png")
    prepare(folder)
    assert (folder / "ImageSets/Segmentation/trainaug.txt").read_text() == "2008_04\n2008_05\n"


def test_an_incomplete_folder_of_masks_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the published val of 1449 images there are 10 582. Oracle: the message; no list is written."""
    folder = write_voc(tmp_path)
    monkeypatch.setattr(voc_preparation, "NUM_VAL", 1)
    (folder / "SegmentationClassAug").mkdir()
    Image.fromarray(MASKS["2008_04"]).save(folder / "SegmentationClassAug" / "2008_04.png")
    with pytest.raises(DataError, match="holds 1 masks outside VOC's val, not 10582; it is incomplete"):
        prepare(folder)
    assert not (folder / "ImageSets/Segmentation/trainaug.txt").exists()


def test_nothing_happens_without_data_and_download(tmp_path: Path) -> None:
    """The data set itself says what is missing. Oracle: an empty folder."""
    prepare(tmp_path / "VOCdevkit" / "VOC2012")
    prepare("/")
    assert not list(tmp_path.iterdir())


def test_a_killed_conversion_leaves_nothing(tmp_path: Path) -> None:
    """A damaged file of SBD. Oracle: it is named, and a later try does not take a part for the whole."""
    folder = write_voc(tmp_path)
    damaged = write_sbd(tmp_path) / "cls" / "2008_05.mat"
    damaged.write_bytes(damaged.read_bytes()[:150])
    with pytest.raises(DataError, match=r"2008_05.mat cannot be read as a mask of SBD"):
        prepare(folder)
    assert not list(folder.glob("SegmentationClassAug*"))


def packed(source: Path, archive: Path) -> str:
    """Its MD5."""
    with tarfile.open(archive, "w:gz" if archive.suffix == ".tgz" else "w") as tar:
        tar.add(source, source.name)
    return hashlib.md5(archive.read_bytes()).hexdigest()


def test_download_through_torchvision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Archives that lie there as if fetched, of which torchvision checks the MD5. Oracle: the split, made again after
    each of two interruptions."""
    write_voc(tmp_path / "made")
    write_sbd(tmp_path / "made")
    base = tmp_path / "data"
    base.mkdir()
    voc_md5 = packed(tmp_path / "made/VOCdevkit", base / "VOCtrainval_11-May-2012.tar")
    monkeypatch.setitem(torchvision.datasets.voc.DATASET_YEAR_DICT["2012"], "md5", voc_md5)
    monkeypatch.setattr(SBDataset, "md5", packed(tmp_path / "made/benchmark_RELEASE", base / "benchmark.tgz"))
    folder = base / "VOCdevkit" / "VOC2012"
    prepare(folder, download=True)
    check_trainaug(folder)
    for lost in (folder / "SegmentationClass/2007_02.png", base / "benchmark_RELEASE/dataset/cls/2008_04.mat"):
        lost.unlink()
        (folder / "ImageSets/Segmentation/trainaug.txt").unlink()
        for path in (folder / "SegmentationClassAug").iterdir():
            path.unlink()
        (folder / "SegmentationClassAug").rmdir()
        prepare(folder, download=True)
        check_trainaug(folder)


def test_a_download_that_fails_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the message, written out; the folder's name is held against the archive's first."""

    def unreachable(*_: object, **__: object) -> None:
        raise OSError("no route")

    monkeypatch.setattr(torchvision.datasets.voc, "download_and_extract_archive", unreachable)
    with pytest.raises(DataError, match=r"the download of VOC into .* failed \(no route\); run it again"):
        prepare(tmp_path / "VOCdevkit" / "VOC2012", download=True)
    with pytest.raises(DataError, match=r"let dataset\.root end in that"):
        prepare(tmp_path / "voc", download=True)


@pytest.mark.parametrize("part", ["train", "val"])
def test_no_mask_is_written_outside(tmp_path: Path, part: str) -> None:
    """A list of SBD that names a path, and a file there. Oracle: the message; no new file anywhere."""
    folder = write_voc(tmp_path / "a/b")
    sbd = write_sbd(tmp_path / "a/b")
    (sbd / f"{part}.txt").write_text("2008_04\n../../../escaped\n")
    (sbd.parents[1] / "escaped.mat").write_bytes((sbd / "cls/2008_04.mat").read_bytes())
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DataError, match=rf"{part}.txt names ../../../escaped; expected a file's name"):
        prepare(folder)
    assert sorted(tmp_path.rglob("*")) == before
