"""An evaluation by several ranks against one process. This file is also the program that forks the ranks."""

import json
import multiprocessing
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch import distributed as dist

from ccnet import distributed
from ccnet.data.loader import evaluation_batches
from ccnet.data.sample import Sample
from ccnet.evaluation.evaluator import Evaluator
from ccnet.evaluation.maps import Held
from ccnet.evaluation.outcome import Outcome, Picture
from ccnet.evaluation.submission import write_submission

CPU = torch.device("cpu")
SIZES = range(1, 10)
WORLDS = (1, 2, 4)


class Images:
    """So many images of three sizes, of three classes and two regions; one of them is ignored altogether."""

    class_names, region_names = ("a", "b", "c"), ("near", "far")

    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Sample:
        rng = np.random.default_rng(index)
        size = [(60, 80), (60, 80), (70, 50), (33, 100)][index // 2 % 4]
        small = rng.choice([0, 1, 2, 255], (size[0] // 5 + 1, size[1] // 5 + 1)).astype(np.uint8)
        mask = small.repeat(5, axis=0).repeat(5, axis=1)[: size[0], : size[1]]
        region = rng.choice([0, 1, 255], size).astype(np.uint8)
        image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        image[..., 0] = np.where(rng.random(size) < rng.random(), mask, image[..., 0])
        ignored = np.full_like(mask, 255)
        return {"image": image, "mask": ignored if index == 5 else mask, "name": f"city/{index}", "region": region}


class BySoftmax:
    """The colours of a pixel are its logits."""

    def answer(self, model: nn.Module, image: Tensor) -> Held:
        return Held((image % 64 / 7).softmax(dim=1))


def evaluation(size: int, batch_size: int, rank: int, world_size: int) -> Evaluator:
    images: Any = Images(size)
    return Evaluator(
        lambda: evaluation_batches(images, batch_size=batch_size, rank=rank, world_size=world_size),
        BySoftmax(), images.class_names, CPU, distributed.sum_over_ranks, distributed.gather, images.region_names,
        num_pictures=3, num_worst=4,
    )  # fmt: skip


def told(outcome: Outcome | None) -> dict[str, Any]:
    """All of it, exactly, as JSON."""
    assert outcome is not None

    def content(picture: Picture) -> list[Any]:
        arrays = (picture.image, picture.mask, picture.prediction, picture.region)
        return [picture.name, *(array.tobytes().hex() for array in arrays if array is not None)]

    scores, boundary = outcome.scores, outcome.scores.boundary
    assert boundary is not None
    return {
        "confusion": scores.confusion.tolist(),
        "boundary": boundary.tolist(),
        "regions": {name: counts.tolist() for name, counts in scores.regions.items()},
        "loss": scores.loss.hex(),
        "images": [[image.name, image.counts.tolist(), image.loss.hex(), image.digest] for image in outcome.images],
        "fingerprint": outcome.fingerprint,
        "pictures": [content(picture) for picture in outcome.pictures],
        "worst": [content(picture) for picture in outcome.worst],
    }


def evaluated(rank: int, world_size: int) -> dict[str, Any]:
    found = {}
    for size in SIZES:
        evaluate = evaluation(size, 1 + size % 2, rank, world_size)
        evaluate(nn.Identity())
        found[str(size)] = told(evaluate.outcome)
    return found


def stopped(rank: int) -> bool:
    """Whether the last rank's wish to stop, which comes late, ends the evaluation of all."""
    evaluate = evaluation(9, 1, rank, distributed.world_size())
    evaluate.should_stop = iter([False, rank == distributed.world_size() - 1, *[False] * 9]).__next__
    return evaluate(nn.Identity()) is None and evaluate.outcome is None


def on_a_rank(folder: Path, rank: int) -> None:
    """Joins one group after the other, where it belongs to it."""
    torch.set_num_threads(1)
    for world_size in WORLDS:
        if rank < world_size:
            rendezvous = f"file://{folder / f'rendezvous{world_size}'}"
            dist.init_process_group("gloo", rendezvous, timedelta(seconds=60), world_size=world_size, rank=rank)
            found = {"outcomes": evaluated(rank, world_size), "stopped": stopped(rank)}
            found["gathered"] = distributed.gather([f"{rank} {turn}" for turn in range(3 - rank)])
            found["nothing"] = distributed.gather([])
            batches = evaluation_batches(Images(9), rank=rank, world_size=world_size)  # type: ignore[arg-type]
            submission = folder / f"submission{world_size}"
            table = np.array([7, 8, 11], dtype=np.uint8)
            found["written"] = write_submission(batches, BySoftmax(), nn.Identity(), CPU, table, submission)
            (folder / f"{world_size}_{rank}.json").write_text(json.dumps(found))
            distributed.barrier()
            distributed.shutdown()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ranks 0..3 have written of groups of 1, 2 and 4."""
    folder = tmp_path_factory.mktemp("ranks")
    done = subprocess.run([sys.executable, __file__, str(folder)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder


RANKS = [(world_size, rank) for world_size in WORLDS for rank in range(world_size)]


def test_any_number_of_ranks_finds_the_same(folder: Path) -> None:
    """Oracle: a process without a group: matrix, boundaries, regions, loss, the scores, losses and digests of images in
    their order, fingerprint and pictures, to the bit, for 1 to 9 images, on every rank."""
    alone = evaluated(0, 1)
    assert {len(alone[str(size)]["images"]) - size for size in SIZES} == {0}
    for world_size, rank in RANKS:
        found = json.loads((folder / f"{world_size}_{rank}.json").read_text())["outcomes"]
        for size in SIZES:
            for key, value in alone[str(size)].items():
                assert found[str(size)][key] == value, (world_size, rank, size, key)
    assert [name for name, *_ in alone["9"]["worst"]] != [name for name, *_ in alone["9"]["images"][:4]]


def test_ranks_share_what_else_they_do(folder: Path) -> None:
    """Oracle: one rank's wish stops all; items of all ranks in turns, by hand; each image of a submission once, with
    the same bytes as one process writes."""
    turns = {1: ["0 0", "0 1", "0 2"], 2: ["0 0", "1 0", "0 1", "1 1", "0 2"]}
    turns[4] = ["0 0", "1 0", "2 0", "0 1", "1 1", "0 2"]
    for world_size, rank in RANKS:
        found = json.loads((folder / f"{world_size}_{rank}.json").read_text())
        assert found["stopped"]
        assert found["gathered"] == turns[world_size]
        assert found["nothing"] == []
        assert found["written"] == len(range(rank, 9, world_size))
    whole, *parts = [{path.name: path.read_bytes() for path in folder.glob(f"submission{n}/*")} for n in WORLDS]
    assert sorted(whole) == [f"{index}_leftImg8bit.png" for index in range(9)]
    assert parts == [whole, whole]


def main(program: Callable[[Path, int], None], folder: Path) -> int:
    """Forks the ranks where that can be done, for the sake of what is imported already."""
    methods = multiprocessing.get_all_start_methods()
    context: Any = multiprocessing.get_context("fork" if sys.platform == "linux" else methods[0])
    ranks = [context.Process(target=program, args=(folder, rank)) for rank in range(max(WORLDS))]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join()
    return max(abs(rank.exitcode) for rank in ranks)


if __name__ == "__main__":
    sys.exit(main(on_a_rank, Path(sys.argv[1])))
