"""Networks of the timm package (https://github.com/huggingface/pytorch-image-models), an optional dependency."""

import difflib
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ccnet.errors import CheckpointError, ConfigError
from ccnet.models.backbones.weights import State, adapt_first_conv, fill, find_weights

STRIDES = (8, 16, 32)
ODD, EVEN = (67, 97), (96, 128)  # sides that no stride divides, and that every one does


class TimmFeatures(nn.Module):
    """Features at strides 4 and 8, then 16 and 32 or what `output_stride` leaves of them, of any network that gives
    them with timm's `features_only`; below `network.` are timm's names.

    Args:
        name: of the network without a tag, as in `timm.list_models()`.
        output_stride: 8, 16 or 32; below 32 only where timm can dilate the network.
        weights: null (random), DEFAULT, a tag of timm's (such as in1k for resnest50d.in1k) or a file.
        in_channels: of the image; a pretrained first convolution is adapted as `adapt_first_conv` says.
        size_divisor: images are padded with zeros at the right and below to a multiple of it, and the features cut: 32
            for networks that fail at odd sizes or round them down (HRNet, ConvNeXt), 1 for the others. Small images
            try it when the network is made.

    Raises:
        ConfigError: timm is missing; a name it does not know; an output stride or features that the network lacks; a
            size_divisor that is not enough for it.
        CheckpointError: weights that are not there or do not fit.
    """

    def __init__(
        self,
        name: str,
        output_stride: Literal[8, 16, 32] = 16,
        weights: str | None = None,
        in_channels: int = 3,
        size_divisor: int = 1,
    ) -> None:
        super().__init__()
        timm = _import(name)
        if in_channels < 1 or size_divisor < 1:
            raise ValueError(f"in_channels and size_divisor must be at least 1, got {in_channels} and {size_divisor}")
        self.network = _create(timm, name, output_stride, in_channels)
        self.taps = _taps(self.network)
        channels = self.network.feature_info.channels()
        self.out_channels = [channels[tap] for tap in self.taps]
        self.strides = [min(stride, output_stride) for stride in (4, 8, 16, 32)]
        self.name, self.output_stride, self.size_divisor = name, output_stride, size_divisor
        self._require_all_sizes(in_channels)
        _load(timm, self.network, name, weights, in_channels)

    def forward(self, image_BCHW: Tensor) -> list[Tensor]:
        """A normalised image (B, in_channels, H, W) -> four features from fine to coarse."""
        height, width = image_BCHW.shape[-2:]
        padded = F.pad(image_BCHW, (0, -width % self.size_divisor, 0, -height % self.size_divisor))
        features = self.network(padded if self.size_divisor > 1 else image_BCHW)
        kept = [features[tap] for tap in self.taps]
        if self.size_divisor == 1:
            return kept
        return [each[..., : -(-height // s), : -(-width // s)] for each, s in zip(kept, self.strides, strict=True)]

    @torch.no_grad()
    def _require_all_sizes(self, in_channels: int) -> None:
        self.network.eval()
        height, width = (side + -side % self.size_divisor for side in ODD)
        problem = self._problem(in_channels, height, width)
        if problem and not self._problem(in_channels, *EVEN):
            problem = "it fails at sizes that 32 does not divide, or rounds them down; set backbone.size_divisor=32"
        if problem:
            raise ConfigError(f"backbone.name={self.name} of timm: {problem}")
        self.network.train()

    def _problem(self, in_channels: int, height: int, width: int) -> str | None:
        """What is wrong with the features of an image, if anything is."""
        try:
            features = self.network(torch.zeros(1, in_channels, height, width, device=next(self.parameters()).device))
        except Exception as error:  # a stranger's forward raises whatever it likes
            return (str(error).splitlines() or [type(error).__name__])[0]
        given = [tuple(features[tap].shape[1:]) for tap in self.taps]
        expected = [(c, -(-height // s), -(-width // s)) for c, s in zip(self.out_channels, self.strides, strict=True)]
        return None if given == expected else f"features of {height}x{width} are {given}, and not {expected}"


def _import(name: str) -> Any:
    """The package, if it is there and knows the network.

    Names with a source (`hf-hub:`, `local-dir:`) would have timm read or download what they say: a checkpoint's
    configuration must not.
    """
    try:
        import timm
    except ModuleNotFoundError as error:
        raise ConfigError(f'backbone.name={name} needs timm: pip install "timm>=1.0,<2"') from error
    if "." in name or ":" in name or "/" in name or not timm.is_model(name):
        close = difflib.get_close_matches(name.partition(".")[0], timm.list_models(), n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise ConfigError(f"backbone.name={name} is no network of timm {timm.__version__}, without a tag{hint}")
    return timm


def _create(timm: Any, name: str, output_stride: int, in_channels: int) -> Any:
    """A random network that gives features.

    Raises:
        ConfigError: with the output strides that it can have.
    """
    try:
        return _try_to_create(timm, name, output_stride, in_channels)
    except Exception as error:  # networks refuse an argument in as many ways as there are authors
        reason = f": {error}" if str(error) else ""
        possible = [str(stride) for stride in STRIDES if stride != output_stride and _can(timm, name, stride)]
        if possible:
            message = f"backbone.output_stride={output_stride}: {name} of timm can have {' or '.join(possible)}"
        else:
            message = f"backbone.name={name} of timm has no features at strides 4, 8, 16 and 32 or less"
        raise ConfigError(message + reason) from error


def _try_to_create(timm: Any, name: str, output_stride: int, in_channels: int = 3) -> Any:
    stride = None if output_stride == 32 else output_stride  # None is not handed on to networks that know no such thing
    network = timm.create_model(name, features_only=True, in_chans=in_channels, output_stride=stride)
    given = network.feature_info.reduction()
    if [given[tap] for tap in _taps(network)] != [min(each, output_stride) for each in (4, 8, 16, 32)]:
        raise ValueError(f"its features have strides {', '.join(map(str, given))}")
    if getattr(network, "output_fmt", "NCHW") not in ("NCHW", None):
        raise ValueError("its features are not (B, C, H, W)")
    return network


def _can(timm: Any, name: str, output_stride: int) -> bool:
    try:
        with torch.device("meta"):
            _try_to_create(timm, name, output_stride)
    except Exception:  # as above
        return False
    return True


def _taps(network: Any) -> list[int]:
    return [index for index, stride in enumerate(network.feature_info.reduction()) if stride >= 4]


def timm_weights(name: str) -> list[str]:
    """The tags of weights that timm offers for a network, DEFAULT first; empty where there are none."""
    import timm

    tags = [each.partition(".")[2] for each in timm.list_models(f"{name}.*", pretrained=True)]
    return ["DEFAULT", *tags] if tags else []


def _load(timm: Any, network: Any, name: str, weights: str | None, in_channels: int) -> None:
    if weights is None:
        return
    offered = {tag: partial(_download, timm, name, tag) for tag in timm_weights(name)}
    found = find_weights(name, weights, offered)
    state: State = {key.removeprefix("network."): value for key, value in found.items()}  # ours, or timm's
    for first_conv in _names(network.pretrained_cfg.get("first_conv")):
        state = adapt_first_conv(state, f"{first_conv}.weight", in_channels)
    # Features of a series of stages are called stages_0, and the classification network has stages.0.
    own = {key.replace(".", "_"): key for key in network.state_dict()}
    renamed = {own.get(key.replace(".", "_"), key): value for key, value in state.items()}
    with torch.device("meta"):
        spare = timm.create_model(name).state_dict().keys()  # with the classifier
    fill(network, name, renamed, f"timm's {weights}" if weights in offered else weights, spare=spare)


def _names(first_conv: str | Sequence[str] | None) -> Sequence[str]:
    return [first_conv] if isinstance(first_conv, str) else first_conv or []


def _download(timm: Any, name: str, tag: str) -> State:
    """The whole classification network's tensors, which timm fetches and holds against its own names."""
    source = name if tag == "DEFAULT" else f"{name}.{tag}"
    try:
        state: State = timm.create_model(source, pretrained=True).state_dict()
    except Exception as error:  # clients of the hub raise whatever they like
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(
            f"weights {source} cannot be had from timm ({reason}); "
            "download the file elsewhere and set backbone.weights to it, or to null for random weights"
        ) from error
    return state
