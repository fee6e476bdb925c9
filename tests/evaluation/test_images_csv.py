"""The CSV of images: what goes in comes out, and what is damaged is refused."""

import csv
import math
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccnet.errors import DataError
from ccnet.evaluation import images_csv
from ccnet.evaluation.images_csv import read_images, write_images
from ccnet.evaluation.outcome import ImageScores

DIGEST = "0123456789abcdef" * 4
NAMES = ["road", 'say "sky", please', "a/b\\c", "=1+1", "hits/road", "été 木"]


def image(name: str, counts: list[list[int]], loss: float = 0.25) -> ImageScores:
    return ImageScores(name, np.array(counts, dtype=np.int64), loss, DIGEST)


def same(one: ImageScores, two: ImageScores) -> bool:
    loss = one.loss == two.loss or (math.isnan(one.loss) and math.isnan(two.loss))
    equal = np.array_equal(one.counts, two.counts) and one.counts.dtype == two.counts.dtype
    return bool((one.name, one.digest) == (two.name, two.digest) and equal and loss)


def written(path: Path) -> list[str]:
    """A file of two images and two classes, by lines without their ends."""
    images = [image("a.png", [[3, 0], [5, 1], [4, 2]]), image("b.png", [[0, 7], [0, 9], [1, 8]], math.nan)]
    write_images(path, images, ["road", "sky"])
    return path.read_text(encoding="utf-8").splitlines()


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[ImageScores], list[str]]:
    texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
    class_names = draw(st.lists(texts | st.sampled_from(NAMES), min_size=1, max_size=4, unique=True))
    pixels = st.integers(0, 10**9)
    images = []
    for name in draw(st.lists(texts, min_size=1, max_size=4, unique=True)):
        hits, more, wrong = (draw(st.lists(pixels, min_size=n, max_size=n)) for n in [len(class_names)] * 3)
        counts = [hits, *([h + x for h, x in zip(hits, extra, strict=True)] for extra in (more, wrong))]
        images.append(image(name, counts, draw(st.floats(0, 88) | st.just(math.nan) | st.just(-0.0))))
    return images, class_names


@settings(max_examples=60)
@given(table=tables())
def test_what_goes_in_comes_out(
    table: tuple[list[ImageScores], list[str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Oracle: what was written, to the bit, whatever the names are."""
    images, class_names = table
    path = tmp_path_factory.getbasetemp() / "images.csv"
    write_images(path, images, class_names)
    found, names = read_images(path)
    assert names == class_names
    assert all(same(*pair) for pair in zip(found, images, strict=True))


def test_a_person_reads_it(tmp_path: Path) -> None:
    """Oracle: the file written out; a value that is not there is an empty cell."""
    assert written(tmp_path / "images.csv") == [
        "name,mIoU,aAcc,loss,digest,hits/road,true/road,predicted/road,hits/sky,true/sky,predicted/sky",
        f"a.png,0.25,0.5,0.25,{DIGEST},3,5,4,0,1,2",
        f"b.png,0.35,0.7777777777777778,,{DIGEST},0,0,1,7,9,8",
    ]


def test_an_image_without_a_valid_pixel(tmp_path: Path) -> None:
    """Oracle: three empty cells, and the image as it was."""
    write_images(tmp_path / "images.csv", [image("a", [[0], [0], [0]], math.nan)], ["road"])
    assert (tmp_path / "images.csv").read_text().splitlines()[1] == f"a,,,,{DIGEST},0,0,0"
    assert same(read_images(tmp_path / "images.csv")[0][0], image("a", [[0], [0], [0]], math.nan))


def test_a_formula_is_data(tmp_path: Path) -> None:
    """Oracle: the standard library's reader: the name as it is, in its own cell."""
    write_images(tmp_path / "images.csv", [image('=cmd("x"),1', [[0], [0], [0]])], ["road"])
    with (tmp_path / "images.csv").open(newline="", encoding="utf-8") as file:
        assert [row["name"] for row in csv.DictReader(file)] == ['=cmd("x"),1']


ROW = f"a.png,0.25,0.5,0.25,{DIGEST},3,5,4,0,1,2"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("", "line 2: 0 columns, expected 11"),
        (ROW.rpartition(",")[0], "line 2: 10 columns, expected 11"),
        (f"{ROW},1", "line 2: 12 columns, expected 11"),
        (ROW.replace("3,5,4", "-3,5,4"), "line 2: '-3' is no number of pixels"),
        (ROW.replace("3,5,4", "nan,5,4"), "line 2: 'nan' is no number of pixels"),
        (ROW.replace("3,5,4", "3.0,5,4"), "line 2: '3.0' is no number of pixels"),
        (ROW.replace("3,5,4", ",5,4"), "line 2: '' is no number of pixels"),
        (ROW.replace("3,5,4", "٣,5,4"), "line 2: '٣' is no number of pixels"),
        (ROW.replace("3,5,4", f"{10**10},5,4"), "line 2: '10000000000' is no number of pixels"),
        (ROW.replace("3,5,4", "6,5,7"), "line 2: more hits than pixels of the mask or the prediction"),
        (ROW.replace("3,5,4", "5,6,4"), "line 2: more hits than pixels of the mask or the prediction"),
        (ROW.replace("0.25,0123", "nan,0123"), "line 2: 'nan' is no loss"),
        (ROW.replace("0.25,0123", "inf,0123"), "line 2: 'inf' is no loss"),
        (ROW.replace("0.25,0123", "-1,0123"), "line 2: '-1' is no loss"),
        (ROW.replace("0.25,0123", "x,0123"), "line 2: could not convert string to float: 'x'"),
        (ROW.replace("cdef,3", "cdeg,3"), "is no SHA-256"),
        (ROW.replace("cdef,3", "cde,3"), "is no SHA-256"),
        (ROW.replace("cdef,3", "cdef0,3"), "is no SHA-256"),
        (ROW.replace("a.png", '"a".png'), "line 2: ',' expected after '\"'"),
        (f'"{ROW}', "line 3: "),  # a quote that nothing closes
        (f"{ROW}\r\n{ROW}", "line 4: no image, or one that stands there twice"),
        ("x" * 200_000, "line 2: field larger than field limit"),
    ],
)
def test_a_damaged_row(row: str, message: str, tmp_path: Path) -> None:
    """Oracle: one line that names the file, the line and what is wrong."""
    path = tmp_path / "images.csv"
    header, _, last = written(path)
    path.write_bytes("\r\n".join([header, row, last, ""]).encode())
    with pytest.raises(DataError, match=r"images\.csv, line ") as error:
        read_images(path)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "header",
    ["", "name,mIoU", "name,mIoU,aAcc,loss,digest", "name,mIoU,aAcc,loss,digest,hits/a,true/a",
     "name,mIoU,aAcc,loss,digest,hits/a,true/b,predicted/a", "mIoU,name,aAcc,loss,digest,hits/a,true/a,predicted/a"],
)  # fmt: skip
def test_other_columns(header: str, tmp_path: Path) -> None:
    """Oracle: the line that names those which are expected."""
    path = tmp_path / "images.csv"
    path.write_text(f"{header}\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"images\.csv, line 1: expected the columns name, mIoU, aAcc, loss, digest, "):
        read_images(path)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([f"class {index}" for index in range(256)], "line 1: 773 columns are more than those of 255 classes"),
        ([f"{index}" for index in range(20_000)], "line 1: 60005 columns are more than those of 255 classes"),
        (["sky", "sky"], "line 1: a class stands there twice"),
    ],
)
def test_classes_that_no_mask_can_have(names: list[str], message: str, tmp_path: Path) -> None:
    """Oracle: the line, and that 255 classes are read."""
    path = tmp_path / "images.csv"
    write_images(path, [image("a", [[0] * len(names)] * 3)], names)
    with pytest.raises(DataError, match=message):
        read_images(path)
    most = [f"class {index}" for index in range(255)]
    write_images(path, [image("a", [[0] * 255] * 3)], most)
    assert read_images(path)[1] == most


def test_a_file_that_was_cut_off(tmp_path: Path) -> None:
    """Oracle: no beginning of the file is taken for the file, but for one that ends with a line (whose missing images a
    report's own mIoU tells)."""
    path = tmp_path / "images.csv"
    written(path)
    content = path.read_bytes()
    whole = {index + 2 for index in range(len(content)) if content[index : index + 2] == b"\r\n"}
    for length in set(range(len(content))) - whole:
        path.write_bytes(content[:length])
        with pytest.raises(DataError, match=r"images\.csv, line "):
            read_images(path)


def test_what_is_no_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: a line for a missing file, a folder, bytes that are no text, and a file beyond the limit."""
    path = tmp_path / "images.csv"
    path.write_bytes(b"\xff\xfe\n")
    for where in (tmp_path / "gone.csv", tmp_path, path):
        with pytest.raises(DataError, match="cannot be read"):
            read_images(where)
    written(path)
    monkeypatch.setattr(images_csv, "MOST_BYTES", 100)
    with pytest.raises(DataError, match="beyond all measure"):
        read_images(path)


def test_a_failed_write_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the bytes of the file before, with a disk that fills up in the middle."""
    path = tmp_path / "images.csv"
    before = written(path)

    def full(file: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        written(path)
    assert path.read_text(encoding="utf-8").splitlines() == before
