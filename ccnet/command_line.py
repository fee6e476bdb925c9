"""The command line that val and predict share."""

import argparse
from collections.abc import Sequence

from ccnet.errors import ConfigError

AUG_EVAL_SCALES = [0.75, 1.0, 1.25]
MODEL_KEYS = ("head", "backbone", "evaluation", "model.align_corners")  # what changes the answer of a trained model


def evaluation_parser(description: str | None) -> argparse.ArgumentParser:
    """Options that choose a checkpoint and how the model is asked."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", help="a run (its best checkpoint) or a checkpoint folder; default: latest run")
    parser.add_argument("--output", help="folder for what is written")
    parser.add_argument("--device", default="auto", choices=["auto", "cuda", "mps", "cpu"])
    parser.add_argument(
        "--aug-eval",
        action="store_true",
        help="flip and scales 0.75, 1.0, 1.25; --scales or --flip-horizontal replace them",
    )
    parser.add_argument("--flip-horizontal", action="store_true", help="also ask for the mirrored image")
    parser.add_argument("--scales", type=_numbers(float), help="image scales to average over, such as 0.75,1.0,1.25")
    parser.add_argument("--slide", action="store_true", help="sliding windows instead of the whole image")
    parser.add_argument("--crop-size", type=_numbers(int), metavar="H,W", help="size of the windows")
    parser.add_argument("--stride", type=_numbers(int), metavar="H,W", help="step of the windows; default 2/3 of them")
    parser.add_argument(
        "--allow-target", action="append", default=[], metavar="CLASS", help="your own class that a checkpoint may name"
    )
    parser.add_argument(
        "overrides", nargs="*", help="changes of the checkpoint's configuration, such as head.recurrence=3"
    )
    return parser


def parse(parser: argparse.ArgumentParser, words: Sequence[str] | None = None) -> argparse.Namespace:
    """Parses, with overrides allowed between options."""
    arguments = parser.parse_intermixed_args(words)
    for word in arguments.overrides:
        if "=" not in word:
            parser.error(f"'{word}' is neither an option nor an override of the form key=value")
    return arguments


def effective_overrides(arguments: argparse.Namespace, keys: Sequence[str]) -> list[str]:
    """All changes of the checkpoint's configuration; options stand last, so that they win over groups.

    Args:
        arguments: the parsed command line.
        keys: beginnings of the keys that the tool uses.

    Raises:
        ConfigError: an option or override that would have no effect.
    """
    for word in arguments.overrides:
        key = word.partition("=")[0].lstrip("+~")
        if not any(f"{key}.".startswith(f"{known}.") for known in keys):
            raise ConfigError(f"the override {key} has no effect here; these have: {', '.join(keys)}")
    return [*arguments.overrides, *inference_overrides(arguments)]


def share(text: str) -> float:
    """A number in 0..1, for argparse."""
    value = float(text)
    if not 0 <= value <= 1:
        raise ValueError(text)
    return value


def inference_overrides(arguments: argparse.Namespace) -> list[str]:
    """The options as overrides of the `evaluation` part; none leaves the checkpoint's own.

    Raises:
        ConfigError: an option that would have no effect.
    """
    if (arguments.crop_size or arguments.stride) and not arguments.slide:
        raise ConfigError("--crop-size and --stride need --slide")
    if arguments.slide and not arguments.crop_size:
        raise ConfigError("--slide needs --crop-size H,W")
    named = arguments.scales is not None or arguments.flip_horizontal
    scales, flip = arguments.scales, arguments.flip_horizontal
    if arguments.aug_eval and not named:
        scales, flip = AUG_EVAL_SCALES, True
    overrides = []
    if named or arguments.aug_eval:
        overrides += [f"evaluation.scales={_list(scales or [1.0])}", f"evaluation.flip={str(flip).lower()}"]
    if arguments.slide:
        overrides.append(f"evaluation.crop_size={_list(arguments.crop_size)}")
        overrides.append(f"evaluation.stride={_list(arguments.stride) if arguments.stride else 'null'}")
    return overrides


def _list(numbers: Sequence[float]) -> str:
    return f"[{','.join(map(str, numbers))}]"


def _numbers(kind: type) -> type:
    def convert(text: str) -> list[float]:
        return [kind(part) for part in text.split(",")]

    convert.__name__ = f"comma-separated {kind.__name__}s"
    return convert  # type: ignore[return-value]
