"""Other labels than the stored ones: `label_map: {stored id: class index or 255}` of a data set's YAML."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ccnet.data.sample import IGNORE_INDEX
from ccnet.errors import ConfigError

DEFAULT = "default"
LARGEST_ID = 2**16 - 1
UNKNOWN = 256  # no class index and not 255

LabelMap = Mapping[int | str, int]  # in a checkpoint's JSON the ids are text


def table_of(label_map: LabelMap, num_classes: int) -> NDArray[np.uint16]:
    """A label map as a table (65536,) from stored id to class index or 255.

    An id that the map does not name becomes what its entry `default` says; without one it becomes `UNKNOWN`, of which
    the reader complains. 255 stays ignored unless it is named.

    Raises:
        ConfigError: a key that is neither an id nor `default`, one that stands there twice, or a value
            that is no class.
    """
    classes = {_id(key): value for key, value in label_map.items() if key != DEFAULT}
    if len(classes) + (DEFAULT in label_map) < len(label_map):
        raise ConfigError("dataset.label_map names an id twice")
    for key, value in label_map.items():
        if not 0 <= value < num_classes and value != IGNORE_INDEX:
            raise ConfigError(
                f"dataset.label_map gives {key} the class {value}; there are 0..{num_classes - 1} and {IGNORE_INDEX}"
            )
    table = np.full(LARGEST_ID + 1, label_map.get(DEFAULT, UNKNOWN), dtype=np.uint16)
    table[IGNORE_INDEX] = IGNORE_INDEX
    table[list(classes)] = list(classes.values())
    return table


def _id(key: int | str) -> int:
    number = int(key) if str(key).isdecimal() else -1
    if not 0 <= number <= LARGEST_ID:
        raise ConfigError(f"dataset.label_map has the key {key}; expected a stored id 0..{LARGEST_ID} or {DEFAULT}")
    return number
