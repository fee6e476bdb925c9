"""Errors of a configuration in one line: the key, where it was set, and the nearest key that exists."""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ccnet.errors import ConfigError

CONFIG_DIR = Path(__file__).resolve().parents[1] / "configs"


def explain(error: Exception, keys: Mapping[str, Iterable[str]], overrides: Sequence[str]) -> ConfigError:
    """Hydra's and OmegaConf's message in one line.

    Args:
        error: what Hydra or OmegaConf raised.
        keys: valid keys of each class of the schema, by class name; the root's under "".
        overrides: the command line.
    """
    text = "\n".join(str(cause) for cause in (error, error.__cause__, error.__context__) if cause is not None)
    full_key = re.search(r"full_key: (\S+)", text)
    if unknown := re.search(r"Key '([^']+)' (?:is )?not in '(\w+)'", text):
        key = full_key.group(1) if full_key else unknown.group(1)
        return unknown_key(key, keys.get(unknown.group(2), keys[""]), overrides)
    if no_choice := re.search(r"Could not find '([^']+)'", text):
        group, _, name = no_choice.group(1).rpartition("/")
        choices = sorted(path.stem for path in (CONFIG_DIR / group).glob("*.yaml"))
        return ConfigError(f"configs/{group} has no {name}.yaml; {_hint(name, choices, f'{group}=')}")
    if no_key := re.search(r"Could not override '([^']+)'", text):
        key, parent = no_key.group(1), no_key.group(1).rpartition(".")[0]
        while parent and not _keys_below(parent, overrides):  # the mistake lies further up
            key, parent = parent, parent.rpartition(".")[0]
        return unknown_key(key, _keys_below(parent, overrides) if parent else keys[""], overrides)
    if wrong := re.search(r"^(Value|Invalid value|Missing mandatory value).*$", text, re.MULTILINE):
        key = full_key.group(1) if full_key else ""
        return ConfigError(f"{key} ({origin(key, overrides)}): {wrong.group()}")
    return ConfigError(" ".join(line.strip() for line in str(error).splitlines() if line.strip()))


def unknown_key(key: str, valid: Iterable[str], overrides: Sequence[str]) -> ConfigError:
    """The error for a key that nobody reads."""
    parent, dot, last = key.rpartition(".")
    return ConfigError(f"unknown key {key} ({origin(key, overrides)}); {_hint(last, sorted(valid), parent + dot)}")


def origin(key: str, overrides: Sequence[str]) -> str:
    """Where a key was set: the command line, else the last composed YAML file that names it."""
    if any(f"{item.partition('=')[0].lstrip('+~')}.".startswith(f"{key}.") for item in overrides):
        return "command line"
    for path in reversed(_composed_files(overrides)):
        if _sets(path, key):
            return path.relative_to(CONFIG_DIR.parent).as_posix()
    return "configuration"


def _hint(name: str, valid: Sequence[str], prefix: str) -> str:
    near = difflib.get_close_matches(name, valid, n=1, cutoff=0.5)
    return f"did you mean {prefix}{near[0]}?" if near else f"valid are {', '.join(valid)}"


def _composed_files(overrides: Sequence[str]) -> list[Path]:
    """The YAML files of a composition, later ones winning: train.yaml, groups, experiment and debug."""
    on_command_line = [item.lstrip("+").partition("=")[::2] for item in overrides]
    asked = {group: name for group, name in on_command_line if (CONFIG_DIR / group / f"{name}.yaml").is_file()}
    late = [CONFIG_DIR / group / f"{asked.pop(group)}.yaml" for group in ("experiment", "debug") if group in asked]
    chosen: dict[str, str] = {}
    for path in [CONFIG_DIR / "train.yaml", *late]:
        chosen |= _defaults(path)
    groups = [CONFIG_DIR / group / f"{name}.yaml" for group, name in (chosen | asked).items()]
    return [CONFIG_DIR / "train.yaml", *(path for path in groups if path.is_file()), *late]


def _defaults(path: Path) -> dict[str, str]:
    entries = OmegaConf.to_container(OmegaConf.load(path)).get("defaults", [])  # type: ignore[union-attr]
    groups = [next(iter(entry.items())) for entry in entries if isinstance(entry, dict)]
    return {key.removeprefix("override ").lstrip("/"): name for key, name in groups}


def _sets(path: Path, key: str) -> bool:
    """True if the file names the key."""
    parent, _, last = key.rpartition(".")
    return last in _names(path, parent)


def _keys_below(key: str, overrides: Sequence[str]) -> set[str]:
    """What the files of a composition name directly below a key."""
    found = {name for path in _composed_files(overrides) for name in _names(path, key)}
    return {name for name in found if not name.startswith("_")}


def _names(path: Path, key: str) -> set[str]:
    """What a file names directly below a key, seen from where the file's content goes."""
    content: Any = OmegaConf.load(path)
    if path.parent != CONFIG_DIR and "@package _global_" not in path.read_text(encoding="utf-8"):
        content = OmegaConf.create({path.parent.name: content})
    for name in filter(None, key.split(".")):
        content = content.get(name) if isinstance(content, DictConfig) else None
    return set(map(str, content)) if isinstance(content, DictConfig) else set()
