"""Generated street scenes: Cityscapes layout, determinism, content, and a folder that is in the way."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from ccnet.data import streets
from ccnet.data.streets import draw_scene, generate

SIZE = {"height": 64, "width": 128}
# labelIds of cityscapesScripts `labels.py`, written out so that a wrong id in the painter is seen.
ALLOWED = {0, 1, 7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 33}
FREQUENT = {
    "road": {7},
    "sidewalk": {8},
    "building": {11},
    "wall or fence": {12, 13},
    "pole": {17},
    "traffic sign": {20},
    "vegetation": {21},
    "sky": {23},
    "person": {24},
    "car": {26},
    "bicycle": {33},
}


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def scene(seed: int, height: int = 96, width: int = 192) -> tuple[np.ndarray, np.ndarray]:
    return draw_scene(np.random.default_rng(seed), height, width)


@pytest.fixture(scope="module")
def masks() -> list[np.ndarray]:
    return [scene(seed)[1] for seed in range(40)]


def test_two_generations_are_equal_to_the_byte(tmp_path: Path) -> None:
    """Oracle: the files of a second generation elsewhere."""
    for name in ("first", "second"):
        generate(tmp_path / name, num_train=2, num_val=1, **SIZE)
    assert contents(tmp_path / "first") == contents(tmp_path / "second")


def test_a_scene_does_not_depend_on_how_many_there_are(tmp_path: Path) -> None:
    """Oracle: the same files of a larger set; a different seed gives different files."""
    generate(tmp_path / "small", num_train=1, num_val=1, **SIZE)
    generate(tmp_path / "large", num_train=2, num_val=2, **SIZE)
    generate(tmp_path / "other", num_train=1, num_val=1, seed=1, **SIZE)
    small, large, other = (contents(tmp_path / name) for name in ("small", "large", "other"))
    pictures = [name for name in small if name.endswith(".png")]
    assert len(pictures) == 4
    assert all(small[name] == large[name] for name in pictures)
    assert all(small[name] != other[name] for name in pictures)


def test_layout_is_that_of_cityscapes(tmp_path: Path) -> None:
    """Oracle: the naming rule {city}_{6 digits}_{6 digits}_{kind}.png of the Cityscapes README, image to mask."""
    generate(tmp_path / "set", num_train=4, num_val=2, **SIZE)
    cities = {}
    for split, count in (("train", 4), ("val", 2)):
        images = sorted((tmp_path / "set/leftImg8bit" / split).glob("*/*_leftImg8bit.png"))
        assert len(images) == count == len(list((tmp_path / "set/gtFine" / split).glob("*/*.png")))
        cities[split] = {path.parent.name for path in images}
        for path in images:
            city, sequence, frame, _ = path.stem.split("_")
            assert (city, len(sequence), len(frame)) == (path.parent.name, 6, 6)
            name = path.name.replace("leftImg8bit", "gtFine_labelIds")
            mask = cv2.imread(str(tmp_path / "set/gtFine" / split / city / name), cv2.IMREAD_UNCHANGED)
            image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
            assert image.dtype == mask.dtype == np.uint8
            assert (image.shape, mask.shape) == ((64, 128, 3), (64, 128))
    assert cities["train"].isdisjoint(cities["val"])


def test_files_hold_the_drawn_scene(tmp_path: Path) -> None:
    """Oracle: `draw_scene` from the documented SeedSequence; catches swapped colour channels."""
    generate(tmp_path / "set", num_train=1, num_val=0, seed=5, **SIZE)
    image, mask = draw_scene(np.random.default_rng(np.random.SeedSequence((5, 0, 0))), 64, 128)
    (image_path,) = (tmp_path / "set/leftImg8bit").rglob("*.png")
    (mask_path,) = (tmp_path / "set/gtFine").rglob("*.png")
    np.testing.assert_array_equal(cv2.imread(str(image_path), cv2.IMREAD_UNCHANGED)[..., ::-1], image)
    np.testing.assert_array_equal(cv2.imread(str(mask_path), cv2.IMREAD_UNCHANGED), mask)


def test_masks_hold_only_known_label_ids(masks: list[np.ndarray]) -> None:
    """Oracle: the labelIds of cityscapesScripts; a blend of two ids would give others."""
    assert {int(value) for value in np.unique(masks)} <= ALLOWED


@pytest.mark.parametrize("name", FREQUENT)
def test_class_is_in_at_least_40_percent_of_the_scenes(masks: list[np.ndarray], name: str) -> None:
    """Oracle: a count over 40 scenes, at least 5 pixels (35 of 256 x 512) in each."""
    present = [np.isin(mask, list(FREQUENT[name])).sum() >= 5 for mask in masks]
    assert np.mean(present) >= 0.4


def test_picture_and_mask_agree() -> None:
    """Oracle: colours known without the painter: vegetation is green, and its edges in the mask are edges in colour."""
    for seed in range(3):
        image, mask = scene(seed)
        colour = image.astype(float)
        red, green, blue = colour[mask == 21].mean(0)
        assert green > max(red, blue)
        jump = np.abs(np.diff(colour.mean(2), axis=1))
        border = np.diff(mask.astype(int), axis=1) != 0
        assert jump[border].mean() > 2 * jump[~border].mean()


@pytest.mark.parametrize("size", [(33, 57), (16, 16), (96, 64), (120, 24)])
def test_any_size_gives_a_full_mask(size: tuple[int, int]) -> None:
    """Oracle: no pixel is left unpainted (labelId 0)."""
    image, mask = scene(3, *size)
    assert (image.shape, mask.shape) == ((*size, 3), size)
    assert mask.min() > 0


def test_a_complete_set_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: a drawing function that raises is never called, and the files stay the same."""
    generate(tmp_path / "set", num_train=1, num_val=1, **SIZE)
    before = contents(tmp_path / "set")
    monkeypatch.setattr(streets, "draw_scene", lambda *_: pytest.fail("drew a scene again"))
    generate(tmp_path / "set", num_train=1, num_val=1, **SIZE)
    assert contents(tmp_path / "set") == before


def test_other_parameters_are_refused(tmp_path: Path) -> None:
    """Oracle: the message names folder, parameter, both values and a way out; the folder stays as it was."""
    generate(tmp_path / "set", num_train=1, num_val=1, **SIZE)
    before = contents(tmp_path / "set")
    with pytest.raises(ValueError, match=r"set holds .*num_train is 1, not 2\): remove that folder"):
        generate(tmp_path / "set", num_train=2, num_val=1, **SIZE)
    assert contents(tmp_path / "set") == before


@pytest.mark.parametrize(("name", "text"), [("holiday.jpg", ""), ("streets.json", "{"), ("streets.json", "[]")])
def test_a_foreign_folder_is_refused(tmp_path: Path, name: str, text: str) -> None:
    """Oracle: the one file that was there is still the only one."""
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / name).write_text(text)
    with pytest.raises(ValueError, match=r"set holds something other .*remove that folder or name another"):
        generate(tmp_path / "set", num_train=1, num_val=1, **SIZE)
    assert [path.name for path in tmp_path.rglob("*")] == ["set", name]


def test_a_set_that_lost_a_file_is_refused(tmp_path: Path) -> None:
    """Oracle: the name of the file that was deleted."""
    generate(tmp_path / "set", num_train=1, num_val=1, **SIZE)
    lost = next((tmp_path / "set/gtFine/val").rglob("*.png"))
    lost.unlink()
    with pytest.raises(ValueError, match=rf"lacks 1 files, first .*{lost.name}"):
        generate(tmp_path / "set", num_train=1, num_val=1, **SIZE)


def test_an_empty_folder_is_used(tmp_path: Path) -> None:
    """Oracle: the number of files, 2 per scene and `streets.json`."""
    (tmp_path / "set").mkdir()
    generate(tmp_path / "set", num_train=1, num_val=1, **SIZE)
    assert len(contents(tmp_path / "set")) == 5


def test_an_interrupted_generation_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the parent folder is empty afterwards, and a second call gives the whole set."""
    write, calls = streets._write_png, []

    def fail_at_the_fourth(path: Path, pixels: np.ndarray) -> None:
        calls.append(path)
        if len(calls) == 4:
            raise KeyboardInterrupt
        write(path, pixels)

    monkeypatch.setattr(streets, "_write_png", fail_at_the_fourth)
    with pytest.raises(KeyboardInterrupt):
        generate(tmp_path / "set", num_train=2, num_val=1, **SIZE)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    generate(tmp_path / "set", num_train=2, num_val=1, **SIZE)
    assert len(contents(tmp_path / "set")) == 7


def test_a_set_published_meanwhile_is_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: a second rank's set, put in place while the first still writes, survives; nothing else stays."""
    write_set = streets._write_set

    def another_is_faster(folder: Path, parameters: dict[str, int]) -> None:
        write_set(folder, parameters)
        write_set(tmp_path / "set", parameters)

    monkeypatch.setattr(streets, "_write_set", another_is_faster)
    generate(tmp_path / "set", num_train=1, num_val=1, **SIZE)
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
