"""A folder of one's own -> a YAML that trains on it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image

from ccnet.build import build_part
from ccnet.data.sample import SegmentationDataset
from ccnet.errors import DataError
from ccnet.preparation.own_folder import prepare_folder

MASK = np.array([[0, 1, 2], [2, 1, 255]], dtype=np.uint8)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ten images, not divided, in a current folder of one's own."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "data" / "garden", lambda mask: Image.fromarray(mask))
    return Path("data/garden")


def write(root: Path, picture_of: Callable[[np.ndarray], Image.Image]) -> None:
    for index in range(10):
        for part, picture in (("images", Image.new("RGB", (3, 2))), ("masks", picture_of(MASK))):
            (root / part).mkdir(parents=True, exist_ok=True)
            picture.save(root / part / f"{index}.png")


def prepared(root: Path, split: str = "train", **options: object) -> SegmentationDataset:
    """The data set that the written YAML makes."""
    prepare_folder(root, Path("garden.yaml"), **options)
    return build_part(OmegaConf.to_object(OmegaConf.load("garden.yaml")), split=split)


def test_index_masks(root: Path) -> None:
    """Oracle: the masks as written; a division of ten; the words of the report and of the file."""
    lines = prepare_folder(root, Path("garden.yaml"))
    assert lines == [
        "data/garden: 10 images, splits train and val, index masks; drew 8 for training, 2 for validation: "
        "data/garden/splits",
        "    0  class_0  20.00% of the pixels",
        "    1  class_1  40.00% of the pixels",
        "    2  class_2  40.00% of the pixels",
        "wrote garden.yaml",
        "next: python tools/train.py dataset=garden name=garden",
    ]
    assert Path("garden.yaml").read_text() == (
        "# Made by tools/prepare_data.py; names may be changed, the order of the classes is that of the labels.\n"
        "_target_: ccnet.data.folder.Folder\n"
        'root: "data/garden"\n'
        'class_names: ["class_0", "class_1", "class_2"]\n'
        "palette: [[0, 0, 0], [128, 0, 0], [0, 128, 0]]\n"
    )
    dataset = prepared(root, overwrite=True)
    assert (len(dataset), len(prepared(root, "val", overwrite=True))) == (8, 2)
    assert np.array_equal(dataset[0]["mask"], MASK)


def test_labels_with_gaps_become_classes(root: Path) -> None:
    """16 bits, and ids as instance tools give them. Oracle: their order."""
    ids = np.array([7, 300, 4000], dtype=np.uint16)
    write(root, lambda mask: Image.fromarray(np.where(mask == 255, 255, ids[np.minimum(mask, 2)]).astype(np.uint16)))
    dataset = prepared(root)
    assert dataset.class_names == ["class_7", "class_300", "class_4000"]
    assert np.array_equal(dataset[0]["mask"], MASK)


def test_colour_masks(root: Path) -> None:
    """Oracle: the masks that were coloured; with a file of names and colours their order is its."""
    colors = np.zeros((256, 3), np.uint8)
    colors[[0, 1, 2, 255]] = [(0, 0, 0), (0, 0, 200), (9, 0, 0), (250, 250, 250)]
    write(root, lambda mask: Image.fromarray(colors[mask]))
    dataset = prepared(root, ignore_color=(250, 250, 250))
    assert dataset.palette == [(0, 0, 0), (0, 0, 200), (9, 0, 0)]
    assert np.array_equal(dataset[0]["mask"], MASK)
    assert prepared(root, overwrite=True).num_classes == 4
    (root / "labelmap.txt").write_text("path:9,0,0::\nlawn:0,0,0::\npond:0,0,200::\nshed:5,5,5::\nsky:250,250,250::\n")
    dataset = prepared(root, overwrite=True)
    assert dataset.class_names == ["path", "lawn", "pond", "shed", "sky"]
    assert np.array_equal(dataset[0]["mask"], np.array([1, 2, 0, *[9] * 252, 4])[MASK])
    (root / "labelmap.txt").write_text("path:9,0,0::\nlawn:0,0,0::\n")
    with pytest.raises(DataError, match=r"0.png holds the colour \(0, 0, 200\), \(250, 250, 250\), which is no class"):
        prepared(root, overwrite=True)


def test_binary_masks_want_a_word(root: Path) -> None:
    """255 means ignored until it is told otherwise. Oracle: the message, then the masks as 0 and 1."""
    write(root, lambda mask: Image.fromarray(np.where(mask == 1, 255, 0).astype(np.uint8)))
    with pytest.raises(DataError, match="if 255 is the foreground, add --binary"):
        prepared(root)
    assert not (root / "splits").exists()
    dataset = prepared(root, binary=True)
    assert dataset.class_names == ["background", "foreground"]
    assert np.array_equal(dataset[0]["mask"], MASK == 1)


def test_names_of_ones_own(root: Path) -> None:
    """Oracle: the names, also of a class that no mask holds, which is said."""
    (root / "classes.txt").write_text("lawn\n'path' {stone}\npond\nshed\n")
    lines = prepare_folder(root, Path("garden.yaml"), overwrite=True)
    assert lines[4] == "    3  shed  0.00% of the pixels (in no mask)"
    Path("names.txt").write_text("null\nyes\n3\n")
    dataset = prepared(root, classes=Path("names.txt"), overwrite=True)
    assert dataset.class_names == ["null", "yes", "3"]
    Path("names.txt").write_text("a\nb\n")
    with pytest.raises(DataError, match=r"0.png holds label 2; names.txt names 2 classes, 0..1"):
        prepared(root, classes=Path("names.txt"), overwrite=True)


def test_splits_that_are_there_stay(root: Path) -> None:
    """Oracle: the names in the next command, and no lists."""
    for part in ("images", "masks"):
        for split, indices in (("training", range(7)), ("validation", range(7, 10))):
            (root / part / split).mkdir()
            for index in indices:
                (root / part / f"{index}.png").rename(root / part / split / f"{index}.png")
    lines = prepare_folder(root, Path("garden.yaml"))
    assert lines[0] == "data/garden: 10 images, splits training and validation, index masks"
    assert lines[-1].endswith("dataset=garden name=garden train_split=training val_split=validation")
    assert not (root / "splits").exists()


def rgb(_: np.ndarray) -> Image.Image:
    return Image.new("RGB", (3, 2))


def noise(mask: np.ndarray) -> Image.Image:
    return Image.fromarray(np.random.default_rng().integers(0, 256, (40, 40, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda root: (root / "masks/3.png").unlink(), {}, "3.png has no mask"),
        (lambda root: rgb(MASK).save(root / "masks/3.png"), {}, r"0.png holds indices and .*3.png colours; make them"),
        (lambda root: write(root, noise), {}, "different values; .* saved as JPEG once, or resized"),
        (lambda root: (root / "masks/3.png").write_bytes(b""), {}, "3.png is not an image"),
        (lambda root: (root / "masks").rename(root / "labels"), {}, "it has no masks/, but images, labels: rename"),
        (lambda root: None, {"binary": True}, "--binary is for masks of 0 and 255; these hold 0, 1, 2, 255"),
        (lambda root: None, {"ignore_color": (0, 0, 0)}, "--ignore-color is for masks that hold colours"),
        (lambda root: write(root, rgb), {"binary": True}, "these hold colours"),
        (lambda root: write(root, rgb), {"ignore_color": (0, 0, 0)}, "the masks hold 0 colours"),
        (lambda root: write(root, lambda mask: Image.new("L", (3, 2), 255)), {}, "hold 0 labels beside 255"),
        (lambda root: Path("garden.yaml").touch(), {}, r"garden.yaml exists already; .*--overwrite"),
    ],
)
def test_what_cannot_be_trained_on_is_named(
    root: Path, change: Callable[[Path], object], options: dict[str, object], message: str
) -> None:
    """Oracle: the message, written out; nothing is written beside."""
    change(root)
    before = Path("garden.yaml").exists()
    with pytest.raises(DataError, match=message):
        prepared(root, **options)
    assert Path("garden.yaml").exists() == before
    assert not (root / "splits").exists()


@pytest.mark.parametrize("one_bit", [np.array([[0, 1]]), np.array([[1, 1]])])
def test_masks_of_one_bit_beside_deeper_ones(root: Path, one_bit: np.ndarray) -> None:
    """What is 255 there is 1 here. Oracle: the message; with nothing but the background they say the same."""
    write(root, lambda mask: Image.fromarray(np.where(mask == 1, 255, 0).astype(np.uint8)))
    odd = root / "masks/3.png"
    Image.fromarray(one_bit.astype(bool)).save(odd)
    with pytest.raises(DataError, match=r"3.png has 1 bit a pixel and holds 1, and .*0.png holds 255; save all as 8-"):
        prepared(root, binary=True)
    Image.new("1", (3, 2)).save(odd)
    assert prepared(root, binary=True).num_classes == 2


def test_masks_of_one_bit_alone(root: Path) -> None:
    """Oracle: 0 and 1."""
    write(root, lambda mask: Image.fromarray(mask == 1))
    assert np.array_equal(prepared(root)[0]["mask"], MASK == 1)


@pytest.mark.parametrize("name", ["a b.yaml", "garden.yml", "../x=1.yaml", ".yaml"])
def test_the_yaml_has_a_name_for_the_command_line(root: Path, name: str) -> None:
    """Oracle: Hydra's words are dataset=NAME."""
    with pytest.raises(DataError, match=r"name it NAME\.yaml"):
        prepare_folder(root, Path(name))
