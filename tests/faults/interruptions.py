"""What befalls a victim at a chosen moment, alone or as one of two ranks. This file is also a program: tools/train.py
whose ranks wait for a signal.

    victim = zygote.fork(train_after, config, partial(signalled, config, "evaluation", 4, signal.SIGTERM))
"""

import hashlib
import json
import multiprocessing
import os
import runpy
import socket
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any

from ccnet.schema import RunConfig
from tests.faults.disk import watched
from tests.faults.zygote import ROOT, Victim, Zygote, train

Preparation = Callable[[], None]
kept = ExitStack()  # what a victim opens stays open until its end


def train_after(config: RunConfig, *preparations: Preparation) -> None:
    """A victim: something is prepared to befall it."""
    # It is inherited from how the victim was started; tools/train.py has this one on Linux.
    multiprocessing.set_start_method("fork", force=True)
    for prepare in preparations:
        prepare()
    train(config)


def on_two_ranks(
    zygote: Zygote, config: RunConfig, *preparations: Sequence[Preparation], body: Callable[..., None] = train_after
) -> list[Victim]:
    """Two victims that train together, each with its own preparations."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": "2"}
    return [
        zygote.fork(body, config, *own, environment={**group, "RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank, own in enumerate([*preparations, (), ()][:2])
    ]


def ends(*victims: Victim) -> list[int]:
    """Exit statuses; nobody is left of the victims' process groups, but for the moment in which a killed one dies."""
    statuses = [victim.wait() for victim in victims]
    for victim in victims:
        wait_until(lambda victim=victim: not processes_of(victim.pid), victim, seconds=5.0)  # type: ignore[misc]
    return statuses


def processes_of(group: int) -> list[int]:
    """The processes of a process group that are not dead."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            state, _, own_group = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
        except (OSError, ValueError):
            continue  # no process, or not any more
        if int(own_group) == group and state not in "ZX":
            found.append(int(entry.name))
    return found


def wait_until(condition: Callable[[], object], victim: Victim, seconds: float = 60.0) -> None:
    """Fails with what the victim told unless something comes true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.01)
    raise TimeoutError(victim.told())


def at(config: RunConfig, moment: str, step: int, act: Preparation) -> None:
    """Does something once: between the backward pass and the update of a step, after the first batch of an evaluation,
    in the middle of writing the weights of a step's checkpoint, or before this rank's part in it."""
    from ccnet.evaluation.evaluator import _Share
    from ccnet.training.milestones import Milestones
    from ccnet.training.trainer import Trainer

    calls = count()

    def once(is_now: bool) -> None:
        if is_now and next(calls) == 0:
            act()

    if moment == "step":
        before(Trainer, "_update", lambda trainer, *_: once(trainer.step + 1 == step))
    elif moment == "evaluation":
        before(_Share, "add", lambda *_: once(True))
    elif moment == "before save":
        before(Milestones, "_save", lambda _, saved, __: once(saved == step))
    else:
        paths = rf"run/checkpoints/step_{step:07d}\.aside/model\.safetensors"
        kept.enter_context(watched(Path(config.runs_dir), paths, lambda what, _: once(what == "write on")))


def before(owner: Any, name: str, hit: Callable[..., None]) -> None:
    """Calls `hit` with the arguments of a method before each call of it."""
    method = getattr(owner, name)

    def call(*arguments: Any, **options: Any) -> Any:
        hit(*arguments)
        return method(*arguments, **options)

    setattr(owner, name, call)


def signalled(config: RunConfig, moment: str, step: int, number: int, group: bool = False) -> None:
    """A signal comes to the process, or to its process group."""
    at(config, moment, step, lambda: os.killpg(0, number) if group else os.kill(os.getpid(), number))


def signalled_twice(config: RunConfig, moment: str, step: int, number: int) -> None:
    """The same signal comes once more, as from a launcher that passes on what has reached everyone already."""

    def kill() -> None:
        os.kill(os.getpid(), number)
        time.sleep(0.05)
        os.kill(os.getpid(), number)

    at(config, moment, step, kill)


def waiting(config: RunConfig, moment: str, step: int) -> None:
    """Says so and waits for a signal, which it takes note of before it goes on."""
    from ccnet.training.signals import StopSignals

    noted: list[int] = []
    before(StopSignals, "_take_note", lambda _, number, __: noted.append(number))

    def wait() -> None:
        print(f"waiting in process {os.getpid()}", flush=True)
        while not noted:
            time.sleep(0.01)

    at(config, moment, step, wait)


def sleeping(config: RunConfig, moment: str, step: int) -> None:
    """Never goes on; says so, and which signals it took note of."""
    from ccnet.training.signals import StopSignals

    before(StopSignals, "_take_note", lambda _, number, __: print(f"noting {number}", flush=True))

    def sleep() -> None:
        print("sleeping", flush=True)
        while True:
            time.sleep(0.01)

    at(config, moment, step, sleep)


def spoiled(kind: str, steps: Iterable[int]) -> None:
    """Some steps' loss is NaN and its gradient is not, or the other way round; or all their pixels are ignored."""
    from ccnet.training.trainer import Trainer

    forward_backward, wanted = Trainer._forward_backward, set(steps)

    def wrong(trainer: Any, batch: Any) -> Any:
        if trainer.step + 1 not in wanted:
            return forward_backward(trainer, batch)
        if kind == "ignored":
            batch["mask"].fill_(255)
            return forward_backward(trainer, batch)
        loss = trainer.loss

        def with_a_wrong_term(outputs: Any, mask: Any) -> Any:
            logits = outputs.logits
            steep = (logits.sum() * 0).sqrt()  # 0, with a gradient that is NaN
            return {**loss(outputs, mask), "wrong": logits.new_tensor(float("nan")) if kind == "loss" else steep}

        trainer.loss = with_a_wrong_term
        try:
            return forward_backward(trainer, batch)
        finally:
            trainer.loss = loss

    Trainer._forward_backward = wrong  # type: ignore[method-assign]


def recorded(path: Path) -> None:
    """Writes a line after each step: digests of all that it may have changed."""
    from ccnet.training.milestones import Milestones

    def write(milestones: Any, result: Any) -> None:
        states = milestones.trainer.optimizer.state_dict()["state"]
        row = {
            "step": result.step,
            "skipped": result.skipped,
            "weights": digest(milestones.model.parameters()),
            "statistics": digest(milestones.model.buffers()),
            "optimizer": digest(tensor for state in states.values() for tensor in state.values()),
            "average": digest(milestones.average.model.parameters()),
        }
        with path.open("a") as file:
            file.write(json.dumps(row) + "\n")

    before(Milestones, "__call__", write)


def digest(tensors: Iterable[Any]) -> str:
    """SHA-256 of tensors."""
    return hashlib.sha256(b"".join(tensor.detach().numpy().tobytes() for tensor in tensors)).hexdigest()


def without_memory(step: int) -> None:
    """A step asks for more memory than there is."""
    import torch

    from ccnet.training.trainer import Trainer

    def refuse(trainer: Any, _: Any) -> None:
        if trainer.step + 1 == step:
            raise torch.OutOfMemoryError(
                "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 8"
            )

    before(Trainer, "_forward_backward", refuse)


def without_workers(config: RunConfig, moment: str, step: int) -> None:
    """Its data workers are killed."""

    def kill() -> None:
        for child in multiprocessing.active_children():
            child.kill()

    at(config, moment, step, kill)


def with_a_hanging_item(split: str, number: int) -> None:
    """No worker that reads a split comes back from reading its own item with this number."""
    from torch.utils.data import get_worker_info

    from ccnet.data.sample import SegmentationDataset

    numbers = count()

    def hang(dataset: Any, index: int) -> None:
        if get_worker_info() and split in dataset.pairs[index].image.parts and next(numbers) == number:
            time.sleep(1000)

    before(SegmentationDataset, "__getitem__", hang)


if __name__ == "__main__":
    moment, step, *sys.argv[1:] = sys.argv[1:]
    waiting(RunConfig(), moment, int(step))
    runpy.run_path(str(ROOT / "tools" / "train.py"), run_name="__main__")
