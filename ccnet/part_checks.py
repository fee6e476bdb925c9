"""The parts of a configuration, held against what their `_target_` accepts, and against what a stranger may ask for."""

import inspect
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, get_type_hints

from hydra.utils import get_object
from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError

from ccnet.config_errors import origin, unknown_key
from ccnet.errors import ConfigError
from ccnet.schema import Part, RunConfig

PARTS = ("dataset", "prepare", "augmentation", "backbone", "head", "auxiliary_head", "loss", "optimizer", "schedule",
         "evaluation", "report")  # fmt: skip
# What the builders below hand over themselves; a configuration must not set it.
GIVEN = {"split", "in_channels", "num_classes", "model", "max_steps", "align_corners"}


# What a checkpoint's configuration may build: out of which package, and what such a class is given.
TRUSTED = {"dataset": ("ccnet.data.", "split"), "backbone": ("ccnet.models.backbones.", "weights"),
           "head": ("ccnet.models.heads.", "num_classes"), "auxiliary_head": ("ccnet.models.heads.", "num_classes"),
           "evaluation": ("ccnet.evaluation.inference.", "scales")}  # fmt: skip
# Limits of a stored network and its inference, far beyond any in use: what a stranger asks for ends at some time.
MOST_COUNT, MOST_FACTOR, MOST_ITEMS = 1 << 12, 16.0, 64


def check(config: RunConfig, overrides: Sequence[str] = (), parts: Iterable[str] = PARTS) -> None:
    """Holds every argument of the parts against the signature of their `_target_`, before anything is built.

    Raises:
        ConfigError: an unknown or missing argument, a wrong value, or a target that does not exist.
    """
    for name in parts:
        part = getattr(config, name)
        if part is not None:
            _check_part(part, name, overrides)


def _check_part(part: Part, path: str, overrides: Sequence[str]) -> None:
    if "_target_" not in part:
        raise ConfigError(f"{path} has no _target_ ({origin(path, overrides)}): it is not a part")
    try:
        target = get_object(part["_target_"])
    except Exception as error:  # Hydra wraps whatever the import raises
        raise ConfigError(
            f"{path}._target_={part['_target_']} ({origin(path, overrides)}) cannot be imported"
        ) from error
    parameters = inspect.signature(target).parameters
    given = {key: value for key, value in part.items() if not key.startswith("_")}
    hints = get_type_hints(target.__init__ if inspect.isclass(target) else target)
    for key, value in given.items():
        if key not in parameters or key in GIVEN:
            raise unknown_key(f"{path}.{key}", parameters.keys() - GIVEN, overrides)
        _check_value(value, hints.get(key, Any), f"{path}.{key}", overrides)
    for key, parameter in parameters.items():
        if parameter.default is parameter.empty and key not in given and key not in GIVEN:
            raise ConfigError(f"{path}.{key} is needed by {part['_target_']} and nowhere set")


def _check_value(value: Any, hint: Any, path: str, overrides: Sequence[str]) -> None:
    nested = value if isinstance(value, Mapping) else {}
    parts = {path: value} if "_target_" in nested else {f"{path}.{key}": child for key, child in nested.items()}
    if any(isinstance(child, Mapping) and "_target_" in child for child in parts.values()):
        for key, child in parts.items():
            _check_part(child if isinstance(child, dict) else {}, key, overrides)
        return
    try:
        TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True)).validate_python(value, strict=True)
    except PydanticUserError:  # a hint that brings its own rules, which the constructor will apply
        return
    except ValidationError as error:
        reasons = dict.fromkeys(each["msg"][0].lower() + each["msg"][1:] for each in error.errors())
        raise ConfigError(f"{path}={value} ({origin(path, overrides)}): {', or '.join(reasons)}") from error


def check_trusted(config: RunConfig, parts: Iterable[str] = TRUSTED, allowed: Collection[str] = ()) -> None:
    """A configuration that came with a checkpoint may build models, and data sets to read, nothing else.

    Args:
        config: the stored configuration.
        parts: those that will be built.
        allowed: targets that the caller trusts beside ccnet's own.

    Raises:
        ConfigError: a part whose `_target_` is no class of ccnet's own for that purpose, or that asks for too much.
    """
    for name in parts:
        part, (package, given) = getattr(config, name), TRUSTED[name]
        target = part.get("_target_")
        if target in allowed:
            continue
        if not _is_own_class(part, package, given):
            raise ConfigError(
                f"the checkpoint's {name} wants {str(target)[:200]}, which is no class of {package}*; "
                "if it is your own, name it with --allow-target"
            )
        for key, value in part.items() if name != "dataset" else ():
            if not _is_moderate(value):
                raise ConfigError(f"the checkpoint's {name}.{key} is beyond all measure")


def _is_own_class(part: Part, package: str, given: str) -> bool:
    target = part.get("_target_")
    # The name is held against the package before the import: importing a stranger's module would run it.
    if not isinstance(target, str) or not target.startswith(package) or _has_orders(part.items()):
        return False
    try:
        found = get_object(target)
    except Exception:  # Hydra wraps whatever the import raises
        return False
    is_own = inspect.isclass(found) and f"{found.__module__}.".startswith(package)
    return is_own and given in inspect.signature(found).parameters


def _has_orders(arguments: Iterable[tuple[str, Any]]) -> bool:
    """Whether Hydra would do more than call the target with arguments: `_args_`, `_partial_`, another `_target_`."""
    return any((key != "_target_" and key.startswith("_")) or _nests_orders(value) for key, value in arguments)


def _nests_orders(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(str(key).startswith("_") or _nests_orders(child) for key, child in value.items())
    return isinstance(value, list) and any(_nests_orders(child) for child in value)


def _is_moderate(value: Any) -> bool:
    if isinstance(value, int):
        return abs(value) <= MOST_COUNT
    if isinstance(value, float):
        return abs(value) <= MOST_FACTOR
    return not isinstance(value, list) or (len(value) <= MOST_ITEMS and all(map(_is_moderate, value)))
