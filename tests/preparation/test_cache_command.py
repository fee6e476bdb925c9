"""The command that fills the cache, and the configuration that trains from it."""

from pathlib import Path

import numpy as np
import pytest

from ccnet import build, build_training
from ccnet.config import compose_config
from ccnet.data.cache import CachedImages
from ccnet.errors import ConfigError, DataError
from ccnet.preparation.cache_command import prepare_cache


@pytest.fixture
def streets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Overrides for a few small scenes, and their cache in the current folder."""
    monkeypatch.chdir(tmp_path)
    sizes = {"num_train": 3, "num_val": 1, "height": 32, "width": 64}
    return ["dataset.root=streets", *(f"+prepare.{key}={value}" for key, value in sizes.items())]


def test_the_training_split_is_cached_and_trained_from(streets: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: the data set's own samples; what the command prints, which a second time writes nothing."""
    line = "{} of 3 images newly decoded into data/cache; train from them with cache=data/cache\n"
    for written in (3, 0):
        prepare_cache(streets)
        assert capsys.readouterr().out == line.format(written)
    config = compose_config([*streets, "cache=data/cache"])
    cached, plain = build_training.build_train_set(config), build.build_dataset(config, "train")
    assert isinstance(cached, CachedImages)
    assert len(cached) == len(plain)
    for index in range(len(plain)):
        assert np.array_equal(cached[index]["image"], plain[index]["image"])
        assert np.array_equal(cached[index]["mask"], plain[index]["mask"])


def test_bad_samples_are_left_out_where_training_skips_them(
    streets: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Oracle: the line printed, and the data set's own samples but one, whose error names the file."""
    config = compose_config(streets)
    build.prepare_dataset(config)
    plain = build.build_dataset(config, "train")
    plain.pairs[1].image.write_bytes(plain.pairs[1].image.read_bytes()[:60])
    with pytest.raises(DataError, match=plain.pairs[1].image.name):
        prepare_cache(streets)
    prepare_cache([*streets, "trainer.on_bad_sample=skip"])
    assert capsys.readouterr().out.startswith("1 of 3 images newly decoded")  # one was before the error
    config = compose_config([*streets, "cache=data/cache", "trainer.on_bad_sample=skip"])
    cached = build_training.build_train_set(config)
    assert np.array_equal(cached[2]["image"], plain[2]["image"])
    with pytest.raises(DataError, match=plain.pairs[1].image.name):
        cached[1]


def test_training_without_the_cache_that_it_names(streets: list[str]) -> None:
    """Oracle: the message, which names the command; the folder that `cache` names is the one that is filled."""
    told = [*streets, "cache=other"]
    config = compose_config(told)
    build.prepare_dataset(config)
    with pytest.raises(DataError, match=r"the cache other lacks 3 of 3 images.*python tools/prepare_data\.py cache"):
        build_training.build_train_set(config)
    prepare_cache(told)
    assert len(build_training.build_train_set(config)) == 3


@pytest.mark.parametrize(("override", "error"), [("dataset=context_probe", DataError), ("dataset.rot=x", ConfigError)])
def test_mistakes(streets: list[str], override: str, error: type[Exception]) -> None:
    """Oracle: one line for a data set without files, and for a mistyped key."""
    overrides = [override] if "=context" in override else [*streets, f"+{override}"]
    with pytest.raises(error):
        prepare_cache(overrides)
