"""Batches: which samples, in what order, of what shape."""

from pathlib import Path

import numpy as np
import pytest
import torch

from ccnet.data.augmentation import ScaleCropFlip
from ccnet.data.cityscapes import Cityscapes
from ccnet.data.loader import collate, evaluation_batches, permutation, train_batches
from ccnet.errors import DataError


@pytest.fixture
def dataset(cityscapes: Path) -> Cityscapes:
    """Four training images."""
    return Cityscapes(str(cityscapes), "train")


AUGMENTATION = ScaleCropFlip((24, 32))


def test_epochs_see_every_image_once_and_augment_anew(dataset: Cityscapes) -> None:
    """Oracle: the set of names; with four images and batches of four a step is an epoch."""
    batches = list(train_batches(dataset, AUGMENTATION, seed=5, batch_size=4, steps=range(3), workers=0))
    names = [sorted(batch["name"]) for batch in batches]
    assert names == [sorted(pair.name for pair in dataset.pairs)] * 3
    pictures = {batch["image"][batch["name"].index(names[0][0])].numpy().tobytes() for batch in batches}
    assert len(pictures) == 3


def test_batches_cross_epochs(dataset: Cityscapes) -> None:
    """Oracle: 4 steps of 3 see each of 4 images three times."""
    batches = train_batches(dataset, AUGMENTATION, seed=5, batch_size=3, steps=range(4), workers=0)
    names = [name for batch in batches for name in batch["name"]]
    assert sorted(names) == sorted([pair.name for pair in dataset.pairs] * 3)


def test_ranks_share_the_batch(dataset: Cityscapes) -> None:
    """Oracle: the batch of one rank."""
    args = {"seed": 5, "batch_size": 4, "steps": range(2), "workers": 0}
    whole = [batch["name"] for batch in train_batches(dataset, AUGMENTATION, **args)]
    shares = [
        [batch["name"] for batch in train_batches(dataset, AUGMENTATION, **args, rank=rank, world_size=2)]
        for rank in range(2)
    ]
    assert [left + right for left, right in zip(*shares, strict=True)] == whole
    with pytest.raises(DataError, match="cannot be shared by 3 ranks"):
        next(iter(train_batches(dataset, AUGMENTATION, **args, world_size=3)))


def test_seeds_and_epochs_permute_differently() -> None:
    """Oracle: numpy, and that a permutation is one."""
    orders = {tuple(permutation(seed, epoch, 50)) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9
    assert all(sorted(order) == list(range(50)) for order in orders)


def test_batches_are_uint8_and_channels_last(dataset: Cityscapes) -> None:
    """Oracle: the array that was decoded."""
    batch = collate([dataset[0], dataset[1]])
    assert batch["image"].shape == (2, 3, 48, 64)
    assert np.array_equal(batch["image"][0].permute(1, 2, 0).numpy(), dataset[0]["image"])
    assert batch["image"].permute(0, 2, 3, 1).is_contiguous()
    with pytest.raises(DataError, match="different sizes"):
        collate([dataset[0], {**dataset[1], "image": np.zeros((4, 4, 3), np.uint8)}])


def test_regions_are_stacked_where_samples_have_one(dataset: Cityscapes) -> None:
    """Oracle: numpy; a batch of samples without regions has none."""
    samples = [{**dataset[i], "region": np.full((48, 64), i, np.uint8)} for i in range(2)]
    batch = collate(samples)
    assert np.array_equal(batch["region"].numpy(), np.stack([sample["region"] for sample in samples]))
    assert "region" not in collate([dataset[0]])


def test_maps_of_files_are_copied(dataset: Cityscapes, tmp_path: Path) -> None:
    """Oracle: the pixels; torch warns of memory that cannot be written to."""
    samples = [dataset[0], dataset[1]]
    for index, sample in enumerate(samples):
        np.save(tmp_path / f"{index}.npy", sample["image"])
    maps = [np.load(tmp_path / f"{index}.npy", mmap_mode="r") for index in range(2)]
    batch = collate([{**sample, "image": mapped} for sample, mapped in zip(samples, maps, strict=True)])
    assert torch.equal(batch["image"], collate(samples)["image"])
    assert torch.equal(collate([{**samples[0], "image": maps[0]}])["image"], collate(samples[:1])["image"])


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bad_file_is_named_without_the_workers_traceback(dataset: Cityscapes, workers: int) -> None:
    """Oracle: one line that names the file."""
    dataset.pairs[2].image.write_bytes(b"not an image")
    with pytest.raises(DataError) as caught:
        list(evaluation_batches(dataset, workers=workers))
    assert str(caught.value).startswith(str(dataset.pairs[2].image))
    assert "\n" not in str(caught.value)
