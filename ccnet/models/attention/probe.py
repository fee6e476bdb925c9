"""Which shape a part of a network takes and gives, found without the rest of it and without computing."""

import torch
from torch import Tensor, nn
from torch.func import functional_call

SIDE = 64  # of the probed map: five halvings leave something


def shapes(model: nn.Module, name: str) -> tuple[torch.Size, torch.Size]:
    """Shapes (B, C, H, W) that a module takes and gives, at an arbitrary B, H and W.

    The module runs alone, on the meta device, on as many channels as its first convolution or norm takes. One that has
    neither (an activation, a pool), or whose first convolution takes a part of its channels (blocks that split), runs
    after the modules before it in its nn.Sequential.

    Raises:
        ValueError: its channels cannot be told, it cannot run so, or it gives anything but one (B, C, H, W) tensor.
    """
    errors = []
    for *before, module in _series(model, name):
        try:
            feature = _input(before[0] if before else module)
            for each in before:
                feature = _run(each, feature)
            return feature.shape, _run(module, feature).shape
        except ValueError as error:
            errors.append(error)
    raise errors[0]


def _series(model: nn.Module, name: str) -> list[list[nn.Module]]:
    """The module, behind ever more of those before it: all series that begin where the channels are known."""
    module = model.get_submodule(name)
    parent_name, _, leaf = name.rpartition(".")
    parent = model.get_submodule(parent_name)
    series = [module]
    if type(parent).forward is nn.Sequential.forward:
        names = [key for key, _ in parent.named_children()]
        series = [parent.get_submodule(key) for key in names[: names.index(leaf) + 1]]
    found = [series[start:] for start in reversed(range(len(series))) if _in_channels(series[start]) is not None]
    if not found:
        raise ValueError(
            f"{type(module).__name__} has no convolution or norm that would tell its channels; "
            "name a module that has one"
        )
    return found


def _input(module: nn.Module) -> Tensor:
    channels = _in_channels(module)
    assert channels is not None
    return torch.empty(2, channels, SIDE, SIDE, device="meta")


def _in_channels(module: nn.Module) -> int | None:
    """Of the first convolution or norm, in the order in which they were defined."""
    for each in module.modules():
        if isinstance(each, (nn.Conv2d, nn.ConvTranspose2d)):
            return each.in_channels
        weight = getattr(each, "weight", None)
        if isinstance(weight, Tensor) and weight.ndim == 1 and len(weight) > 1:  # of a norm, in whatever library
            return len(weight)
    return None


@torch.no_grad()
def _run(module: nn.Module, feature: Tensor) -> Tensor:
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    on_meta = {key: torch.empty_like(value, device="meta") for key, value in tensors.items()}
    dtype = next((value.dtype for value in tensors.values() if value.is_floating_point()), feature.dtype)
    try:
        output = functional_call(module, on_meta, (feature.to(dtype),))
    except Exception as error:  # a stranger's forward raises whatever it likes
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{type(module).__name__} cannot run on a feature map alone: {reason}") from error
    if not isinstance(output, Tensor) or output.ndim != 4:
        kind = f"{output.ndim} dimensions" if isinstance(output, Tensor) else type(output).__name__
        raise ValueError(f"{type(module).__name__} gives no (B, C, H, W) tensor but {kind}")
    return output
