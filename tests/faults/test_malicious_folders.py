"""Checkpoint folders made to do harm, under a manifest that is right or made to do harm itself."""

import json
import os
import random
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from ccnet import checkpoint
from ccnet.errors import UserError
from ccnet.sealed_folder import MANIFEST
from tests.faults.attacks import limits, sign
from tests.faults.victim import Make, Victim, make_victim

FILES = ["model.safetensors", "optimizer.safetensors", "ema.safetensors", "meta.json", MANIFEST]
MUTANTS = 290  # of each file, with and without a manifest that is right for them


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Victim:
    """A run and a whole checkpoint of it."""
    return make_victim(tmp_path_factory.mktemp("made"), tmp_path_factory.mktemp("place"))


def refuse_all(victim: Victim, changes: dict[str, Make], *, signed: bool, entries: str = "load resume init") -> None:
    """Each change is refused by each entry."""
    calls = {"load": victim.load, "resume": victim.resume, "init": victim.begin_from}
    for name, change in changes.items():
        run = victim.attacked(change, signed=signed)
        try:
            victim.refuses(run, *(calls[entry] for entry in entries.split()))
        except BaseException as error:
            error.add_note(f"attack: {name}")
            raise
        finally:
            victim.clear()


def _socket(path: Path) -> None:
    os.chdir(path.parent)  # the address of a socket is short
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(path.name)


def _sparse(path: Path, size: int) -> None:
    path.touch()
    os.truncate(path, size)


def _claimed(path: Path) -> None:
    """48 GiB of nothing, as the manifest says."""
    _sparse(path, 48 << 30)
    manifest = path.parent / MANIFEST
    entries = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**entries, path.name: {"bytes": 48 << 30, "sha256": "0" * 64}}))


def _outside(path: Path) -> None:
    """A link to a file outside with the right contents."""
    outside = path.parents[2] / f"outside-{path.name}"
    outside.write_bytes(path.with_name(f"{path.name}.moved").read_bytes())
    path.symlink_to(outside)


SWAPS: dict[str, Make] = {
    "nothing": lambda path: None,
    "empty": Path.touch,
    "folder": Path.mkdir,
    "pipe": os.mkfifo,
    "socket": _socket,
    "link to itself": lambda path: path.symlink_to(path),
    "link to nothing": lambda path: path.symlink_to("gone"),
    "link to zeros": lambda path: path.symlink_to("/dev/zero"),
    "link outside": _outside,
    "link inside": lambda path: path.symlink_to(f"{path.name}.moved"),
    "terabyte": lambda path: _sparse(path, 1 << 40),
    "gigabytes": lambda path: _sparse(path, 48 << 30),
    "gigabytes as claimed": _claimed,
}


@pytest.mark.parametrize("file", FILES)
def test_what_is_no_plain_file(file: str, victim: Victim, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the refusal, at once, and the memory that is there."""
    monkeypatch.chdir(victim.place)

    def swapped(make: Make) -> Make:
        def change(folder: Path) -> None:
            (folder / file).rename(folder / f"{file}.moved")
            make(folder / file)

        return change

    swaps = {name: swapped(make) for name, make in SWAPS.items() if file != MANIFEST or make is not _claimed}
    refuse_all(victim, swaps, signed=False)


def _manifest(change: Callable[[dict[str, Any]], Any]) -> Make:
    def write(folder: Path) -> None:
        text = (folder / MANIFEST).read_text()
        changed = change(json.loads(text))
        (folder / MANIFEST).write_text(changed if isinstance(changed, str) else json.dumps(changed))

    return write


def _value(key: str, value: Any) -> Make:
    return _manifest(lambda manifest: {**manifest, "meta.json": {**manifest["meta.json"], key: value}})


ENTRY = {"bytes": 0, "sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}
MANIFESTS: dict[str, Make] = {
    **{f"also {name}": _manifest(lambda manifest, name=name: {**manifest, name: ENTRY}) for name in (
        "../secret", "/etc/passwd", "..", ".", "", "a/b", "C:\\x", "meta.json/", "./meta.json", "META.JSON", "x\0y",
        "\u202e", MANIFEST, "-rf", "~", "$HOME", "model.pth", "../step_0000007/meta.json", "x" * 1000)},
    **{f"without {name}": _manifest(lambda manifest, name=name: {k: v for k, v in manifest.items() if k != name})
       for name in ("model.safetensors", "optimizer.safetensors", "meta.json")},
    **{f"instead {value!r:.20}": _manifest(lambda _, value=value: value) for value in (
        [], {}, None, 5, "", "{", "[" * 100_000, '{"a":' * 100_000, "NaN", "1e999", "9" * 10_000, "\ufeff{}", "null",
        '{"a": Infinity}', "{} {}", "'", '"\\ud800"', [{}], {"meta.json": []})},
    **{f"size {value!r:.20}": _value("bytes", value) for value in (
        "1", None, -1, 10**30, 1.5, [], {}, True, float("nan"), float("inf"), "9" * 5000)},
    **{f"hash {value!r:.20}": _value("sha256", value) for value in ("", None, 0, "0" * 64, "A" * 64, ["a"], {}, True)},
    "more in an entry": _value("path", "../secret"),
}  # fmt: skip


def test_manifests(victim: Victim) -> None:
    """Oracle: the refusal."""
    refuse_all(victim, MANIFESTS, signed=False)


def _meta(change: Callable[[dict[str, Any]], Any]) -> Make:
    def write(folder: Path) -> None:
        changed = change(json.loads((folder / "meta.json").read_text()))
        (folder / "meta.json").write_text(changed if isinstance(changed, str) else json.dumps(changed))

    return write


def _without(key: str) -> Make:
    return _meta(lambda meta: {name: value for name, value in meta.items() if name != key})


def _with(key: str, *values: Any) -> dict[str, Make]:
    return {f"{key} {value!r:.30}": _meta(lambda meta, value=value: {**meta, key: value}) for value in values}


def _state(part: str, **changes: list[Any]) -> dict[str, Make]:
    return {
        f"{part} {key} {value!r:.30}": _meta(
            lambda meta, key=key, value=value: {
                **meta, "parts": {**meta["parts"], part: {**meta["parts"][part], key: value}}}
        ) for key, values in changes.items() for value in values
    }  # fmt: skip


NAN, INF, BIG, DEEP = float("nan"), float("inf"), 10**400, "[" * 900 + "]" * 900
ODD = [None, "7", [7], {}, True, -1, 7.0, NAN, INF, BIG, 2**53]
ALL: dict[str, Make] = {
    **{f"instead {value!r:.30}": _meta(lambda _, value=value: value) for value in (
        [], 5, None, "", "[" * 100_000, '{"a":' * 100_000, "x", "\xff", '{"step": 7}', '{"step": 7, "score": null}')},
    **_with("step", *ODD), **_with("score", "0.5", [0.5], {}, True, NAN, INF, -INF, BIG, -BIG),
    "no step": _without("step"), "no score": _without("score"),
}  # fmt: skip
LOADED: dict[str, Make] = {
    "no config": _without("config"), "no class names": _without("class_names"), "no palette": _without("palette"),
    **_with("config", None, 5, [], {}, "x", [["name", "x"]], json.loads(DEEP), {"name": json.loads(DEEP)}),
    **_with("class_names", None, 5, [], {}, "ab", ["a"], ["a", 1], ["a", None], [["a"], "b"], ["a"] * 100_000, {"a": 1},
            ["a", json.loads(DEEP)]),
    **_with("palette", None, 5, [], {}, "ab", [[0, 0, 0]], [[0, 0], [1, 1]], [[0, 0, 256]] * 2, [[0, 0, -1]] * 2,
            [["1", "2", "3"]] * 2, [[0, 0, INF]] * 2, [[0, 0, NAN]] * 2, [[0, 0, BIG]] * 2, [[0.5, 1, 2]] * 2,
            [None, None], ["abc", "def"], [[0, 0, True]] * 2, [[0, 0, 0]] * 3, [json.loads(DEEP)] * 2),
}  # fmt: skip
RESUMED: dict[str, Make] = {
    "no parts": _without("parts"), "no optimizer": _without("optimizer"),
    **_with("parts", None, [], 5, "x", {}, {"trainer": {}}, {"trainer": [], "log": [], "early_stopping": []}),
    **_with("class_pixels", 5, "ab", [1], [1, 2, 3], [1, "2"], [1, -2], [1, 2**63], [1, BIG], [1, NAN], [1, True], {}),
    **_with("optimizer", None, [], 5, "x", {"x.y": 1}, {"": 1}, {"0.step": "1"}, {"0.step": []}, {"-1.step": 1.0},
            {"0.step": NAN}, {"999.step": 1.0}, {"0.exp_avg": 3.0}, {"0.exp_avg": None}, {"0.step": BIG},
            {"1e3.step": 1}, {" 0.step": 1.0}),
    **_state("trainer", bad_in_a_row=["1", None, NAN, True, [], 1.0], scaler=[None, [], 5, {"scale": 1.0}, "x"]),
    **_state("log", last_step=[*ODD, 8], bad_steps=[*ODD, 8], names=[None, "ab", [1], ["a", "a"], {}, ["a"], 5],
             sums=[None, "ab", [1], [[1.0]], [[None]], {}, 5, [["1"]], [[1.0, 2.0]], [[]]]),
    **_state("early_stopping", best=["1", NAN, INF, -INF, [], {}, True], waited=[None, "1", -1, 1.0, NAN, True, []],
             more=[1]),
}  # fmt: skip


def test_meta(victim: Victim) -> None:
    """Oracle: the refusal by whatever reads the field."""
    refuse_all(victim, ALL, signed=True)
    refuse_all(victim, LOADED, signed=True, entries="load")
    refuse_all(victim, RESUMED, signed=True, entries="resume")
    unknown = _with("class_names", None, 5, {}, "ab", ["a", 1])
    refuse_all(victim, unknown, signed=True, entries="init")


def _tensors(file: str, change: Callable[[dict[str, torch.Tensor]], object]) -> Make:
    def write(folder: Path) -> None:
        state = load_file(folder / file)
        change(state)
        save_file(state, folder / file)

    return write


def _set(file: str, value: Callable[[torch.Tensor], torch.Tensor], names: str) -> Make:
    def change(state: dict[str, torch.Tensor]) -> None:
        name = next(name for name in state if name.endswith(names))
        state[name] = value(state[name])

    return _tensors(file, change)


WORSE: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "not a number": lambda value: value * NAN,
    "infinite": lambda value: value + INF,
    "longer": lambda value: torch.cat([value, value]) if value.ndim else value.expand(3).clone(),
    "of another rank": lambda value: value[None],
    "complex": lambda value: value.to(torch.complex64),
    "integers": lambda value: value.to(torch.int64),
    "truths": lambda value: value.bool(),
    "nothing": lambda value: value.new_zeros(0),
}


@pytest.mark.parametrize("kind", WORSE)
def test_tensors(kind: str, victim: Victim) -> None:
    """Oracle: the refusal of weights, averages and moments that are not what the model and its optimizer hold."""
    weights = {file: _set(file, WORSE[kind], "bias") for file in ("model.safetensors", "ema.safetensors")}
    refuse_all(victim, weights, signed=True, entries="resume")
    refuse_all(victim, {"ema": weights["ema.safetensors"]}, signed=True, entries="load")
    if kind not in ("integers", "truths"):  # which an optimizer makes its own kind of numbers of
        names = (".exp_avg", ".exp_avg_sq", "1.step")
        moments = {name: _set("optimizer.safetensors", WORSE[kind], name) for name in names}
        refuse_all(victim, moments, signed=True, entries="resume")


def _renamed(old: str, new: str) -> Make:
    return _tensors("optimizer.safetensors", lambda state: state.__setitem__(new, state.pop(old)))


def test_optimizer_states_of_something_else(victim: Victim) -> None:
    """Oracle: the refusal of names that belong to no parameter."""
    names = ["999.exp_avg", "-1.exp_avg", "x.exp_avg", "", ".", "1e1.step", "0x1.step", "9" * 5000 + ".step"]
    refuse_all(victim, {name: _renamed("0.exp_avg", name) for name in names}, signed=True, entries="resume")


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("file", FILES)
def test_mutants(file: str, signed: bool, victim: Victim) -> None:
    """Oracle: a `UserError` or, where the change is harmless and the manifest right, none: no other exception."""
    if signed and file == MANIFEST:
        return
    rng = random.Random(file)
    data = (victim.good / file).read_bytes()
    focus = len(data) if signed is False or file == "meta.json" else min(len(data), 3000)
    run = victim.attacked(lambda folder: None, signed=False)
    path = run / "checkpoints" / victim.good.name
    refused = 0
    for _ in range(MUTANTS // (1 + signed)):
        mutant = bytearray(data)
        for _ in range(rng.choice([1, 1, 3])):
            at = rng.randrange(focus)
            new = rng.choice(
                [bytes([rng.randrange(256)]), rng.choice([b"9", b"-", b"{", b"[", b'"', b"}", b",", b"e9"])]
            )
            mutant[at : at + rng.choice([0, 1, 1, 8])] = new
        (path / file).write_bytes(mutant)
        if signed:
            sign(path)
        for entry in (victim.load, victim.resume, victim.begin_from) if signed else (lambda _: checkpoint.load(path),):
            try:
                with limits():
                    entry(run)
            except UserError as error:
                assert str(run) in str(error)  # noqa: PT017
                refused += 1
    victim.clear()
    assert refused > MUTANTS / 2 if not signed else refused


def test_enough_was_tried() -> None:
    """Oracle: what the issue asks for."""
    swaps, names = len(SWAPS) * len(FILES) - 1, 8
    count = swaps + len(MANIFESTS) + len(ALL) + len(LOADED) + len(RESUMED) + 5 + 6 * 3 + 2 * len(WORSE) + names
    mutants = MUTANTS * len(FILES) + MUTANTS // 2 * (len(FILES) - 1)
    print(f"{count} malicious folders, {mutants} mutants")
    assert count >= 200
    assert mutants >= 2000
