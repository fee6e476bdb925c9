"""What composes, and what is refused in one line that names key, place and nearest key."""

import re
from dataclasses import asdict
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from ccnet import part_checks
from ccnet.config import compose_config, differing_keys, from_json, from_yaml, override, to_json, to_yaml
from ccnet.config_errors import CONFIG_DIR
from ccnet.errors import ConfigError

EXPERIMENTS = sorted(path.stem for path in (CONFIG_DIR / "experiment").glob("*.yaml"))


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_composes_and_binds(experiment: str) -> None:
    """Oracle: the signatures of everything a `_target_` names."""
    config = compose_config([f"+experiment={experiment}"])
    part_checks.check(config)
    assert config.name == experiment


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_an_experiment_is_a_short_diff_that_starts_with_its_command(experiment: str) -> None:
    """Oracle: the house rule, at most 25 lines with the exact command first."""
    lines = (CONFIG_DIR / "experiment" / f"{experiment}.yaml").read_text().splitlines()
    assert len(lines) <= 25
    assert re.search(rf"tools/train\.py (-m )?\+experiment={experiment}\b", lines[1])


@pytest.mark.parametrize(
    "path", [path for path in CONFIG_DIR.glob("*/*.yaml") if path.parent.name not in ("experiment", "debug")]
)
def test_every_group_file_binds(path: Path) -> None:
    """Oracle: the signature; the values that a folder of one's own must bring are filled in."""
    own = ["dataset.root=x", "dataset.class_names=[a]", "dataset.palette=[[0,0,0]]"] if path.stem == "folder" else []
    part_checks.check(compose_config([f"{path.parent.name}={path.stem}", *own]))


def test_the_default_run_is_the_streets_experiment() -> None:
    """Oracle: equality of the composed trees."""
    assert asdict(compose_config()) == asdict(compose_config(["+experiment=streets_mobilenetv3"]))


def test_cityscapes_r2_ohem_is_the_recipe() -> None:
    """Oracle: the numbers of the recipe, written out."""
    config = compose_config(["+experiment=cityscapes_r2_ohem"])
    assert config.backbone == {
        "_target_": "ccnet.models.backbones.resnet.ResNet",
        "depth": 101,
        "output_stride": 8,
        "variant": "plain",
        "contract_dilation": True,
        "weights": "DEFAULT",
        "norm_momentum": 0.1,
    }
    assert (config.head["recurrence"], config.head["channels"], config.head["reduction_kernel"]) == (2, 512, 3)
    assert config.head["skip_features"] == []
    ohem = config.loss["terms"]["ohem"]
    assert (ohem["threshold"], ohem["min_kept"], config.loss["auxiliary_weight"]) == (0.7, 100000, 0.4)
    assert config.auxiliary_head["feature"] == -2
    assert config.augmentation["crop_size"] == [769, 769]
    assert (config.augmentation["scale"], config.augmentation["flip"]) == ([0.5, 2.0], 0.5)
    optimizer = config.optimizer
    assert (optimizer["lr"], optimizer["momentum"], optimizer["weight_decay"]) == (0.01, 0.9, 1e-4)
    assert config.schedule["_target_"] == "ccnet.schedule.WarmupCosine"
    assert config.schedule["warmup_steps"] > 0
    assert (config.trainer.max_steps, config.trainer.batch_size, config.trainer.precision) == (60000, 8, "bf16")
    consistent = compose_config(["+experiment=cityscapes_r2_ohem", "loss=ohem_consistency"])
    assert list(consistent.loss["terms"]) == ["ohem", "consistency"]
    assert consistent.head["embedding_channels"] == 16


def test_the_other_recipes_differ_as_their_names_say() -> None:
    """Oracle: the number of loops, the loss, the data set."""
    r1, r2, voc = (
        compose_config([f"+experiment={name}"]) for name in ("cityscapes_r1", "cityscapes_r2", "voc_r2_ohem")
    )
    assert (r1.head["recurrence"], r2.head["recurrence"]) == (1, 2)
    assert list(r1.loss["terms"]) == list(r2.loss["terms"]) == ["cross_entropy"]
    assert voc.dataset["_target_"] == "ccnet.data.voc.VOC"
    assert (voc.train_split, list(voc.loss["terms"])) == ("trainaug", ["ohem"])
    for config in (r1, r2, voc):
        assert config.optimizer == compose_config(["+experiment=cityscapes_r2_ohem"]).optimizer


@pytest.mark.parametrize("loss", ["ohem_consistency", "cross_entropy"])
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_any_loss_goes_with_any_experiment(experiment: str, loss: str) -> None:
    """Oracle: the signatures; an experiment must leave nothing of another loss behind."""
    part_checks.check(compose_config([f"+experiment={experiment}", f"loss={loss}"]))


def test_debug_shrinks_any_experiment() -> None:
    """Oracle: two steps; the other order would be undone by the experiment and is refused."""
    assert compose_config(["+experiment=cityscapes_r2_ohem", "+debug=smoke"]).trainer.max_steps == 2
    with pytest.raises(ConfigError, match="must come after"):
        compose_config(["+debug=smoke", "+experiment=cityscapes_r2_ohem"])


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_overfit_goes_with_any_experiment(experiment: str) -> None:
    """Oracle: a constant schedule with nothing left of another, one batch, no phases."""
    config = compose_config([f"+experiment={experiment}", "+debug=overfit"])
    part_checks.check(config)
    assert config.schedule["_target_"] == "ccnet.schedule.Constant"
    assert (config.trainer.overfit_batches, config.phases) == (1, [])


def test_interpolations_are_rare() -> None:
    """Oracle: the house rule, at most 5 in 100 lines of YAML."""
    lines = [line for path in CONFIG_DIR.rglob("*.yaml") for line in path.read_text().splitlines()]
    assert sum("${" in line for line in lines) <= len(lines) / 20


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["trainer.max_step=3"], "unknown key trainer.max_step (command line); did you mean trainer.max_steps?"),
        (["+trainer.nonsense=1"], "unknown key trainer.nonsense (command line); valid are"),
        (["head.recurence=2"], "unknown key head.recurence (command line); did you mean head.recurrence?"),
        (["+head.recurence=2"], "unknown key head.recurence (command line); did you mean head.recurrence?"),
        (["head.recurrence=two"], "head.recurrence=two (command line): input should be a valid integer"),
        (["optimizer.learning_rate=1"], "unknown key optimizer.learning_rate (command line); valid are betas"),
        (["loss.term.x=1"], "unknown key loss.term (command line); did you mean loss.terms?"),
        (["sed=1"], "unknown key sed (command line); did you mean seed?"),
        (["trainer.max_steps=abc"], "trainer.max_steps (command line): Value 'abc'"),
        (["trainer.precision=bf17"], "expected one of [fp32, bf16, fp16]"),
        (["dataset=cityscape"], "configs/dataset has no cityscape.yaml; did you mean dataset=cityscapes?"),
        (["+experiment=cityscapes_r2"[:-1]], "did you mean experiment=cityscapes_r"),
        (["dataset=folder"], "dataset.root (configs/dataset/folder.yaml): Missing mandatory value"),
        (["backbone.output_stride=7"], "backbone.output_stride=7 (command line): input should be 8, 16 or 32"),
        (["+dataset.split=train"], "unknown key dataset.split (command line)"),
        (["~seed"], "key seed was taken out"),
        (["seed=-1"], "seed must be at least 0"),
        (["trainer.max_steps=0"], "trainer.max_steps must be at least 1"),
        (["name=latest"], "name must be a folder name"),
        (["trainer.clip_grad_norm=-1"], "trainer.clip_grad_norm must be positive or null"),
        (["loss.terms.extra={a: 1}"], "unknown key loss.terms.extra"),
        (["+loss.terms.extra={a: 1}"], "loss.terms.extra has no _target_"),
        (["name=../elsewhere"], "name must be a folder name"),
        (["head._target_=ccnet.nothing"], "head._target_=ccnet.nothing (command line) cannot be imported"),
    ],
)
def test_a_mistake_is_one_line_that_names_it(overrides: list[str], message: str) -> None:
    """Oracle: the message, written out."""
    with pytest.raises(ConfigError) as caught:
        part_checks.check(compose_config(overrides), overrides)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            "head: {recurence: 2}",
            "unknown key head.recurence (configs/experiment/typo.yaml); did you mean head.recurrence?",
        ),
        (
            "head: {recurrence: two}",
            "head.recurrence=two (configs/experiment/typo.yaml): input should be a valid integer",
        ),
        ("sead: 7", "unknown key sead (configs/experiment/typo.yaml); did you mean seed?"),
        ("trainer: {max_step: 7}", "unknown key trainer.max_step (configs/experiment/typo.yaml); did you mean"),
    ],
)
def test_a_mistake_in_a_file_names_the_file(
    body: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: the message, written out; Hydra alone accepts the first two."""
    configs = tmp_path / "configs"
    for path in CONFIG_DIR.rglob("*.yaml"):
        target = configs / path.relative_to(CONFIG_DIR)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(path.read_text())
    (configs / "experiment" / "typo.yaml").write_text(f"# @package _global_\n{body}\n")
    monkeypatch.setattr("ccnet.config.CONFIG_DIR", configs)
    monkeypatch.setattr("ccnet.config_errors.CONFIG_DIR", configs)
    overrides = ["+experiment=typo"]
    with pytest.raises(ConfigError) as caught:
        part_checks.check(compose_config(overrides), overrides)
    assert message in str(caught.value)


def test_json_and_yaml_bring_the_configuration_back(tmp_path: Path) -> None:
    """Oracle: equality after the round trip."""
    config = compose_config(["+experiment=cityscapes_r2_ohem"])
    assert from_json(to_json(config)) == config
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    assert from_yaml(tmp_path / "config.yaml") == config


def test_a_stored_configuration_cannot_interpolate() -> None:
    """An interpolation could read the environment of whoever opens the checkpoint."""
    plain = to_json(compose_config())
    plain["dataset"]["root"] = "${oc.env:HOME}"
    with pytest.raises(ConfigError, match="interpolation"):
        from_json(plain)


def test_override_changes_values_and_groups() -> None:
    """Oracle: composing the same from the start."""
    config = compose_config()
    assert override(config, ["head.recurrence=3"]).head["recurrence"] == 3
    assert override(config, ["dataset=camvid"]).dataset == compose_config(["dataset=camvid"]).dataset
    own = ["dataset=folder", "dataset.root=x", "dataset.class_names=[a]", "dataset.palette=[[0,0,0]]"]
    assert override(config, own).dataset["class_names"] == ["a"]
    with pytest.raises(ConfigError, match=r"trainer\.max_step "):
        override(config, ["trainer.max_step=1"])


def test_differing_keys_names_old_and_new() -> None:
    """Oracle: the one line that differs."""
    assert differing_keys(compose_config(), compose_config(["optimizer.lr=0.5"])) == {
        "optimizer.lr": f"{compose_config().optimizer['lr']} -> 0.5"
    }


def test_every_group_file_is_reachable() -> None:
    """A group that train.yaml does not list could not be chosen as the README says."""
    defaults = OmegaConf.load(CONFIG_DIR / "train.yaml").defaults
    groups = {next(iter(entry)) for entry in defaults if not isinstance(entry, str)}
    folders = {path.name for path in CONFIG_DIR.iterdir() if path.is_dir()}
    assert folders - {"experiment", "debug"} == {group for group in groups if not group.startswith("override")}
