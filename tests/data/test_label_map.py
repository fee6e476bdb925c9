"""Labels of one's own out of stored ones."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ccnet.data.label_map import UNKNOWN, table_of
from ccnet.data.sample import FilePair, SegmentationDataset, map_labels
from ccnet.errors import ConfigError, DataError


@given(
    st.dictionaries(st.integers(0, 65535), st.sampled_from([0, 1, 2, 3, 255]), max_size=20),
    st.sampled_from([None, 0, 3, 255]),
)
def test_the_table_is_the_map(label_map: dict[int, int], default: int | None) -> None:
    """Oracle: the map, asked id by id; 255 stays ignored unless it is named."""
    table = table_of(label_map | ({} if default is None else {"default": default}), num_classes=4)
    for stored in [*label_map, 0, 7, 254, 255, 256, 65535]:
        expected = UNKNOWN if default is None else default
        assert table[stored] == label_map.get(stored, 255 if stored == 255 else expected)


def test_ids_may_be_text_as_in_the_json_of_a_checkpoint() -> None:
    """Oracle: the table of the map before the round trip."""
    label_map = {0: 0, 255: 1, "default": 255}
    assert np.array_equal(table_of(json.loads(json.dumps(label_map)), 2), table_of(label_map, 2))


@pytest.mark.parametrize(
    ("label_map", "message"),
    [
        ({"road": 0}, "has the key road; expected a stored id 0..65535 or default"),
        ({-1: 0}, "has the key -1"),
        ({65536: 0}, "has the key 65536"),
        ({0: 0, "0": 1}, "names an id twice"),
        ({0: 2}, r"gives 0 the class 2; there are 0..1 and 255"),
        ({"default": 9}, "gives default the class 9"),
    ],
)
def test_a_map_that_makes_no_sense_is_refused(label_map: dict[int | str, int], message: str) -> None:
    """Oracle: the message, written out."""
    with pytest.raises(ConfigError, match=message):
        table_of(label_map, num_classes=2)


@given(st.integers(1, 400), st.sampled_from([np.uint8, np.uint16]))
def test_labels_beyond_a_short_table_stay_themselves(length: int, dtype: type[np.unsignedinteger]) -> None:
    """Oracle: a loop."""
    table = np.random.default_rng(0).integers(0, 256, length).astype(np.uint16)
    stored = np.arange(256, dtype=dtype).reshape(16, 16)
    looped = [[table[label] if label < length else label for label in row] for row in stored.tolist()]
    assert np.array_equal(map_labels(stored, table), looped)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_data_set_maps_and_names_what_the_map_does_not_know(tmp_path: Path, dtype: type[np.unsignedinteger]) -> None:
    """Oracle: the classes, written out; the stored label in the message, not what became of it."""
    Image.new("RGB", (3, 1)).save(tmp_path / "image.png")
    pair = FilePair("one", tmp_path / "image.png", tmp_path / "mask.png")
    dataset = SegmentationDataset([pair], ["a", "b"], [(0, 0, 0), (1, 1, 1)], table_of({0: 0, 200: 1}, 2))
    Image.fromarray(np.array([[0, 200, 255]], dtype)).save(tmp_path / "mask.png")
    assert dataset[0]["mask"].tolist() == [[0, 1, 255]]
    Image.fromarray(np.array([[0, 200, 1]], dtype)).save(tmp_path / "mask.png")
    with pytest.raises(DataError, match=r"mask.png holds label 1, for which the data set's label map has no class"):
        dataset[0]
