"""Pretrained weights of a backbone: torchvision's, or a file."""

import logging
import warnings
import zipfile
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ccnet.errors import CheckpointError

logger = logging.getLogger("ccnet")

CLASSIFIER_PREFIXES = ("fc.", "classifier.")


def load_weights(module: nn.Module, architecture: str, weights: str | None) -> None:
    """Fills a torchvision network: `None` leaves it random, `DEFAULT` downloads torchvision's, else a file is read.

    Every tensor must fit, the classifier of the file alone is left out; the number of matched tensors is logged.

    Raises:
        CheckpointError: a missing or unreadable file; names or shapes that differ.
    """
    if weights is None:
        return
    state = _download(architecture) if weights == "DEFAULT" else read_weights(Path(weights))
    own = module.state_dict()
    state = {key: value for key, value in state.items() if key in own or not key.startswith(CLASSIFIER_PREFIXES)}
    problems = [f"missing {key}" for key in own if key not in state]
    problems += [f"unexpected {key}" for key in state if key not in own]
    problems += [
        f"{key} is {tuple(state[key].shape)}, not {tuple(value.shape)}"
        for key, value in own.items()
        if key in state and state[key].shape != value.shape
    ]
    matched = sum(key in state and state[key].shape == value.shape for key, value in own.items())
    if problems:
        listed = "; ".join(problems[:8]) + (f"; and {len(problems) - 8} more" if len(problems) > 8 else "")
        raise CheckpointError(f"{weights} does not fit {architecture}: {matched} of {len(own)} tensors match; {listed}")
    module.load_state_dict(state)
    logger.info("backbone %s: %d of %d tensors loaded from %s", architecture, matched, len(own), weights)


def _download(architecture: str) -> dict[str, Tensor]:
    from torchvision.models import get_model_weights

    weights = get_model_weights(architecture).DEFAULT
    try:
        state: dict[str, Tensor] = weights.get_state_dict(progress=True, check_hash=True)
    except OSError as error:  # URLError is one
        raise CheckpointError(
            f"backbone weights {weights.url} cannot be downloaded ({error}); "
            "download the file elsewhere and set backbone.weights to it, or to null for random weights"
        ) from error
    return state


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors or .pth file; what is not a tensor by name is left out, and nothing is run.

    Raises:
        CheckpointError: no such file, one that holds more than plain tensors, or one that is larger than it looks.
    """
    if not path.is_file():
        raise CheckpointError(f"weights {path}: no such file; backbone.weights takes DEFAULT and null, too")
    try:
        state: object = load_file(path) if path.suffix == ".safetensors" else _read_foreign(path)
    except Exception as error:  # readers of a damaged file raise whatever they like
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"weights {path} cannot be read as plain tensors: {reason}") from error
    if not isinstance(state, dict):
        raise CheckpointError(f"weights {path}: expected a state dict, found {type(state).__name__}")
    tensors = {key: value for key, value in state.items() if isinstance(key, str) and isinstance(value, Tensor)}
    for key, value in tensors.items():
        if value.layout != torch.strided or value.device.type != "cpu" or value.is_complex() or value.is_quantized:
            raise CheckpointError(f"weights {path}: {key} is no plain tensor")
    return tensors


def _read_foreign(path: Path) -> object:
    if zipfile.is_zipfile(path):  # torch compresses nothing; a stranger's archive could fill the memory
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(info.file_size for info in archive.infolist())
        if unpacked > path.stat().st_size:
            raise ValueError(f"it would unpack to {unpacked} bytes")
    with warnings.catch_warnings(action="ignore"):  # about what the pickle is like; it is read as plain tensors or not
        return torch.load(path, map_location="cpu", weights_only=True)
