"""Anyone's folder."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ccnet.data.folder import Folder, confined, image_files, read_lines
from ccnet.errors import ConfigError, DataError

TWO_CLASSES = {"class_names": ["dark", "bright"], "palette": [(0, 0, 0), (255, 255, 255)]}


def test_images_and_masks_meet_by_name(folder: Path) -> None:
    """Oracle: what the fixture wrote: two classes and an ignored margin."""
    dataset = Folder(str(folder), "train", **TWO_CLASSES)
    assert [pair.name for pair in dataset.pairs] == ["0", "1", "2"]
    assert np.unique(dataset[0]["mask"]).tolist() == [0, 1, 255]


def test_sub_folders_are_part_of_the_name(tmp_path: Path) -> None:
    """Oracle: the relative path without extension."""
    for path in ("a/x.jpg", "b/x.jpg"):
        (tmp_path / path).parent.mkdir()
        Image.new("RGB", (2, 2)).save(tmp_path / path)
    assert list(image_files(tmp_path)) == ["a/x", "b/x"]


def test_what_macos_lays_beside_is_no_sample(folder: Path) -> None:
    """Sidecars on both sides and on one, and a folder of them. Oracle: the data set before."""
    pairs = Folder(str(folder), "train", **TWO_CLASSES).pairs
    for path in ("images/train/._0.png", "masks/train/._0.png", "images/train/._1.png", "images/train/.trash/0.png"):
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_bytes(b"Mac OS X")
    (folder / "images/train/__MACOSX").mkdir()
    (folder / "images/train/__MACOSX/0.png").touch()
    assert Folder(str(folder), "train", **TWO_CLASSES).pairs == pairs


def test_a_hidden_folder_above_hides_nothing(tmp_path: Path) -> None:
    """Oracle: the one file."""
    (tmp_path / ".data").mkdir()
    (tmp_path / ".data" / "a.png").touch()
    assert list(image_files(tmp_path / ".data")) == ["a"]


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    """x.jpg and x.png would share a mask."""
    for name in ("x.jpg", "x.png"):
        Image.new("RGB", (2, 2)).save(tmp_path / name)
    with pytest.raises(DataError, match="would have the same name"):
        image_files(tmp_path)


def test_missing_parts_are_named(folder: Path) -> None:
    """Oracle: the path that is missing."""
    with pytest.raises(DataError, match=r"images/test does not exist"):
        Folder(str(folder), "test", **TWO_CLASSES)
    (folder / "masks/val/1.png").unlink()
    with pytest.raises(DataError, match=r"1.png has no mask"):
        Folder(str(folder), "val", **TWO_CLASSES)


def test_camvid_is_read_in_place(camvid: Path) -> None:
    """Oracle: the counts and sizes of its description; its labels lie in the declared classes."""
    from ccnet import build
    from ccnet.config import compose_config

    config = compose_config(["dataset=camvid", f"dataset.root={camvid}"])
    train, val = build.build_dataset(config, "train"), build.build_dataset(config, "val")
    assert (len(train), len(val), train.num_classes) == (367, 101, 11)
    assert train[0]["image"].shape == (360, 480, 3)
    assert not {pair.name for pair in train.pairs} & {pair.name for pair in val.pairs}


def listed(root: Path, text: str, name: str = "splits/own.txt") -> Path:
    (root / name).parent.mkdir(exist_ok=True)
    (root / name).write_text(text, encoding="utf-8")
    return root


@pytest.mark.parametrize("name", ["splits/own.txt", "own.txt"])
def test_a_list_is_a_split(folder: Path, name: str) -> None:
    """Names with or without extension and with either slash, pairs of paths. Oracle: the pairs, written out."""
    names = "\ufeffval/2\r\ntrain/0.png\n\ntrain\\1\n"
    paths = "images/train/2.png masks/val/2.png\nimages/val/0.png\tmasks/val/0.png\n"
    dataset = Folder(str(listed(folder, names + paths, name)), "own", **TWO_CLASSES)
    found = [(pair.name, pair.image, pair.mask) for pair in dataset.pairs]
    assert found == [
        ("images/train/2", folder / "images/train/2.png", folder / "masks/val/2.png"),
        ("images/val/0", folder / "images/val/0.png", folder / "masks/val/0.png"),
        ("train/0", folder / "images/train/0.png", folder / "masks/train/0.png"),
        ("train/1", folder / "images/train/1.png", folder / "masks/train/1.png"),
        ("val/2", folder / "images/val/2.png", folder / "masks/val/2.png"),
    ]
    assert dataset[0]["mask"].shape == (40, 56)


def test_a_list_may_name_files_with_spaces(tmp_path: Path) -> None:
    """Such a line is a name, not a pair. Oracle: the one file."""
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
        Image.new("L", (2, 2)).save(tmp_path / part / "my image.png")
    assert Folder(str(listed(tmp_path, "my image\n")), "own", **TWO_CLASSES).pairs[0].name == "my image"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train/0\ntrain/9\nval/9\n", r"own.txt names 4 files that do not exist: .*train.9, .*masks.train.9.png"),
        ("train/0\ntrain/0.png\n", "own.txt names train/0 twice"),
        ("\n \n", "own.txt holds no names of images"),
        ("../a.png masks/a.png", r"\.\./a.png leads out of"),
        ("/etc/hostname masks/a.png", "/etc/hostname leads out of"),
        ("images/a.png C:\\a.png", "leads out of"),
    ],
)
def test_a_list_that_is_wrong_is_named(folder: Path, text: str, message: str) -> None:
    """Oracle: the message, written out."""
    with pytest.raises(DataError, match=message):
        Folder(str(listed(folder, text)), "own", **TWO_CLASSES)


def test_a_list_in_another_encoding_is_named(folder: Path) -> None:
    """Oracle: the message, written out."""
    (folder / "own.txt").write_bytes("gr\u00fcn".encode("latin-1"))
    with pytest.raises(DataError, match=r"own.txt cannot be read as text .* save it as UTF-8"):
        read_lines(folder / "own.txt")


@pytest.mark.parametrize(
    ("name", "inside"), [("a/../b.png", "b.png"), ("a\\b.png", "a/b.png"), ("./a.png", "a.png"), ("a/b/../../c", "c")]
)
def test_paths_may_wander_inside(tmp_path: Path, name: str, inside: str) -> None:
    """Oracle: the path, written out."""
    assert confined(tmp_path, name) == tmp_path / inside


@pytest.mark.parametrize(
    "name", ["..", "a/../../b", "/a", "\\a", "C:/a", "C:a", "//host/share/a", "a\\..\\..\\b", "a/C:/b", "x/D:y"]
)
def test_no_path_leads_out(tmp_path: Path, name: str) -> None:
    """Oracle: the rule."""
    with pytest.raises(DataError, match="leads out of"):
        confined(tmp_path, name)


def test_a_path_may_start_further_down(tmp_path: Path) -> None:
    """Oracle: the path, written out; two steps up from one step down lead out."""
    assert confined(tmp_path, "../b.png", start=tmp_path / "a") == tmp_path / "b.png"
    with pytest.raises(DataError, match="leads out of"):
        confined(tmp_path, "../../b.png", start=tmp_path / "a")


def test_colour_masks_are_read_by_the_palette_or_colours_of_their_own(folder: Path) -> None:
    """Oracle: the index masks that the colour masks were made from."""
    wanted = Folder(str(folder), "train", **TWO_CLASSES)[0]["mask"]
    colors = np.zeros((256, 3), np.uint8)
    colors[1], colors[255] = 255, (9, 9, 9)
    path = folder / "masks/train/0.png"
    Image.fromarray(colors[wanted]).save(path)
    by_palette = Folder(str(folder), "train", **TWO_CLASSES, mask_format="color", ignore_color=(9, 9, 9))
    assert np.array_equal(by_palette[0]["mask"], wanted)
    more = {"mask_colors": [(9, 9, 9), (0, 0, 0), (255, 255, 255)], "label_map": {0: 255, 1: 0, 2: 1}}
    assert np.array_equal(Folder(str(folder), "train", **TWO_CLASSES, mask_format="color", **more)[0]["mask"], wanted)
    with pytest.raises(DataError, match=r"0.png holds 1 colours that stand for no class, such as \[9, 9, 9\]"):
        Folder(str(folder), "train", **TWO_CLASSES, mask_format="color")[0]


@pytest.mark.parametrize(
    ("mask_format", "wrong"),
    [("index", "palette"), ("color", "palette"), ("color", "mask_colors"), ("color", "ignore_color")],
)
def test_a_colour_that_is_none_is_named_by_its_key(folder: Path, mask_format: str, wrong: str) -> None:
    """Oracle: the message, written out."""
    colors = {**TWO_CLASSES, wrong: (0, 0, 256) if wrong == "ignore_color" else [(0, 0, 0), (0, 0, 256)]}
    with pytest.raises(ConfigError, match=rf"dataset\.{wrong}: \[0, 0, 256\] is no colour"):
        Folder(str(folder), "train", **colors, mask_format=mask_format)


@pytest.mark.parametrize("ignored", [{"mask_colors": [(0, 0, 0)]}, {"ignore_color": (0, 0, 0)}])
def test_no_argument_is_ignored(folder: Path, ignored: dict[str, list[tuple[int, int, int]]]) -> None:
    """Oracle: the message, written out."""
    with pytest.raises(ConfigError, match=r"need dataset\.mask_format=color"):
        Folder(str(folder), "train", **TWO_CLASSES, **ignored)


def test_a_label_map_comes_through_the_configuration(folder: Path) -> None:
    """From a command line, and once more from the JSON of a checkpoint. Oracle: the classes swapped."""
    from ccnet import build
    from ccnet.config import compose_config, from_json, to_json
    from ccnet.part_checks import check

    words = [
        "dataset=folder",
        f"dataset.root={folder}",
        "dataset.class_names=[a,b]",
        "dataset.palette=[[0,0,0],[1,1,1]]",
    ]
    config = compose_config([*words, "dataset.label_map={0: 1, 1: 0}"])
    check(config)
    wanted = Folder(str(folder), "train", **TWO_CLASSES)[0]["mask"]
    for each in (config, from_json(to_json(config))):
        check(each)
        mask = build.build_dataset(each, "train")[0]["mask"]
        assert np.array_equal(mask, np.choose(np.minimum(wanted, 2), [1, 0, 255]))
