"""python tools/prepare_data.py cache dataset=... [cache=FOLDER]: decodes the training images once, for every run."""

from pathlib import Path

from ccnet import build
from ccnet.config import compose_config
from ccnet.part_checks import check
from ccnet.preparation.cache_writer import write_cache

FOLDER = "data/cache"


def prepare_cache(overrides: list[str]) -> None:
    """Fills the cache of a configuration's training split; what is there and up to date stays.

    Args:
        overrides: as on the command line of tools/train.py; `cache` names the folder, by default data/cache, and with
            trainer.on_bad_sample=skip samples that cannot be read are left out.

    Raises:
        UserError: a mistake in the configuration or the data, or too little room on the disk.
    """
    config = compose_config(overrides)
    check(config, overrides, parts=["dataset", "prepare"])
    build.prepare_dataset(config)
    folder = config.cache or FOLDER
    dataset = build.build_dataset(config, config.train_split)
    written = write_cache(dataset, Path(folder), config.trainer.on_bad_sample.value)
    print(f"{written} of {len(dataset)} images newly decoded into {folder}; train from them with cache={folder}")
