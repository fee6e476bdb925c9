"""LabelMe's and COCO's annotations -> folders of masks."""

import json
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ccnet.errors import DataError
from ccnet.preparation.annotated_masks import AnnotatedImage, Shape, write_annotated
from ccnet.preparation.coco import coco_images
from ccnet.preparation.labelme import labelme_images
from ccnet.preparation.own_folder import prepare_folder

HEIGHT, WIDTH = 6, 8


def box(label: str, left: int, top: int, right: int, bottom: int) -> dict[str, Any]:
    return {"label": label, "points": [[left, top], [right, bottom]], "shape_type": "rectangle"}


def labelme(image: str, *shapes: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "version": "5.5.0",
        "imagePath": image,
        "imageData": None,
        "imageHeight": HEIGHT,
        "imageWidth": WIDTH,
        "shapes": list(shapes),
        **more,
    }


@pytest.fixture
def annotations(tmp_path: Path) -> Path:
    """LabelMe's files beside their images and in a folder of their own, as Windows writes it."""
    root = tmp_path / "annotations"
    (root / "json").mkdir(parents=True)
    for name in ("a.jpg", "b.png"):
        Image.new("RGB", (WIDTH, HEIGHT), (200, 10, 10)).save(root / name)
    lawn, path, none = box("lawn", 0, 0, 7, 2), box("path", 2, 1, 3, 5), box("__ignore__", 7, 5, 7, 5)
    (root / "a.json").write_text(json.dumps(labelme("a.jpg", lawn, path, none)))
    (root / "json" / "b.json").write_text(json.dumps(labelme("..\\b.png", path, lawn)))
    return root


LABELME_A = np.array([
    [1, 1, 1, 1, 1, 1, 1, 1],
    [1, 1, 2, 2, 1, 1, 1, 1],
    [1, 1, 2, 2, 1, 1, 1, 1],
    [0, 0, 2, 2, 0, 0, 0, 0],
    [0, 0, 2, 2, 0, 0, 0, 0],
    [0, 0, 2, 2, 0, 0, 0, 255],
])  # fmt: skip


def mask_of(folder: Path, name: str) -> np.ndarray:
    return np.asarray(Image.open(folder / "masks" / f"{name}.png"))


def test_labelme_files_become_a_folder_to_train_on(annotations: Path, tmp_path: Path) -> None:
    """Oracle: the mask, written out; later shapes lie on top. The image is the same file, byte for byte."""
    output = tmp_path / "garden"
    assert write_annotated(labelme_images(annotations), output) == ["background", "lawn", "path"]
    assert np.array_equal(mask_of(output, "a"), LABELME_A)
    assert mask_of(output, "b")[1:3, 2].tolist() == [1, 1]
    assert (output / "images/a.jpg").read_bytes() == (annotations / "a.jpg").read_bytes()
    lines = prepare_folder(output, tmp_path / "garden.yaml")
    assert [line.split()[1] for line in lines[1:4]] == ["background", "lawn", "path"]


def test_pixels_outside_of_all_shapes_may_be_ignored(annotations: Path, tmp_path: Path) -> None:
    """Oracle: the mask of the test before, renumbered; the order of the classes is that of a file."""
    (tmp_path / "classes.txt").write_text("path\nlawn\nshed\n")
    names = write_annotated(labelme_images(annotations), tmp_path / "out", tmp_path / "classes.txt", ignore_rest=True)
    assert names == ["path", "lawn", "shed"]
    renumbered = np.array([255, 1, 0, *[255] * 253])[LABELME_A]
    assert np.array_equal(mask_of(tmp_path / "out", "a"), renumbered)


def test_sidecars_of_macos_are_no_annotations(annotations: Path) -> None:
    """Oracle: the annotations before."""
    (annotations / "._a.json").write_bytes(b"\0\5\x16\7")
    assert [image.name for image in labelme_images(annotations)] == ["a.jpg", "b.png"]


@pytest.mark.parametrize("smaller_on_top", [False, True])
def test_shapes_are_drawn_one_at_a_time(tmp_path: Path, smaller_on_top: bool) -> None:
    """A hundred polygons of a large image would not fit into memory together. Oracle: each is gone before the next;
    the pixel that all of them cover belongs to the last one or to the smallest."""
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "a.png")
    drawn: list[weakref.ref[np.ndarray]] = []

    def columns(count: int, size: tuple[int, int]) -> np.ndarray:
        assert all(inside() is None for inside in drawn)
        inside = np.zeros(size, bool)
        inside[:, :count] = True
        drawn.append(weakref.ref(inside))
        return inside

    shapes = [Shape(f"wide_{count}", partial(columns, count), "here") for count in (2, 1, 3)]
    names = write_annotated(
        [AnnotatedImage(tmp_path / "a.png", "a.png", (HEIGHT, WIDTH), shapes, smaller_on_top)], tmp_path / "out"
    )
    assert names[mask_of(tmp_path / "out", "a")[0, 0]] == ("wide_1" if smaller_on_top else "wide_3")
    assert drawn


def change(**more: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda content: {**content, **more}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (change(imagePath="../a.jpg"), "a.jpg leads out of"),
        (change(imagePath="/etc/passwd"), "leads out of"),
        (change(imagePath="C:\\a.jpg"), "leads out of"),
        (change(imagePath="gone.jpg"), r"a.json: its image .*gone.jpg does not exist"),
        (change(imagePath="a\0.jpg"), "does not exist"),
        (change(imagePath="a.json"), "is no image by its extension"),
        (change(imagePath=None), r"a.json: 'imagePath' must be a str, not None"),
        (change(imageWidth=9), r"a.jpg is 8x6 pixels and was annotated at 9x6"),
        (change(imageWidth=10**30), "was annotated at"),
        (change(imageHeight=True), "'imageHeight' must be a int"),
        (change(shapes={}), r"a.json: 'shapes' must be a list"),
        (change(shapes=[3]), r"a.json: shape 1: 3 must be an object"),
        (change(shapes=[{"points": []}]), r"a.json: shape 1: 'label' must be a str"),
        (change(shapes=[box("a", 0, 0, 99, 1)]), r"a.json: shape 1: the point 99, 1 lies far outside"),
        (change(shapes=[box("${oc.env:HOME}", 0, 0, 1, 1)]), "cannot be the name of a class"),
        (change(shapes=[box("a\nb", 0, 0, 1, 1)]), "cannot be the name of a class"),
        (lambda content: [content], r"a.json holds a list; expected an object"),
        (lambda content: "[" * 100_000, r"a.json cannot be read as JSON"),
    ],
)
def test_a_wrong_labelme_file_is_named(
    annotations: Path, tmp_path: Path, content: Callable[[dict[str, Any]], Any], message: str
) -> None:
    """Oracle: the message, written out; nothing is left behind."""
    path = annotations / "a.json"
    changed = content(json.loads(path.read_text()))
    path.write_text(changed if isinstance(changed, str) else json.dumps(changed))
    with pytest.raises(DataError, match=message):
        write_annotated(labelme_images(annotations), tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"annotations"}


def test_names_must_not_meet(annotations: Path, tmp_path: Path) -> None:
    """Two files for one image, and a label that the list of classes lacks. Oracle: the messages, written out."""
    (annotations / "again.json").write_text((annotations / "a.json").read_text())
    with pytest.raises(DataError, match="1 names stand for two images, such as a;"):
        write_annotated(labelme_images(annotations), tmp_path / "out")
    (annotations / "again.json").unlink()
    (tmp_path / "classes.txt").write_text("lawn\n")
    with pytest.raises(DataError, match=r".json: shape \d: the label 'path' is no class in .*classes.txt"):
        write_annotated(labelme_images(annotations), tmp_path / "out", tmp_path / "classes.txt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty holds no \*.json"):
        labelme_images(tmp_path / "empty")


def coco(**more: Any) -> dict[str, Any]:
    """Two images, of which one has a lawn (given last) around a path, and a fence in run lengths."""
    annotation = {"image_id": 5, "iscrowd": 0}
    fence = np.zeros((HEIGHT, WIDTH), int)
    fence[:, 7] = 1
    return {
        "images": [
            {"id": 5, "file_name": "sub/a.jpg", "height": HEIGHT, "width": WIDTH},
            {"id": 6, "file_name": "b.png", "height": HEIGHT, "width": WIDTH},
        ],
        "categories": [{"id": 90, "name": "path"}, {"id": 3, "name": "lawn"}, {"id": 7, "name": "fence"}],
        "annotations": [
            {**annotation, "category_id": 90, "segmentation": [[2, 1, 3, 1, 3, 2, 2, 2], [2, 4, 3, 4, 3, 4, 2, 4]]},
            {**annotation, "category_id": 7, "segmentation": {"size": [HEIGHT, WIDTH], "counts": [42, 6]}},
            {**annotation, "category_id": 3, "segmentation": [[0, 0, 7, 0, 7, 5, 0, 5]]},
        ],
        **more,
    }


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """The images that the file names."""
    for name in ("sub/a.jpg", "b.png"):
        (tmp_path / "pictures" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "pictures" / name)
    return tmp_path / "pictures"


def convert(tmp_path: Path, content: Any) -> Path:
    (tmp_path / "instances.json").write_text(json.dumps(content))
    write_annotated(coco_images(tmp_path / "instances.json", tmp_path / "pictures"), tmp_path / "out")
    return tmp_path / "out"


def test_coco_files_become_a_folder(tmp_path: Path, pictures: Path) -> None:
    """Oracle: the mask, written out; smaller shapes lie on larger ones, whatever their order. Without annotations
    an image is background."""
    output = convert(tmp_path, coco())
    assert (output / "classes.txt").read_text().split() == ["background", "fence", "lawn", "path"]
    expected = np.full((HEIGHT, WIDTH), 2)
    expected[:, 7] = 1
    expected[1:3, 2:4] = expected[4, 2:4] = 3
    assert np.array_equal(mask_of(output, "sub/a"), expected)
    assert (mask_of(output, "b") == 0).all()
    assert (output / "images/sub/a.jpg").read_bytes() == (pictures / "sub/a.jpg").read_bytes()


def first(key: str, **more: Any) -> dict[str, Any]:
    content = coco()
    content[key][0] |= more
    return content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (first("images", file_name="../../a.jpg"), "leads out of"),
        (first("images", file_name="gone.jpg"), r"instances.json: image 1: .*gone.jpg does not exist; .*--images"),
        (first("images", height=7), "is 8x6 pixels and was annotated at 8x7"),
        (first("images", id=None), "image 1: 'id' must be a int"),
        (first("images", id=6), r"instances.json: two images have the id 6"),
        (first("images", id=8), r"annotation 1: there is no image 5"),
        (first("annotations", category_id=4), "annotation 1: there is no category 4"),
        (first("annotations", segmentation=[]), "annotation 1: it has no segmentation"),
        (first("annotations", segmentation=[[0, 0, 1, 1]]), "annotation 1: a polygon must be a list"),
        (first("annotations", segmentation=[[0, 0, 1, 1, 2, 2, 3]]), "annotation 1: a polygon must be a list"),
        (first("annotations", segmentation=[[0, 0, 1, 1, 2, "x"]]), r"annotation 1: \[2, 'x'\] is no point"),
        (first("annotations", segmentation={"size": [6, 8], "counts": [1]}), "annotation 1: the runs have 1 pixels"),
        (first("categories", id="90"), "categories: 'id' must be a int, not 90"),
        (first("categories", name="lawn"), "two categories have one name or id"),
        (first("categories", id=3), "two categories have one name or id"),
        (coco(images=[]), "there is no image 5"),
        (coco(annotations=[1]), "annotation 1: 1 must be an object"),
        (coco(images=[], annotations=[]), "0 annotated images"),
        ({}, r"instances.json: 'categories' must be a list"),
    ],
)
def test_a_wrong_coco_file_is_named(tmp_path: Path, pictures: Path, content: dict[str, Any], message: str) -> None:
    """Oracle: the message, written out; nothing is left behind."""
    with pytest.raises(DataError, match=message):
        convert(tmp_path, content)
    assert {path.name for path in tmp_path.iterdir()} == {"instances.json", "pictures"}
