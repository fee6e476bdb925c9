"""Training images that cannot be read: replaced by a rule, counted, named, and not too many of them."""

import logging
from collections.abc import Iterable

import numpy as np
import pytest

from ccnet.data.augmentation import Unchanged
from ccnet.data.bad_samples import BadSamples, first_readable
from ccnet.data.loader import Batch, evaluation_batches, permutation, train_batches
from ccnet.data.sample import Sample
from ccnet.errors import DataError


class Numbers:
    """Samples that say which they are, but for some that cannot be read."""

    class_names = ("a",)
    palette = ((0, 0, 0),)
    num_classes = 1
    region_names = ()

    def __init__(self, size: int, bad: Iterable[int] = ()) -> None:
        self.size, self.bad = size, set(bad)

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Sample:
        if index in self.bad:
            raise DataError(f"{index}.png cannot be decoded")
        image = np.full((2, 2, 3), index % 256, np.uint8)
        return {"image": image, "mask": np.zeros((2, 2), np.uint8), "name": str(index)}


def batches(dataset: Numbers, steps: range, **extra: object) -> list[Batch]:
    args = {"seed": 5, "batch_size": 4, "workers": 0, "on_bad_sample": "skip", **extra}
    return list(train_batches(dataset, Unchanged(), steps=steps, **args))


@pytest.mark.parametrize(("bad", "workers"), [(7, 0), (7, 2), (int(permutation(5, 0, 20)[-1]), 0)])
def test_the_next_image_of_the_epoch_takes_the_place(bad: int, workers: int) -> None:
    """Oracle: the permutations of two epochs; after an epoch's last image comes its first."""
    found = batches(Numbers(20, [bad]), range(10), workers=workers)
    names = [int(name) for batch in found for name in batch["name"]]
    for epoch in range(2):
        order = permutation(5, epoch, 20).tolist()
        after = order[(order.index(bad) + 1) % 20]
        assert names[20 * epoch : 20 * (epoch + 1)] == [after if index == bad else index for index in order]
    assert [batch["skipped"] for batch in found if "skipped" in batch] == [{bad: f"{bad}.png cannot be decoded"}] * 2


def test_a_replacement_takes_the_seed_of_the_place() -> None:
    """Oracle: the seeds that the augmentation is handed: no two samples of an epoch are the same crop."""
    seeds: list[object] = []

    def record(sample: Sample, seed: np.random.SeedSequence) -> Sample:
        seeds.append(seed.entropy)
        return sample

    list(train_batches(Numbers(20, [7]), record, seed=5, batch_size=20, steps=range(1), workers=0,
                       on_bad_sample="skip"))  # fmt: skip
    assert seeds == [[5, 0, index] for index in permutation(5, 0, 20).tolist()]


def test_each_bad_image_counts_once_and_is_named_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    """Oracle: the log, after as many epochs; one of twenty is allowed."""
    with caplog.at_level(logging.WARNING, "ccnet"):
        batches(Numbers(20, [7]), range(25))
    assert caplog.messages == ["left out 1 of 20 training images: 7.png cannot be decoded"]


@pytest.mark.parametrize("workers", [0, 2])
def test_too_many_bad_images_end_the_run(workers: int, caplog: pytest.LogCaptureFixture) -> None:
    """Oracle: the error and the log name them."""
    with pytest.raises(DataError, match=r"2 of 20 .* trainer.on_bad_sample=skip allows 1: .*\.png") as caught:
        batches(Numbers(20, [7, 11]), range(10), workers=workers)
    assert "7.png" in str(caught.value)
    assert "11.png" in str(caught.value)
    assert len(caplog.messages) == 1


@pytest.mark.parametrize(("total", "limit"), [(1, 1), (999, 1), (1999, 1), (2000, 2), (3475, 3), (100000, 100)])
def test_one_in_a_thousand_may_be_bad(total: int, limit: int) -> None:
    """Oracle: the rule, by hand."""
    bad = BadSamples(total)
    for index in range(limit):
        bad.add({index: "bad"})
        bad.add({index: "bad"})
    with pytest.raises(DataError, match=f"allows {limit}"):
        bad.add({limit: "bad"})


@pytest.mark.parametrize(("total", "world_size", "limit"), [(8000, 1, 8), (8000, 2, 4), (8000, 3, 2), (8000, 16, 1)])
def test_the_ranks_share_what_may_be_bad(total: int, world_size: int, limit: int) -> None:
    """Oracle: the rule, by hand; a lone bad image ends no run."""
    bad = BadSamples(total, world_size)
    bad.add(dict.fromkeys(range(limit), "bad"))
    ranks = "" if world_size == 1 else f" on each of {world_size} ranks"
    with pytest.raises(DataError, match=f"{limit + 1} of 8000 .*=skip allows {limit}{ranks}: bad"):
        bad.add({limit: "bad"})


def test_a_rank_of_a_training_has_its_share() -> None:
    """Oracle: four bad images in four thousand are allowed to one rank, and two to each of two."""
    dataset = Numbers(4000, permutation(5, 0, 4000)[[0, 4, 8, 9]].tolist())
    assert sum(len(batch.get("skipped", {})) for batch in batches(dataset, range(3))) == 4
    with pytest.raises(DataError, match="allows 2 on each of 2 ranks"):
        batches(dataset, range(3), rank=0, world_size=2)


def test_ten_in_a_row_are_tried() -> None:
    """Oracle: the order of an epoch."""
    order = permutation(5, 0, 30).tolist()
    skipped: dict[int, str] = {}
    assert first_readable(Numbers(30, order[:9]), order[:10], skipped)["name"] == str(order[9])
    assert list(skipped) == order[:9]
    with pytest.raises(DataError, match=f"^{order[9]}.png"):
        first_readable(Numbers(30, order[:10]), order[:10], {})
    with pytest.raises(DataError, match="cannot be decoded"):  # every image of a small data set
        batches(Numbers(2, [0, 1]), range(1))


def test_an_error_is_the_default_and_evaluation_never_skips() -> None:
    """Oracle: the error that names the file."""
    with pytest.raises(DataError, match=r"^7.png cannot be decoded$"):
        batches(Numbers(20, [7]), range(5), on_bad_sample="error")
    with pytest.raises(DataError, match=r"^7.png cannot be decoded$"):
        list(evaluation_batches(Numbers(20, [7])))
