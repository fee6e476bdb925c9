"""Configurations in checkpoints that ask for more than a model: refused before anything is imported or made."""

import json
import os
import re
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from ccnet import build, run
from ccnet.config import to_json
from ccnet.data.folder import Folder
from ccnet.errors import ConfigError, UserError
from ccnet.loaded_model import MODEL_PARTS, LoadedModel, load_model
from tests.faults.attacks import limits, snapshot
from tests.faults.victim import CLASSES, CPU, Victim, make_victim

PARTS = (*MODEL_PARTS, "dataset")
OTHERS = [part for part in PARTS if part != "head"]
Tree = dict[str, Any]


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Victim:
    """A run and a whole checkpoint of it."""
    return make_victim(tmp_path_factory.mktemp("made"), tmp_path_factory.mktemp("place"))


def loaded(victim: Victim, change: Mapping[str, Any]) -> LoadedModel:
    """What val gets from a checkpoint whose configuration has other values at some dotted keys."""

    def write(folder: Path) -> None:
        meta = json.loads((folder / "meta.json").read_text())
        for key, value in change.items():
            *parents, last = key.split("/")
            node = meta["config"]
            for name in parents:
                node = node[name]
            node[last] = value
        (folder / "meta.json").write_text(json.dumps(meta))

    path = victim.attacked(write, signed=True) / "checkpoints" / victim.good.name
    before = snapshot(victim.place)
    try:
        with limits():
            return load_model(path, CPU, (), PARTS)
    finally:
        assert snapshot(victim.place) == before
        victim.clear()


def refuse_all(victim: Victim, changes: Mapping[str, Mapping[str, Any]], canary: Path) -> None:
    """Each is refused, as val and predict begin, in one line that names the checkpoint or the class."""
    for name, change in changes.items():
        try:
            build.build_inference(loaded(victim, change).config)
        except UserError as error:
            assert re.search(rf"{victim.place}|ccnet.evaluation.inference", str(error)), name  # noqa: PT017
            assert len(str(error)) < 2000, name  # noqa: PT017
        except BaseException as error:
            error.add_note(f"attack: {name}")
            raise
        else:
            pytest.fail(f"{name} is taken")
        assert not os.path.lexists(canary), name
    assert "antigravity" not in sys.modules
    assert "stranger" not in sys.modules


def targets(canary: Path) -> dict[str, Tree]:
    """What a part could name in place of its class, with arguments that would make the canary."""
    name, code = str(canary), f"open({str(canary)!r}, 'w')"
    groups: list[tuple[str, Tree]] = [
        ("os.system posix.system subprocess.getoutput", {"command": f"touch {name}"}),
        ("subprocess.Popen subprocess.run subprocess.call", {"args": ["touch", name]}),
        ("builtins.eval builtins.exec builtins.compile builtins.__import__", {"_args_": [code]}),
        ("builtins.open io.open os.mkdir os.mknod os.makedirs", {"_args_": [name]}),
        ("pathlib.Path.touch pathlib.Path.mkdir pathlib.Path.unlink", {"self": name}),
    ]
    with_arguments: dict[str, Tree] = {
        **{target: arguments for words, arguments in groups for target in words.split()},
        "pathlib.Path.write_text": {"self": name, "data": "x"}, "shutil.copyfile": {"src": "/etc/hostname",
        "dst": name},
        "shutil.rmtree": {"path": str(canary.parent / "gone")}, "runpy.run_path": {"path_name": name},
        "runpy.run_module": {"mod_name": "stranger"}, "importlib.import_module": {"name": "stranger"},
        "torch.hub.load": {"repo_or_dir": "stranger/net", "model": "x"}, "torch.load": {"f": name,
        "weights_only": False},
        "torch.hub.download_url_to_file": {"url": "http://localhost/x", "dst": name}, "torch.save": {"obj": {},
        "f": name},
        "torch.jit.load": {"f": name}, "torch.utils.model_zoo.load_url": {"url": "http://localhost/x"},
        "numpy.load": {"file": name, "allow_pickle": True}, "numpy.save": {"file": name, "arr": [0]},
        "pickle.loads": {"_args_": ["x"]}, "pickle.load": {}, "yaml.unsafe_load": {"stream": "x"}, "marshal.loads": {},
        "hydra.utils.instantiate": {"config": {"_target_": "pathlib.Path.touch", "self": name}},
        "hydra.utils.get_method": {"path": "os.system"}, "hydra.utils.get_class": {"path": "stranger.Thing"},
        "hydra.utils.call": {"config": {"_target_": "builtins.eval", "_args_": [code]}}, "hydra.main": {},
        "ccnet.data.streets.generate": {"root": name}, "ccnet.preparation.voc.prepare": {"root": name},
        "ccnet.preparation.published_folder.publish_text": {"target": name, "text": "x"},
        "ccnet.build.build_part": {"part": {"_target_": "pathlib.Path.touch", "self": name}},
        "ccnet.run.write_run": {"folder": name}, "ccnet.session.train": {}, "ccnet.checkpoint.save": {"folder": name},
        "ccnet.sealed_folder.write": {"target": name, "files": {}}, "ccnet.sealed_folder.delete": {"path": name},
        "ccnet.models.backbones.weights.load_weights": {"weights": name},
        "ccnet.models.backbones.weights.pickle.loads": {},
        "ccnet.models.backbones.weights.torch.load": {"f": name}, "ccnet.models.backbones.weights.zipfile.ZipFile": {},
        "ccnet.models.segmentor.nn.Module": {}, "ccnet.models.backbones.resnet.torch.load": {"f": name},
        "ccnet.models.backbones.resnet.nn.Sequential": {}, "ccnet.models.backbones.resnet.load_weights": {},
        "ccnet.models.backbones.patches.PatchConv": {"in_channels": 3, "out_channels": 3, "kernel_size": 3},
        "ccnet.models.heads.rcca.nn.Module": {}, "ccnet.models.heads.rcca.Literal": {}, "ccnet.models.heads.rcca": {},
        "ccnet.models.layers.conv.ConvNormAct": {"in_channels": 3, "out_channels": 3},
        "ccnet.models.segmentor.Segmentor": {},
        "ccnet.evaluation.inference.whole": {}, "ccnet.evaluation.inference.Outputs": {},
        "ccnet.evaluation.inference": {}, "ccnet.evaluation.inference.Windows": {},
        "ccnet.evaluation.context_probe.ContextProbeReport": {},
        "ccnet.evaluation.report.write_report": {"folder": name},
        "ccnet.evaluation.report.Path.touch": {"self": name}, "ccnet.evaluation.inference.torch.load": {"f": name},
        "ccnet.data.folder.Path": {}, "ccnet.data.folder.Path.touch": {"self": name}, "ccnet.data.sample.FilePair": {},
        "ccnet.data.cache.CachedImages": {"folder": name}, "ccnet.data.cache.np.load": {"file": name},
        "ccnet.data.folder.Folder.__init__.__globals__": {}, "ccnet.data.folder.Folder.__class__": {},
        "ccnet.models.heads.rcca.RCCAHead.__init__": {}, "ccnet.models.heads.rcca.RCCAHead.__subclasses__": {},
        "ccnet.models.heads.rcca.RCCAHead.load_state_dict": {}, "ccnet.models.heads.rcca.RCCAHead.__reduce__": {},
        "stranger.Thing": {}, "antigravity.geohash": {}, "this.s": {}, "ccnet_models.heads.X": {}, "ccnet": {}, "": {},
    }  # fmt: skip
    head = "ccnet.models.heads.rcca.RCCAHead"
    # Look-alikes (a Cyrillic c, a full-width R), dots and blanks, and what is no name at all.
    odd = [head.replace("c", "\u0441", 1), head.replace("R", "\uff32"), f" {head}", f"{head} ", f"{head}.",
    f".{head}", f"{head}\0",
           head.replace(".", ".."), head.replace(".", "/"), head.replace("heads.", "heads.../"), "ccnet.models.heads.",
           "ccnet.models.heads..os.system", "ccnet.models.heads.__builtins__.eval", f"{head}\nos.system", head.upper(),
           "ccnet.models.heads.rcca.__loader__", "ccnet.models.heads.rcca.__builtins__", "a." * 30_000,
           [head], {"_target_": head}, 5, None, True, {}]  # fmt: skip
    named = {name: {"_target_": name, **arguments} for name, arguments in with_arguments.items()}
    return named | {f"odd {number}": {"_target_": target} for number, target in enumerate(odd)}


@pytest.mark.parametrize("part", PARTS)
def test_targets(part: str, victim: Victim, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the canary, a module on the path that would make it, and the refusal."""
    canary = tmp_path / "canary"
    (tmp_path / "stranger.py").write_text(f"open({str(canary)!r}, 'w').close()\nclass Thing:\n    pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: pytest.fail("somebody asked the network"))
    # All of them as a head, and each as one of the other parts.
    share = slice(None) if part == "head" else slice(OTHERS.index(part), None, len(OTHERS))
    refuse_all(victim, {name: {part: tree} for name, tree in list(targets(canary).items())[share]}, canary)


def test_orders_beside_the_target(victim: Victim, tmp_path: Path) -> None:
    """Oracle: the refusal of everything that Hydra reads in a part beside its arguments, at any depth."""
    canary = tmp_path / "canary"
    trap = {"_target_": "pathlib.Path.touch", "_args_": [str(canary)]}
    orders: dict[str, Any] = {
        "_args_": [trap], "_partial_": True, "_recursive_": True, "_convert_": "object", "_call_": True, "_": 1,
        "channels": trap, "skip_features": [trap], "multi_scale": [[{"a": trap}]], "dropout": {"x": {"y": [trap]}},
        "decoder_channels": {"_target_": "ccnet.models.heads.fcn.FCNHead"}, "unknown": trap, "num_classes": 3,
        "in_channels": [3], "backend": {"_partial_": True},
    }  # fmt: skip
    refuse_all(victim, {key: {f"head/{key}": value} for key, value in orders.items()}, canary)


WORDS = ["${oc.env:HOME}", "${oc.decode:${oc.env:HOME}}", "${hydra:runtime.cwd}", "${name}", "x${.y}", "${",
         "${oc.env:A,b}", "${oc.create:{a:1}}", "${oc.deprecated:name}"]  # fmt: skip


def test_interpolations(victim: Victim, tmp_path: Path) -> None:
    """Oracle: the refusal, wherever the words stand."""
    keys = ("name", "dataset/root", "head/backend", "init_from", "backbone/weights")
    refuse_all(victim, {f"{key} {word}": {key: word} for key in keys for word in WORDS}, tmp_path / "canary")
    refuse_all(victim, {f"a key {word}": {f"head/{word}": 1} for word in WORDS}, tmp_path / "canary")


def _deep(levels: int) -> Any:
    return json.loads("[" * levels + "]" * levels)


LARGE: dict[str, Tree] = {
    **{f"head.{key} {value:.0e}": {f"head/{key}": value} for value in (10**5, 10**9, 2**63, 10**30, 10**400 // 10**100)
       for key in ("channels", "recurrence", "fusion_convs", "fusion_kernel", "reduction_kernel", "embedding_channels")
       if value < 10**300},
    **{f"head.{key} list": {f"head/{key}": [1] * 30_000} for key in ("skip_features", "decoder_channels",
    "multi_scale")},
    **{f"backbone.channels {value:.0e}": {"backbone/channels": value} for value in (-1, 0, 9, 16384, 10**6, 10**12)},
    **{f"head.channels {value}": {"head/channels": value} for value in (-1, 0, 9, 16384, "8", None, 8.5, [8], True)},
    **{f"head.multi_scale {value}": {"head/multi_scale": value} for value in ([1e9], [-1.0], [0.0], [float("nan")],
    [])},
    **{f"scales {len(value)} {value[0]}": {"evaluation/scales": value} for value in (
        [1.0] * 30_000, [1e9], [17.0], [0.0], [-1.0], [float("inf")], ["1"], [None])},
    **{f"crop_size {value}": {"evaluation/crop_size": value} for value in (
        [0, 0], [-1, 4], [10**9, 10**9], [4], [4, 4, 4], "4", [4.5, 4], 10**9)},
    "windows": {"evaluation/crop_size": [4, 4], "evaluation/batch_size": 10**9},
    **{f"batch_size {value}": {"evaluation/batch_size": value} for value in (0, -1, 10**9, "1", [1], None, True, 0.5)},
    **{f"{key} {value}": {f"evaluation/{key}": value} for key in ("average", "precision") for value in (
        "x", "", None, 1, ["fp32"], {"a": 1})},
    "fusion": {"head/fusion_convs": 1000},
    "mean": {"model/mean": [1.0] * 20_000}, "std": {"model/std": [[1.0]]}, "order": {"model/channel_order": "grb"},
    "a long name": {"name": "x" * 200_000}, "many keys": {f"key{index}": 1 for index in range(9000)},
    "many": {"head/skip_features": list(range(60_000))},
    **{f"depth {levels}": {"head/skip_features": _deep(levels)} for levels in (50, 200, 400, 900)},
    **{f"name {name!r}": {"name": name} for name in (
        "../x", "/tmp/x", "a/../../x", "", ".", "..", "latest", None, 5 * [1], "./..")},
    **{f"val_split {name!r}": {"val_split": name} for name in (
        "../x", "/tmp/x", "x/../../../../../x", "..", "C:\\x", "a\\..\\..\\..\\x", "\\\\host\\share", None, [])},
    **{f"trainer.{key}": {f"trainer/{key}": value} for key, value in (
        ("max_steps", float("nan")), ("clip_grad_norm", 10**400), ("workers", -1), ("unknown", 1), ("precision", "x"),
        ("worker_timeout", float("inf")), ("ema_decay", 2))},
    **{f"{key} is gone": {key: value} for key in ("head", "dataset", "model", "trainer") for value in (None, [], 5,
    "x")},
}  # fmt: skip


def test_large_and_odd_values(victim: Victim, tmp_path: Path) -> None:
    """Oracle: the refusal in time and within memory."""
    refuse_all(victim, LARGE, tmp_path / "canary")


def test_a_huge_network_takes_no_memory(victim: Victim) -> None:
    """Oracle: the reason of the refusal: shapes that differ from those of the weights, not the memory."""
    with pytest.raises(UserError, match=r"made for another model: .* the model's \(4096"):
        loaded(victim, {"backbone/channels": 4096, "head/channels": 4096, "head/reduction_kernel": 63})


def test_what_only_training_reads_has_no_effect(victim: Victim, tmp_path: Path) -> None:
    """Oracle: the model, and the report's folder, which stays in the run; nothing is downloaded, read or made."""
    canary = tmp_path / "canary"
    trap = {"_target_": "pathlib.Path.touch", "self": str(canary)}
    parts = dict.fromkeys(("prepare", "report", "augmentation", "loss", "optimizer", "schedule"), trap)
    found = loaded(
        victim,
        {
            **parts,
            **{"init_from": str(tmp_path / "gone"), "cache": str(canary), "runs_dir": str(canary), "seed": 2**63 - 1},
            **{"phases": [{"train": ["*"] * 100, "steps": 10**12}], "backbone/weights": "DEFAULT", "name": "a/b"},
            **{"trainer/workers": 10**9, "trainer/worker_timeout": 1e300, "trainer/compile": True},
            **{"trainer/max_steps": 10**15, "trainer/device": "cuda", "val_split": "a/b"},
        },
    )
    assert found.class_names == CLASSES
    assert found.config.trainer.workers <= (os.cpu_count() or 1)
    assert found.config.trainer.worker_timeout <= 3600
    where = tmp_path / "run" / "checkpoints" / "step_0000007"
    folder = run.report_folder(where, found.config.val_split, found.config)
    assert folder.resolve().is_relative_to(tmp_path / "run" / "report")
    assert [path.name for path in tmp_path.iterdir()] == []


def test_data_is_only_read(victim: Victim, tmp_path: Path) -> None:
    """Oracle: the data set's own refusals; the folder is not made, and no other class than the stored one is built."""
    for root in (tmp_path / "gone", "/", "/dev", "/proc/self", "\0", "~", "/dev/zero"):
        config = loaded(victim, {"dataset/root": str(root)}).config
        with limits(), pytest.raises(UserError):
            build.build_dataset(config, "val")
    assert not [*tmp_path.iterdir()]
    assert config.dataset["_target_"] == f"{Folder.__module__}.{Folder.__name__}"


YAML = ["a: &a [1]\nb: *a", "name: !!python/object/apply:os.system [x]", "!!python/name:os.system", "{",
        "- 1", "", "\0",
        "a: 2020-01-01", "name: 2020-99-99", "seed: " + "9" * 5000, "seed: !!binary aGVsbG8=", "name: !!set {a, b}",
        "? [a, b]\n: c", "? {a: b}\n: c", "1: 2", "null: 1", "a: .nan", "<<: {name: x}", "name: ${oc.env:HOME}",
        "[" * 5000,
        "{a: " * 3000, "a: &x\n  <<: *x", "name: !!timestamp x", "--- a\n--- b", "%YAML 9.9\n--- a", "name: 'x", "\t",
        "name: x\nname: y", "head: " + "[" * 900 + "]" * 900, "x" * 200_000,
        "seed: 0x" + "f" * 4000, "seed: 1:2:3",
        "trainer: {clip_grad_norm: 1e400}", "seed: !!float x", "a: !!omap [b: c]", "a: !!pairs [b: c]"]  # fmt: skip


def test_a_run_folder_with_a_hostile_yaml(victim: Victim, tmp_path: Path) -> None:
    """Oracle: the refusal of the run that would go on there, which names the file."""
    folder = Path(victim.config.runs_dir) / victim.config.name
    folder.mkdir()
    for content in (*(text.encode() for text in YAML), b"\xff\xfe", b"name: \xff", bytes(1000)):
        (folder / "config.yaml").write_bytes(content)
        try:
            with limits(), pytest.raises(ConfigError, match=r"config\.yaml"):
                run.open_run(victim.config)
        except BaseException as error:
            error.add_note(f"attack: {content[:60]!r}")
            raise
    (folder / "config.yaml").write_text(yaml.safe_dump(to_json(victim.config)))
    assert run.open_run(victim.config) == folder


def test_enough_was_tried(tmp_path: Path) -> None:
    """Oracle: what the issue asks for."""
    count = 2 * len(targets(tmp_path)) + 15 + 6 * len(WORDS) + len(LARGE) + len(YAML) + 3
    print(f"{count} hostile configurations")
    assert count >= 100
