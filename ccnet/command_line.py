"""The command line that val and predict share."""

import argparse
import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NoReturn

from ccnet.errors import ConfigError

AUG_EVAL_SCALES = [0.75, 1.0, 1.25]
# What changes the answer of a trained model.
MODEL_KEYS = ("head", "backbone", "attention", "evaluation", "model.align_corners")


class OneLineParser(argparse.ArgumentParser):
    """An ArgumentParser whose complaints are one line each, without the usage; options are written in full."""

    def error(self, message: str) -> NoReturn:
        """Prints the message and exits with status 2."""
        self.exit(2, f"error: {message}; --help lists the options\n")

    def nearest(self, word: str) -> str:
        """A hint at the option that was meant, or nothing."""
        close = difflib.get_close_matches(word.partition("=")[0], self._option_string_actions, n=1)
        return f"; did you mean {close[0]}?" if close else ""


def evaluation_parser(description: str | None, *, several_checkpoints: bool = False) -> OneLineParser:
    """Options that choose a checkpoint and how the model is asked.

    Args:
        description: for --help.
        several_checkpoints: whether --checkpoint may be given more than once; it is a list then.
    """
    parser = OneLineParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "--checkpoint",
        action="append" if several_checkpoints else "store",
        help="a run (its best checkpoint) or a checkpoint folder; default: latest run"
        + ("; once for each to compare" if several_checkpoints else ""),
    )
    parser.add_argument("--output", help="folder for what is written")
    parser.add_argument("--device", default="auto", choices=["auto", "cuda", "mps", "cpu"])
    _add_inference_options(parser.add_argument_group("how the model is asked; where nothing is said, as in training"))
    parser.add_argument(
        "--allow-target", action="append", default=[], metavar="CLASS", help="your own class that a checkpoint may name"
    )
    parser.add_argument(
        "overrides", nargs="*", help="changes of the checkpoint's configuration, such as head.recurrence=3"
    )
    return parser


def _add_inference_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--aug-eval",
        action="store_true",
        help="flip, and scales 0.75, 1.0, 1.25 where --scales says nothing else",
    )
    group.add_argument("--flip-horizontal", action="store_true", help="also ask for the mirrored image")
    group.add_argument("--scales", type=_numbers(float), help="of the image, to average over, such as 0.5,1,2")
    group.add_argument("--average", choices=["probabilities", "logits"], help="what is averaged over views and windows")
    group.add_argument("--slide", action="store_true", help="sliding windows instead of the whole image")
    group.add_argument("--crop-size", type=_numbers(int), metavar="H,W", help="size of the windows")
    group.add_argument("--stride", type=_numbers(int), metavar="H,W", help="step of the windows; default 2/3 of them")
    group.add_argument("--batch-size", type=positive, help="images of one size, or windows, in one forward pass")
    group.add_argument("--amp", action="store_true", help="half precision: bf16, or fp16 where the GPU has no bf16")


def parse(parser: OneLineParser, words: Sequence[str] | None = None) -> argparse.Namespace:
    """Parses, with overrides allowed between options; a mistake ends with one line and status 2."""
    arguments, unknown = parser.parse_known_intermixed_args(words)
    if unknown:
        parser.error(f"unknown option {unknown[0]}{parser.nearest(unknown[0])}")
    for word in arguments.overrides:
        if "=" not in word:
            hint = "; put a pattern into quotes, so that the shell leaves it alone" if Path(word).exists() else ""
            parser.error(f"'{word}' is neither an option nor an override of the form key=value{hint}")
    return arguments


def effective_overrides(arguments: argparse.Namespace, keys: Sequence[str]) -> list[str]:
    """All changes of the checkpoint's configuration; options stand last, so that they win over groups.

    Args:
        arguments: the parsed command line.
        keys: beginnings of the keys that the tool uses.

    Raises:
        ConfigError: an option or override that would have no effect, or both for one key.
    """
    require_effect(arguments.overrides, keys)
    options = {_key(word): word for word in inference_overrides(arguments)}
    for word in arguments.overrides:
        if _key(word) in options:
            raise ConfigError(f"an option already says {options[_key(word)]}; leave it out, or the override {word}")
    return [*arguments.overrides, *options.values()]


def require_effect(overrides: Iterable[str], keys: Sequence[str]) -> None:
    """Raises:
    ConfigError: an override of a key that begins with none of `keys`, or of what a checkpoint brings.
    """
    for word in overrides:
        key = _key(word)
        if key == "backbone.weights":
            raise ConfigError("the override backbone.weights has no effect here; the checkpoint brings the weights")
        if not any(f"{key}.".startswith(f"{known}.") for known in keys):
            close = difflib.get_close_matches(key.partition(".")[0], keys, n=1)
            hint = f" (did you mean {close[0]}?)" if close else ""
            raise ConfigError(f"the override {key} has no effect here{hint}; these have: {', '.join(keys)}")


def _key(override: str) -> str:
    return override.partition("=")[0].lstrip("+~")


def share(text: str) -> float:
    """A number in 0..1, for argparse."""
    value = float(text)
    if not 0 <= value <= 1:
        raise ValueError(text)
    return value


def positive(text: str) -> int:
    """A number of at least 1, for argparse."""
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


def names(text: str) -> list[str]:
    """Names between commas, for argparse."""
    found = [name.strip() for name in text.split(",")]
    if not all(found):
        raise ValueError(text)
    return found


def inference_overrides(arguments: argparse.Namespace) -> list[str]:
    """The options as overrides of the `evaluation` part; none leaves the checkpoint's own.

    Raises:
        ConfigError: an option that would have no effect.
    """
    if (arguments.crop_size or arguments.stride) and not arguments.slide:
        raise ConfigError("--crop-size and --stride need --slide")
    if arguments.slide and not arguments.crop_size:
        raise ConfigError("--slide needs --crop-size H,W; 769,769 is the paper's, the crop of training is a good one")
    overrides = []
    if scales := arguments.scales or (AUG_EVAL_SCALES if arguments.aug_eval else None):
        overrides.append(f"evaluation.scales={_list(scales)}")
    if arguments.flip_horizontal or arguments.aug_eval:
        overrides.append("evaluation.flip=true")
    if arguments.slide:
        overrides.append(f"evaluation.crop_size={_list(arguments.crop_size)}")
        overrides.append(f"evaluation.stride={_list(arguments.stride) if arguments.stride else 'null'}")
    if arguments.average:
        overrides.append(f"evaluation.average={arguments.average}")
    if arguments.batch_size:
        overrides.append(f"evaluation.batch_size={arguments.batch_size}")
    if arguments.amp:
        overrides.append(f"evaluation.precision={half_precision(arguments.device)}")
    return overrides


def half_precision(device: str) -> str:
    """bf16 on a CPU and on GPUs that compute with it, else fp16."""
    import torch  # here, so that a mistake is told at once

    cuda = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    if cuda and torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    mps = device == "mps" or (device == "auto" and torch.backends.mps.is_available())
    return "fp16" if mps else "bf16"


def _list(numbers: Sequence[float]) -> str:
    return f"[{','.join(map(str, numbers))}]"


def _numbers(kind: type) -> type:
    def convert(text: str) -> list[float]:
        return [kind(part) for part in text.split(",")]

    convert.__name__ = f"comma-separated {kind.__name__}s"
    return convert  # type: ignore[return-value]
