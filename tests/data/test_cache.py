"""The cache of decoded images: the same samples, never those of files that have changed, whole under all accidents."""

import logging
import mmap
import os
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ccnet.data.augmentation import ScaleCropFlip
from ccnet.data.bad_samples import first_readable
from ccnet.data.cache import CachedImages
from ccnet.data.mask_colors import ColorMasks
from ccnet.data.sample import FilePair, Sample, SegmentationDataset, sample_files
from ccnet.errors import DataError
from ccnet.preparation import cache_writer
from ccnet.preparation.cache_writer import write_cache

NAMES = ["road", "car", "tree"]
SIZES = [(24, 31), (1, 1), (40, 17), (33, 64)]


def save_mask(path: Path, mask: Any) -> None:
    """Without compression, so that masks of one size have files of one size."""
    Image.fromarray(mask).save(path, compress_level=0)


def make(root: Path, table: Sequence[int] = (0, 1, 2, 255), class_names: Sequence[str] = NAMES) -> SegmentationDataset:
    """Four images of different sizes with masks of labels 0..3, written where they are not there yet."""
    rng, pairs = np.random.default_rng(5), []
    root.mkdir(exist_ok=True)
    for index, size in enumerate(SIZES):
        pair = FilePair(f"city/{index}", root / f"{index}.png", root / f"{index}_mask.png")
        if not pair.image.exists():
            Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(pair.image)
            save_mask(root / f"{index}_mask.png", rng.integers(0, 4, size, dtype=np.uint8))
        pairs.append(pair)
    palette = [(index, 0, 0) for index in range(len(class_names))]
    return SegmentationDataset(pairs, class_names, palette, np.array(table, np.uint8))


@pytest.fixture
def dataset(tmp_path: Path) -> SegmentationDataset:
    return make(tmp_path / "images")


def owner(array: Any) -> Any:
    """What holds an array's memory."""
    return array if getattr(array, "base", None) is None else owner(array.base)


def files(folder: Path) -> dict[str, int]:
    """What lies in the cache beside its lock, and when it was written."""
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir() if path.name != "lock"}


def assert_equal(found: Sample, expected: Sample) -> None:
    """The same image, mask and name."""
    assert np.array_equal(found["image"], expected["image"])
    assert np.array_equal(found["mask"], expected["mask"])
    assert found["image"].dtype == found["mask"].dtype == np.uint8
    assert found["name"] == expected["name"]


def test_samples_are_those_of_the_data_set(dataset: SegmentationDataset, tmp_path: Path) -> None:
    """Oracle: the data set; the same crops come out of the maps, which cannot be written to."""
    folder = tmp_path / "deep" / "cache"
    assert write_cache(dataset, folder) == len(dataset)
    cached, augmentation = CachedImages(dataset, folder), ScaleCropFlip((16, 16), cat_max_ratio=0.75, balanced=0.5)
    assert len(cached) == len(dataset)
    assert (cached.class_names, cached.palette, cached.num_classes, cached.region_names) == (
        dataset.class_names,
        dataset.palette,
        dataset.num_classes,
        (),
    )
    for index in range(len(dataset)):
        assert_equal(cached[index], dataset[index])
        seed = np.random.SeedSequence(index)
        assert_equal(augmentation(cached[index], seed), augmentation(dataset[index], seed))
        assert not cached[index]["image"].flags.writeable
        for array in (cached[index]["image"], cached[index]["mask"]):
            assert isinstance(owner(array), mmap.mmap)


def test_what_is_there_is_not_written_again(dataset: SegmentationDataset, tmp_path: Path) -> None:
    """Oracle: the times of change."""
    write_cache(dataset, tmp_path / "cache")
    before = files(tmp_path / "cache")
    assert write_cache(dataset, tmp_path / "cache") == 0
    assert files(tmp_path / "cache") == before


def test_a_changed_file_is_an_error_until_it_is_cached_again(dataset: SegmentationDataset, tmp_path: Path) -> None:
    """Oracle: the new mask, of the same size in bytes; the entry that it replaces is gone."""
    folder, mask = tmp_path / "cache", dataset.pairs[2].mask
    assert mask is not None
    write_cache(dataset, folder)
    times = mask.stat()
    save_mask(mask, 3 - np.asarray(Image.open(mask)))
    os.utime(mask, ns=(times.st_atime_ns, times.st_mtime_ns + 1000))
    assert mask.stat().st_size == times.st_size
    with pytest.raises(DataError, match=r"lacks 1 of 4 images.* first .*2\.png; python tools/prepare_data.py cache"):
        CachedImages(dataset, folder)
    assert write_cache(dataset, folder) == 1
    assert_equal(CachedImages(dataset, folder)[2], dataset[2])
    assert len(files(folder)) == len(dataset)


def test_other_meanings_of_the_labels_have_entries_of_their_own(dataset: SegmentationDataset, tmp_path: Path) -> None:
    """Oracle: the data set's own samples, for another table, other names, and masks of colours."""
    folder, images = tmp_path / "cache", tmp_path / "images"
    write_cache(dataset, folder)
    others = [make(images, (2, 1, 0, 255)), make(images, class_names=["road", "tree", "car"])]
    colored = make(images)
    colored.read_labels = ColorMasks(((0, 0, 0), (1, 1, 1)))
    with pytest.raises(DataError, match="lacks 4 of 4 images"):
        CachedImages(colored, folder)
    for other in others:
        with pytest.raises(DataError, match="lacks 4 of 4 images"):
            CachedImages(other, folder)
        write_cache(other, folder)
    for each in (dataset, *others):
        assert_equal(CachedImages(each, folder)[3], each[3])


def test_other_masks_of_the_same_images_have_entries_of_their_own(dataset: SegmentationDataset, tmp_path: Path) -> None:
    """Oracle: both data sets' own samples, after each was cached twice in turn, the second time without a write."""
    folder, pairs = tmp_path / "cache", []
    for index, pair in enumerate(dataset.pairs):
        coarse = tmp_path / f"{index}_coarse.png"
        save_mask(coarse, np.full(dataset[index]["mask"].shape, 1, np.uint8))
        pairs.append(FilePair(pair.name, pair.image, coarse))
    other = SegmentationDataset(pairs, dataset.class_names, dataset.palette, dataset.label_table)
    for written in (4, 0):
        for each in (dataset, other):
            assert write_cache(each, folder) == written
    for each in (dataset, other):
        cached = CachedImages(each, folder)
        for index in range(len(each)):
            assert_equal(cached[index], each[index])


def test_samples_that_cannot_be_read_are_left_out_where_training_skips_them(
    dataset: SegmentationDataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Oracle: the error of the data set itself, when such a sample is asked for; once the file is whole, its sample."""
    folder, image = tmp_path / "cache", dataset.pairs[1].image
    whole = image.read_bytes()
    image.write_bytes(whole[:60])
    with pytest.raises(DataError) as error:
        dataset[1]
    with pytest.raises(DataError, match=r"1\.png"):
        write_cache(dataset, folder)
    with caplog.at_level(logging.WARNING, "ccnet"):
        assert write_cache(dataset, folder, "skip") == 2
        assert write_cache(dataset, folder, "skip") == 0
    assert caplog.messages == [f"left out 1 of 4 training images: {error.value}"] * 2
    cached = CachedImages(dataset, folder)
    for ask in (cached.__getitem__, cached.labels):
        with pytest.raises(DataError) as same:
            ask(1)
        assert str(same.value) == str(error.value)
    skipped: dict[int, str] = {}
    assert first_readable(cached, [1, 2], skipped)["name"] == "city/2"
    assert skipped == {1: str(error.value)}
    image.write_bytes(whole)
    assert write_cache(dataset, folder, "skip") == 1
    assert_equal(CachedImages(dataset, folder)[1], dataset[1])
    assert [name for name in files(folder) if not name.endswith(".npy")] == []


def test_too_many_bad_samples_end_the_writing(dataset: SegmentationDataset, tmp_path: Path) -> None:
    """Oracle: the rule of one in a thousand, and one in any case."""
    for pair in dataset.pairs[:2]:
        pair.image.write_bytes(b"nonsense")
    with pytest.raises(DataError, match="2 of 4 training images cannot be read"):
        write_cache(dataset, tmp_path / "cache", "skip")


def test_labels_and_files_are_those_of_the_data_set(dataset: SegmentationDataset, tmp_path: Path) -> None:
    """Oracle: the data set, the names that messages have for it."""
    write_cache(dataset, tmp_path / "cache")
    cached = CachedImages(dataset, tmp_path / "cache")
    for index in range(len(dataset)):
        assert np.array_equal(cached.labels(index), dataset.labels(index))
        assert sample_files(cached, index) == str(dataset.pairs[index].image)


def test_a_stale_entry_that_cannot_be_removed_stays_until_it_can(
    dataset: SegmentationDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: the files; Windows refuses to remove what a run has mapped."""
    folder, image = tmp_path / "cache", dataset.pairs[1].image
    write_cache(dataset, folder)
    os.utime(image, ns=(0, 0))

    def refuse(_path: Path) -> None:
        raise PermissionError(13, "The process cannot access the file because it is being used by another process")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refuse)
        assert write_cache(dataset, folder) == 1
    assert_equal(CachedImages(dataset, folder)[1], dataset[1])
    assert len(files(folder)) == 5
    assert write_cache(dataset, folder) == 0
    assert len(files(folder)) == 4


def spoil(entry: Path, how: str) -> None:
    """Puts something else in the place of an entry."""
    if how == "objects":
        np.save(entry, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    elif how == "floats":
        np.save(entry, np.zeros((8, 4)))
    elif how == "rows":
        np.save(entry, np.zeros((7, 4), np.uint8))
    else:
        entry.write_bytes(entry.read_bytes()[: int(how)])


@pytest.mark.parametrize("how", ["0", "5", "100", "128", "-1", "objects", "floats", "rows"])
def test_a_damaged_entry_is_named_and_replaced(dataset: SegmentationDataset, tmp_path: Path, how: str) -> None:
    """Oracle: the entry's name in the message; the data set's sample after the cache was written again."""
    folder = tmp_path / "cache"
    write_cache(dataset, folder)
    cached = CachedImages(dataset, folder)
    spoil(cached.entries[0], how)
    with pytest.raises(DataError, match=rf"{cached.entries[0].name} .*prepare_data.py cache.* replaces it"):
        cached[0]
    assert write_cache(dataset, folder) == 1
    assert_equal(cached[0], dataset[0])


def test_a_killed_writer_is_continued(
    dataset: SegmentationDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: the entries before the kill stay, its leftover goes; dying at each flush in turn."""
    for survivors in range(len(dataset)):
        folder, flushes = tmp_path / f"cache{survivors}", iter(range(survivors))

        def flush(_: int, flushes: Any = flushes) -> None:
            if next(flushes, None) is None:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(cache_writer.os, "fsync", flush)
            with pytest.raises(KeyboardInterrupt):
                write_cache(dataset, folder)
        assert sum(name.endswith(".npy") for name in files(folder)) == survivors
        assert len(files(folder)) == survivors + 1
        (folder / "of-an-image-that-is-gone.npy.aside").touch()
        assert write_cache(dataset, folder) == len(dataset) - survivors
        assert len(files(folder)) == len(dataset)


def test_bytes_are_on_the_disk_before_an_entry_has_its_name(
    dataset: SegmentationDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: the order of the calls."""
    calls: list[str] = []
    replace = Path.replace
    monkeypatch.setattr(cache_writer.os, "fsync", lambda _: calls.append("flush"))
    monkeypatch.setattr(Path, "replace", lambda path, target: calls.append("rename") or replace(path, target))
    write_cache(dataset, tmp_path / "cache")
    assert calls == ["flush", "rename"] * len(dataset)


def test_too_little_room_is_seen_before_anything_is_written(
    dataset: SegmentationDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: the sum of what the entries take, which is just enough."""
    write_cache(dataset, tmp_path / "all")
    needed = sum(path.stat().st_size for path in (tmp_path / "all").glob("*.npy"))
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(cache_writer.shutil, "disk_usage", lambda _: usage._replace(free=needed - 1))
    with pytest.raises(DataError, match=f"4 decoded images need {needed} bytes in .*, where {needed - 1} are free"):
        write_cache(dataset, tmp_path / "cache")
    assert not files(tmp_path / "cache")
    monkeypatch.setattr(cache_writer.shutil, "disk_usage", lambda _: usage._replace(free=needed))
    assert write_cache(dataset, tmp_path / "cache") == len(dataset)


def test_a_disk_that_refuses(dataset: SegmentationDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: one line with the bytes needed, and nothing left behind; a file in the folder's place likewise."""

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache_writer.np, "save", full)
    with pytest.raises(DataError, match=r"could not be written .*No space left.* it needs \d+ bytes"):
        write_cache(dataset, tmp_path / "cache")
    assert not files(tmp_path / "cache")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"file cannot be written to .* cache=FOLDER"):
        write_cache(dataset, tmp_path / "file")


def test_two_writers_share_the_work(
    dataset: SegmentationDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Oracle: every sample is read once; the second writer waits, says so, and finds nothing to do."""
    reads, begun, read = [], threading.Event(), SegmentationDataset.__getitem__

    def slowly(self: SegmentationDataset, index: int) -> Sample:
        begun.set()
        reads.append(index)
        second.join(timeout=0.3 if index == 0 else 0)
        return read(self, index)

    monkeypatch.setattr(SegmentationDataset, "__getitem__", slowly)
    written: list[int] = []
    second = threading.Thread(target=lambda: begun.wait() and written.append(write_cache(dataset, tmp_path / "cache")))
    second.start()
    with caplog.at_level("INFO", logger="ccnet"):
        written.append(write_cache(dataset, tmp_path / "cache"))
        second.join()
    assert sorted(written) == [0, 4]
    assert sorted(reads) == [0, 1, 2, 3]
    assert "another process is filling" in caplog.text


@pytest.mark.parametrize("part", ["image", "mask"])
def test_a_source_that_cannot_be_read_is_named(dataset: SegmentationDataset, tmp_path: Path, part: str) -> None:
    """Oracle: the file's name; both a header and a body that are damaged."""
    path: Path = getattr(dataset.pairs[1], part)
    data = path.read_bytes()
    for length in (10, len(data) // 2):
        path.write_bytes(data[:length])
        with pytest.raises(DataError, match=path.name):
            write_cache(dataset, tmp_path / "cache")
    path.unlink()
    with pytest.raises(DataError, match=f"{path.name}: No such file"):
        CachedImages(dataset, tmp_path / "cache")


def test_only_labelled_files_are_cached(dataset: SegmentationDataset, tmp_path: Path) -> None:
    """Oracle: the message, for a data set without files and one without masks."""
    unlabelled = SegmentationDataset([FilePair("a", dataset.pairs[0].image, None)], NAMES, dataset.palette)
    for other in (unlabelled, object()):
        with pytest.raises(DataError, match="is not made of image and mask files to cache; set cache=null"):
            write_cache(other, tmp_path / "cache")  # type: ignore[arg-type]
