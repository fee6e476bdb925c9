"""Pretrained weights of a backbone: torchvision's, or a file."""

import logging
import re
import warnings
import zipfile
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ccnet.errors import CheckpointError

logger = logging.getLogger("ccnet")

State = Mapping[str, Tensor]

CLASSIFIER_PREFIXES = ("fc.", "classifier.")
WRAPPINGS = ("state_dict", "model")
MOST_WRAPPINGS = 2
# Of norms; nothing reads it. Files from before PyTorch 0.4.1 have none, and torchvision still offers some.
COUNTER = "num_batches_tracked"


def load_weights(
    module: nn.Module,
    architecture: str,
    weights: str | None,
    *,
    first_conv: str | None = None,
    spare: Collection[str] = (),
) -> None:
    """Fills a network with torchvision's names: `None` leaves it random, a tag of torchvision's such as DEFAULT or
    IMAGENET1K_V1 downloads, anything else is a file.

    Args:
        module: the network, or what is kept of it.
        architecture: torchvision's name of it.
        weights: as above.
        first_conv: see `fill`.
        spare: see `fill`.

    Raises:
        CheckpointError: neither a tag nor a file; a file that cannot be read; names or shapes that differ.
    """
    if weights is None:
        return
    offered = {tag: partial(_download, each) for tag, each in torchvision_weights(architecture).items()}
    state = find_weights(architecture, weights, offered)
    fill(module, architecture, state, weights, first_conv=first_conv, spare=spare)


def find_weights(architecture: str, weights: str, offered: Mapping[str, Callable[[], State]]) -> State:
    """The tensors that a tag or a file stands for; a tag goes before a file of that name.

    Args:
        architecture: for messages.
        weights: what the user named.
        offered: by tag, how to get it.

    Raises:
        CheckpointError: neither a tag nor a file, or what the download or `read_weights` raise.
    """
    if weights in offered:
        return offered[weights]()
    if Path(weights).is_file():
        return read_weights(Path(weights))
    raise CheckpointError(
        f"weights {weights}: no such file, and no tag of {architecture}; "
        f"backbone.weights takes {', '.join([*offered, 'a file or null'])}"
    )


def fill(
    module: nn.Module,
    architecture: str,
    state: State,
    source: str,
    *,
    first_conv: str | None = None,
    spare: Collection[str] = (),
) -> None:
    """Copies a state dict into a network and logs how many tensors matched and which were left out.

    Every tensor must fit. Left out are a classifier and what `spare` names; batch norms' counters may be missing.

    Args:
        module: the network.
        architecture: its name, for messages.
        state: by the network's names.
        source: where the state is from, for messages.
        first_conv: name of the convolution that reads the image; a kernel for three channels is adapted to its own
            number of channels (`adapt_first_conv`).
        spare: names that the state may hold and the network does not.

    Raises:
        CheckpointError: names or shapes that differ.
    """
    own = module.state_dict()
    if first_conv is not None:
        key = f"{first_conv}.weight"
        state = adapt_first_conv(state, key, own[key].shape[1])
    left_out = [key for key in state if key not in own and (key in spare or key.startswith(CLASSIFIER_PREFIXES))]
    counters = [key for key in own if key.endswith(COUNTER) and key not in state]
    given = {key: value for key, value in state.items() if key not in left_out}
    problems = [f"missing {key}" for key in own if key not in state and key not in counters]
    problems += [f"unexpected {key}" for key in given if key not in own]
    problems += [
        f"{key} is {tuple(given[key].shape)}, not {tuple(value.shape)}"
        for key, value in own.items()
        if key in given and given[key].shape != value.shape
    ]
    matched = sum(key in given and given[key].shape == value.shape for key, value in own.items())
    if problems:
        listed = _listed(problems, "; ")
        raise CheckpointError(f"{source} does not fit {architecture}: {matched} of {len(own)} tensors match; {listed}")
    module.load_state_dict({**{key: own[key] for key in counters}, **given})
    message = f"backbone {architecture}: {matched} of {len(own)} tensors loaded from {source}"
    message += f"; left out: {_listed(left_out, ', ')}" if left_out else ""
    message += f"; without {len(counters)} counters of batches, which nothing reads" if counters else ""
    logger.info(message)


def adapt_first_conv(state: State, key: str, in_channels: int) -> State:
    """The state with the kernel `key` (D, 3, h, w) made for `in_channels` channels, as timm does it.

    One channel gets the sum over the three; otherwise they are repeated, R G B R G ..., and scaled by 3 / in_channels:
    channels that all show the same give the answer that a grey image gave. A kernel for another number of channels
    than three stays as it is.
    """
    kernel = state.get(key)
    if kernel is None or kernel.dim() != 4 or kernel.shape[1] != 3 or in_channels == 3:
        return state
    if in_channels == 1:
        adapted, how = kernel.sum(dim=1, keepdim=True), "the sum of its three"
    else:
        repeated = kernel.repeat(1, -(-in_channels // 3), 1, 1)[:, :in_channels]
        adapted, how = repeated * (3 / in_channels), f"its three repeated and scaled by 3/{in_channels}"
    logger.info("%s: %d input channel%s, %s", key, in_channels, "" if in_channels == 1 else "s", how)
    return {**state, key: adapted}


def replace_first_conv(module: nn.Module, name: str, in_channels: int) -> None:
    """Puts a convolution for `in_channels` channels in the place of `name`, random (Kaiming's normal distribution,
    fan-out, as in torchvision's networks); one that has as many already stays.

    Raises:
        ValueError: fewer than one channel.
    """
    if in_channels < 1:
        raise ValueError(f"in_channels must be at least 1, got {in_channels}")
    conv = module.get_submodule(name)
    if not isinstance(conv, nn.Conv2d):
        raise TypeError(f"{name} is no convolution: {type(conv).__name__}")
    if conv.in_channels == in_channels:
        return
    replaced = nn.Conv2d(
        in_channels,
        conv.out_channels,
        conv.kernel_size,  # type: ignore[arg-type]  # PyTorch says it less exactly than it wants to be told
        conv.stride,  # type: ignore[arg-type]
        conv.padding,  # type: ignore[arg-type]
        bias=conv.bias is not None,
    )
    nn.init.kaiming_normal_(replaced.weight, mode="fan_out", nonlinearity="relu")
    if replaced.bias is not None:
        nn.init.zeros_(replaced.bias)
    module.set_submodule(name, replaced)


def torchvision_weights(architecture: str) -> dict[str, Any]:
    """What torchvision offers for a backbone, by tag: of the classification network, and of the DeepLabV3 on it
    (COCO_WITH_VOC_LABELS_V1); empty for an architecture that is not torchvision's."""
    from torchvision.models import get_model_weights, list_models

    known, segmentation = list_models(), f"deeplabv3_{architecture}"
    offered = dict(get_model_weights(segmentation).__members__) if segmentation in known else {}
    own = dict(get_model_weights(architecture).__members__) if architecture in known else {}
    return offered | own


def _download(weights: Any) -> State:
    try:
        state: State = weights.get_state_dict(progress=True, check_hash=True)
    except OSError as error:  # URLError is one
        raise CheckpointError(
            f"backbone weights {weights.url} cannot be downloaded ({error}); "
            "download the file elsewhere and set backbone.weights to it, or to null for random weights"
        ) from error
    return _backbone_of(state) if any(key.startswith("backbone.") for key in state) else state


def _backbone_of(state: State) -> State:
    """Out of a segmentation network; of MobileNetV3 it has the features alone."""
    names = {key: key.removeprefix("backbone.") for key in state if key.startswith("backbone.")}
    return {f"features.{name}" if name[0].isdigit() else name: state[key] for key, name in names.items()}


def _listed(texts: list[str], separator: str) -> str:
    return separator.join(texts[:8]) + (f"{separator}and {len(texts) - 8} more" if len(texts) > 8 else "")


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors or .pth file, out of their wrappings (`unwrapped`); what is not a tensor by name is
    left out, and nothing is run.

    Raises:
        CheckpointError: no such file, one that holds more than plain tensors, or one that is larger than it looks.
    """
    found = read_file(path)
    contents = plain_dict(found)
    if contents is None:
        raise CheckpointError(f"weights {path}: expected a state dict, found {type(found).__name__}")
    state = unwrapped(contents)
    tensors = {key: value for key, value in state.items() if isinstance(key, str) and isinstance(value, Tensor)}
    for key, value in tensors.items():
        if not is_plain(value):
            raise CheckpointError(f"weights {path}: {key} is no plain tensor")
    return tensors


def read_file(path: Path, stand_ins: Sequence[tuple[type, str]] = ()) -> object:
    """What a .safetensors or .pth file holds: tensors, numbers, texts and containers of them; nothing in it is run.

    Args:
        path: the file.
        stand_ins: classes that take the place of what a .pth file names, such as (Inert, "mmengine.config.Config").

    Raises:
        CheckpointError: no such file, one that names anything else, or one that is larger than it looks.
    """
    if not path.is_file():
        raise CheckpointError(f"weights {path}: no such file")
    try:
        found: object = load_file(path) if path.suffix == ".safetensors" else _read_foreign(path, stand_ins)
    except Exception as error:  # readers of a damaged file raise whatever they like
        text = str(error)
        named = re.search(r"GLOBAL (\S+)", text)  # torch's own first line praises ways around its check
        reason = f"it names {named[1][:200]}" if named else (text.splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"weights {path} cannot be read as plain tensors: {reason}") from error
    return found


def plain_dict(value: object) -> dict[Any, Any] | None:
    """The items of a dict without what a file may have hung on it, such as an attribute `get`; None of all else."""
    return dict(dict.items(value)) if isinstance(value, dict) else None


def unwrapped(contents: dict[Any, Any]) -> dict[Any, Any]:
    """The state dict in what a training script wrote, under `state_dict` or `model`, or one of them in the other."""
    for _ in range(MOST_WRAPPINGS):
        inner = (plain_dict(contents.get(key)) for key in WRAPPINGS)
        contents = next((found for found in inner if found is not None), contents)
    return contents


def is_plain(value: Tensor) -> bool:
    """Whether a tensor is real and dense, takes no more memory than its file gave it, and has the methods of one."""
    if type(value) not in (Tensor, nn.Parameter) or vars(value):  # an attribute of its own may hide a method
        return False
    if value.layout != torch.strided or value.device.type != "cpu" or value.is_complex() or value.is_quantized:
        return False
    return value.numel() * value.element_size() <= value.untyped_storage().nbytes()


def _read_foreign(path: Path, stand_ins: Sequence[tuple[type, str]]) -> object:
    if zipfile.is_zipfile(path):  # torch compresses nothing; a stranger's archive could fill the memory
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(info.file_size for info in archive.infolist())
        if unpacked > path.stat().st_size:
            raise ValueError(f"it would unpack to {unpacked} bytes")
    with (
        warnings.catch_warnings(action="ignore"),  # about what the pickle is like; it is read as plain tensors or not
        torch.serialization.safe_globals(list(stand_ins)),
    ):
        return torch.load(path, map_location="cpu", weights_only=True)
