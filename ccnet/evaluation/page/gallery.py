"""The images that went worst: input, truth, prediction and error, embedded as JPEGs."""

import base64
import io
from collections.abc import Iterator, Mapping, Sequence

from PIL import Image

from ccnet.evaluation.outcome import Picture
from ccnet.evaluation.page.axes import label, per_cent
from ccnet.evaluation.worst import shrunk
from ccnet.visualize import Palette, Rgb, colorize, error_map

WIDTHS = (640, 480, 320, 160)  # of a picture and its height at most, in pixels; the first whose gallery is small enough
MOST_CHARACTERS = 6_000_000
QUALITY = 82


def gallery(pictures: Sequence[Picture], palette: Palette, scores: Mapping[str, float]) -> str:
    """A row of four pictures for each image.

    Args:
        pictures: the worst first.
        palette: colours of the classes.
        scores: mean IoU of the images by name.
    """
    text = ""
    for width in WIDTHS:
        articles = (_article(rank, picture, palette, scores, width) for rank, picture in enumerate(pictures, start=1))
        text = "\n".join(articles)
        if len(text) <= MOST_CHARACTERS:
            break
    return text


def _article(rank: int, picture: Picture, palette: Palette, scores: Mapping[str, float], width: int) -> str:
    name = label(picture.name, 200)
    figures = "\n".join(_figures(shrunk(picture, width), palette, name))
    score = per_cent(scores[picture.name])
    return (
        f"<article><h3><bdi>{rank}. {name}</bdi><span>mIoU {score}</span></h3>\n"
        f'<div class="row">\n{figures}\n</div></article>'
    )


def _figures(picture: Picture, palette: Palette, name: str) -> Iterator[str]:
    parts = {
        "input": picture.image,
        "truth": colorize(picture.mask, palette),
        "prediction": colorize(picture.prediction, palette),
        "error": error_map(picture.image, picture.mask, picture.prediction),
    }
    for kind, pixels in parts.items():
        yield (
            f'<figure><img src="{_embedded(pixels)}" alt="{kind} of {name}" width="{pixels.shape[1]}" '
            f'height="{pixels.shape[0]}"><figcaption>{kind}</figcaption></figure>'
        )


def _embedded(pixels: Rgb) -> str:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=QUALITY, subsampling=0)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
