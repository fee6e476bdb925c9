"""Numbers gone bad, on one rank alone or on one of two: no rank takes them in."""

import json
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ccnet import build, build_training, checkpoint, distributed
from ccnet.schema import RunConfig
from ccnet.training.modes import freeze_norms
from tests.faults.interruptions import Preparation, ends, on_two_ranks, recorded, spoiled, train_after
from tests.faults.zygote import Victim, Zygote, outcome, run_config

EVERYTHING = ("weights", "statistics", "optimizer", "average")
SHARED = ("weights", "optimizer", "average")  # without SyncBatchNorm each rank has statistics of its own


def rows_of(path: Path) -> dict[int, dict[str, Any]]:
    """By step."""
    return {row["step"]: row for row in map(json.loads, path.read_text().splitlines())}


def run_ranks(
    zygote: Zygote, config: RunConfig, num_ranks: int, *preparations: list[Preparation]
) -> tuple[list[Victim], list[int]]:
    """The victims and how they ended."""
    if num_ranks == 2:
        victims = on_two_ranks(zygote, config, *preparations)
    else:
        victims = [zygote.fork(train_after, config, *preparations[0])]
    return victims, ends(*victims)


@pytest.mark.parametrize("kind", ["loss", "gradient"])
@pytest.mark.parametrize("num_ranks", [1, 2])
def test_a_bad_step_leaves_no_trace_on_any_rank(
    kind: str, num_ranks: int, zygote: Zygote, data: Path, place: Path, tmp_path: Path
) -> None:
    """Oracle: digests of weights, norm statistics and optimizer on each rank before the step; those that ranks share
    are equal on both after every step; the bad rank's images, as a run without the fault reads them."""
    config, bad = run_config(data, place, "trainer.save_every=100"), num_ranks - 1
    records = [tmp_path / f"{rank}.jsonl" for rank in range(num_ranks)]
    spoil = partial(spoiled, kind, {3, 5})
    preparations = [[partial(recorded, path), *([spoil] if rank == bad else [])] for rank, path in enumerate(records)]
    victims, statuses = run_ranks(zygote, config, num_ranks, *preparations)
    assert statuses == [0] * num_ranks, [victim.told() for victim in victims]
    rows = [rows_of(path) for path in records]
    for own in rows:
        for step in range(2, 9):
            kept = [name for name in EVERYTHING if own[step][name] == own[step - 1][name]]
            assert own[step]["skipped"] == (step in (3, 5))
            assert set(kept) >= {"weights", "statistics", "optimizer"} if step in (3, 5) else not kept
    for step in range(1, 9):
        assert all(rows[0][step][name] == rows[bad][step][name] for name in SHARED)
    dumped = [json.loads(line) for line in (place / "run" / "bad_batches.jsonl").read_text().splitlines()]
    (third,) = (row for row in dumped if (row["step"], row["rank"]) == (3, bad))
    share = 2 // num_ranks
    dataset = build_training.build_train_set(config)
    batch = next(build_training.build_train_batches(config, dataset, 2))["name"][bad * share :]
    assert third["names"] == batch
    assert "nan" in (third["wrong"] if kind == "loss" else third["gradient norm"])
    assert re.search(rf"step 3.* left out: not finite \(.*nan.* on {', '.join(batch)}\n", victims[bad].told())


def test_a_bad_step_leaves_the_average_alone(zygote: Zygote, config: RunConfig, tmp_path: Path) -> None:
    """Oracle: digests of the averaged weights before the step."""
    zygote.finish(train_after, config, partial(recorded, tmp_path / "0.jsonl"), partial(spoiled, "loss", {5}))
    rows = rows_of(tmp_path / "0.jsonl")
    assert rows[5]["average"] == rows[4]["average"]


@pytest.mark.parametrize("num_ranks", [1, 2])
def test_bad_steps_in_a_row_stop_all_ranks(num_ranks: int, zygote: Zygote, data: Path, place: Path) -> None:
    """Oracle: status 2 and one line on each rank; the last checkpoint is whole and finite and remembers the bad step
    before it; without the fault the run goes on to the outcome of one that leaves out the steps before alone."""
    config = run_config(data, place, "trainer.max_bad_steps=3")
    prepare: list[list[Preparation]] = [[] for _ in range(num_ranks)]
    prepare[-1] = [partial(spoiled, "loss", {4, 5, 6})]
    victims, statuses = run_ranks(zygote, config, num_ranks, *prepare)
    assert statuses == [2] * num_ranks, [victim.told() for victim in victims]
    for victim in victims:
        assert "error: not finite 3 times in a row, last at step 6" in victim.told()
        assert "lower optimizer.lr, set trainer.clip_grad_norm, or train in fp32 or bf16" in victim.told()
    found = checkpoint.newest(place / "run" / "checkpoints")
    assert found is not None
    assert found.step == 5
    assert found.state_of("trainer")["bad_in_a_row"] == 2
    assert all(tensor.isfinite().all() for state in (found.model, found.weights) for tensor in state.values())
    _, statuses = run_ranks(zygote, config, num_ranks, *[[] for _ in range(num_ranks)])
    assert statuses == [0] * num_ranks
    other = run_config(data, place / "other", "trainer.max_bad_steps=3")
    prepare[-1] = [partial(spoiled, "loss", {4, 5})]
    _, statuses = run_ranks(zygote, other, num_ranks, *prepare)
    assert outcome(place / "run") == outcome(place / "other" / "run")


def test_the_count_of_bad_steps_outlives_a_resume(zygote: Zygote, data: Path, place: Path) -> None:
    """Oracle: two bad steps and the third after a resume are three in a row."""
    config = run_config(data, place, "trainer.max_bad_steps=3")
    spoil = partial(spoiled, "loss", {4, 5, 6})
    assert ends(zygote.fork(train_after, config, spoil)) == [2]
    again = zygote.fork(train_after, config, spoil)
    assert ends(again) == [2]
    assert "continues at step 5" in again.told()
    assert "error: not finite 3 times in a row, last at step 6" in again.told()


@pytest.mark.parametrize("ignored", [{0}, {1}, {0, 1}])
def test_a_batch_without_a_label_is_a_step_like_others(
    ignored: set[int], zygote: Zygote, data: Path, place: Path, tmp_path: Path
) -> None:
    """Oracle: nothing is left out; weights move alike on both ranks and stay finite, and so does every row."""
    config = run_config(data, place, "trainer.log_every=1")
    records = [tmp_path / f"{rank}.jsonl" for rank in range(2)]
    spoil = partial(spoiled, "ignored", {3})
    preparations = [
        [partial(recorded, path), *([spoil] if rank in ignored else [])] for rank, path in enumerate(records)
    ]
    victims, statuses = run_ranks(zygote, config, 2, *preparations)
    assert statuses == [0, 0], [victim.told() for victim in victims]
    rows = [rows_of(path) for path in records]
    for step in range(1, 9):
        assert not rows[0][step]["skipped"]
        assert all(rows[0][step][name] == rows[1][step][name] for name in SHARED)
    found = checkpoint.newest(place / "run" / "checkpoints")  # what is saved is finite
    assert found is not None
    assert found.step == 8
    losses = {row["step"]: row["loss"] for row in outcome(place / "run")["rows"] if "lr" in row}
    assert set(losses) == set(range(1, 9))
    assert (losses[3] == 0) == (len(ignored) == 2)


def fit_frozen(config: RunConfig, path: Path) -> None:
    """A victim: trains with norms frozen on images of which some pixels are to be ignored; writes the weights."""

    def uneven(batches: Any) -> Iterator[Any]:
        for batch in batches:
            for mask, name in zip(batch["mask"], batch["name"], strict=True):
                mask[VALID_ROWS[int(Path(name).stem)] :] = 255
            yield batch

    device = distributed.setup("cpu")
    torch.manual_seed(0)
    dataset = build_training.build_train_set(config)
    model = build.build_model(config, dataset.num_classes, pretrained=False)
    freeze_norms(model)
    trainer = build_training.build_trainer(config, model, device)
    trainer.fit(uneven(build_training.build_train_batches(config, dataset, 0)))
    if distributed.is_main():
        torch.save(model.state_dict(), path)
    distributed.barrier()
    distributed.shutdown()


VALID_ROWS = [0, 2, 24, 11, 1]  # of each image: all of the first one is ignored


def test_ranks_and_parts_weigh_pixels_alike(zygote: Zygote, data: Path, place: Path, tmp_path: Path) -> None:
    """Oracle: one rank with the whole batch at once: each image is a part of its own, or shares one, with images that
    have more or fewer valid pixels or none, and the weights after five steps are equal to 1e-6."""
    weights: dict[tuple[int, int], dict[str, Tensor]] = {}
    for num_ranks, parts in ((1, 1), (1, 4), (2, 1), (2, 2)):
        words = ["optimizer=sgd", "schedule=constant", "head.dropout=0.0", "trainer.max_steps=5"]
        config = run_config(data, place, *words, "trainer.batch_size=4", f"trainer.accumulation={parts}")
        path = tmp_path / f"{num_ranks}-{parts}.pt"
        if num_ranks == 2:
            victims = on_two_ranks(zygote, config, body=partial(fit_frozen, path=path))
        else:
            victims = [zygote.fork(fit_frozen, config, path)]
        assert ends(*victims) == [0] * num_ranks, [victim.told() for victim in victims]
        weights[num_ranks, parts] = torch.load(path)
    before = build.build_model(config, 2, pretrained=False).state_dict()
    assert any(not torch.equal(before[name], weights[1, 1][name]) for name in before)
    for kind in weights:
        torch.testing.assert_close(weights[kind], weights[1, 1], rtol=0, atol=1e-6, msg=str(kind))


def half_precision(initial_scale: float) -> None:
    """Gradients overflow at first, and the scale begins low."""
    from ccnet.training.trainer import Trainer

    forward_backward, make = Trainer._forward_backward, Trainer.__init__

    def low(trainer: Any, *arguments: Any, **options: Any) -> None:
        make(trainer, *arguments, **options)
        trainer.scaler = torch.amp.GradScaler("cpu", init_scale=initial_scale, growth_interval=1000)

    def overflow(trainer: Any, batch: Any) -> Any:
        terms = forward_backward(trainer, batch)
        if trainer.step < 2:
            next(p for p in trainer.model.parameters() if p.grad is not None).grad.fill_(float("inf"))
        return terms

    Trainer.__init__, Trainer._forward_backward = low, overflow  # type: ignore[method-assign]


@pytest.mark.parametrize(("scale", "bad"), [(4.0, 0), (2.0, 1), (1.5, 1)])
def test_the_scale_of_half_precision_never_falls_below_one(
    scale: float, bad: int, zygote: Zygote, data: Path, place: Path
) -> None:
    """Oracle: by hand: two overflows halve the scale until it is 1; at 1 they are bad steps; all that is saved is
    finite."""
    config = run_config(data, place, "trainer.precision=fp16", "trainer.log_every=1")
    told = zygote.finish(train_after, config, partial(half_precision, scale))
    found = checkpoint.newest(place / "run" / "checkpoints")
    assert found is not None
    assert found.step == 8
    assert found.state_of("trainer")["scaler"]["scale"] == 1
    assert told.count("left out: not finite") == bad


def test_batches_are_always_full(data: Path, place: Path) -> None:
    """Oracle: five images in batches of two or four for three epochs: no last batch of one, on any rank."""
    for batch_size in (2, 4):
        config = run_config(data, place, f"trainer.batch_size={batch_size}")
        dataset = build_training.build_train_set(config)
        assert {len(batch["name"]) for batch in build_training.build_train_batches(config, dataset, 0)} == {batch_size}


def test_a_norm_of_a_single_number_is_told_before_anything_is_saved(zygote: Zygote, data: Path, place: Path) -> None:
    """Oracle: PyTorch's error, for a batch of one image whose features are 1x1, and a folder without a checkpoint."""
    config = run_config(data, place, "augmentation.crop_size=[8,8]", "trainer.accumulation=2")
    victim = zygote.fork(train_after, config)
    assert ends(victim) != [0]
    assert "Expected more than 1 value per channel" in victim.told()
    assert checkpoint.newest(place / "run" / "checkpoints") is None
