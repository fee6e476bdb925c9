"""Samples beside what the network sees of them, on a page that needs nothing but itself."""

import base64
import io
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ccnet.data.doctor.findings import Finding
from ccnet.data.loader import Augmentation, AugmentedStream, permutation
from ccnet.data.sample import IGNORE_INDEX, LabelledImages
from ccnet.errors import DataError
from ccnet.visualize import IGNORE_COLOR, overlay

IMAGES = 8
EPOCHS = 4
WIDTH = 320  # of a picture on the page, in pixels
QUALITY = 85

STYLE = """
body { font: 14px/1.4 system-ui, sans-serif; margin: 2em; color: #222; background: #fafafa }
h1 { font-size: 1.4em } h2 { font-size: 1em; margin: 2em 0 .5em; overflow-wrap: anywhere }
ul { list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: .3em 1.2em }
li i { display: inline-block; width: 1.1em; height: 1.1em; margin-right: .4em; vertical-align: -.2em;
       border: 1px solid #888 }
p.error { color: #a00; overflow-wrap: anywhere } p.warning { color: #850; overflow-wrap: anywhere }
.row { display: flex; gap: 8px; overflow-x: auto; align-items: flex-start }
figure { margin: 0; flex: 0 0 auto; width: 240px } figcaption { color: #555; font-size: .9em }
img { width: 100%; display: block; margin-bottom: 4px }
figure.stored { padding-right: 8px; border-right: 2px solid #bbb }
"""
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<h1>{title}</h1>
<p>Left of each line an image as stored, then what training with seed {seed} makes of it in its first epochs.</p>
{findings}
<ul>
{legend}
</ul>
{samples}
</body>
</html>
"""


def write_contact_sheet(
    path: Path,
    title: str,
    dataset: LabelledImages,
    augmentation: Augmentation,
    *,
    seed: int,
    findings: Sequence[Finding] = (),
) -> None:
    """Writes one HTML file: the first images of training, as stored and as the first epochs augment them.

    Args:
        path: of the file.
        title: of the page.
        dataset: the training split.
        augmentation: what training applies.
        seed: of training; the crops and colours are those that it gets.
        findings: told at the top.
    """
    told = (f'<p class="{finding.severity}">{escape(finding.message())}</p>' for finding in findings)
    page = PAGE.format(
        title=escape(title),
        seed=seed,
        style=STYLE,
        findings="\n".join(told),
        legend="\n".join(_legend(dataset)),
        samples="\n".join(_samples(dataset, augmentation, seed)),
    )
    path.write_text(page, encoding="utf-8")


def _legend(dataset: LabelledImages) -> Iterator[str]:
    entries = [*zip(dataset.class_names, dataset.palette, strict=True), (f"ignored ({IGNORE_INDEX})", IGNORE_COLOR)]
    for name, (red, green, blue) in entries:
        yield f'<li><i style="background: rgb({red}, {green}, {blue})"></i>{escape(name)}</li>'


def _samples(dataset: LabelledImages, augmentation: Augmentation, seed: int) -> Iterator[str]:
    stream = AugmentedStream(dataset, augmentation, seed)
    for index in map(int, permutation(seed, 0, len(dataset))[:IMAGES]):
        try:
            sample = dataset[index]
        except DataError as error:
            yield f'<p class="error">{escape(str(error))}</p>'
            continue
        yield f'<h2>{escape(sample["name"])}</h2>\n<div class="row">'
        height, width = sample["mask"].shape
        yield _figure("stored", f"as stored, {width}x{height}", sample["image"], sample["mask"], dataset)
        for epoch in range(EPOCHS):
            [offset] = np.flatnonzero(permutation(seed, epoch, len(dataset)) == index)
            batch = stream.batch([epoch * len(dataset) + int(offset)])
            image, mask = batch["image"][0].permute(1, 2, 0).numpy(), batch["mask"][0].numpy()
            caption = f"epoch {epoch}, {mask.shape[1]}x{mask.shape[0]}"
            yield _figure("augmented", caption, image, mask, dataset)
        yield "</div>"


def _figure(kind: str, caption: str, image: NDArray[np.uint8], mask: NDArray[np.uint8], dataset: LabelledImages) -> str:
    pictures = (image, overlay(image, mask, dataset.palette))
    tags = "".join(f'<img src="{_embedded(picture)}" alt="{escape(caption)}">' for picture in pictures)
    return f'<figure class="{kind}">{tags}<figcaption>{escape(caption)}</figcaption></figure>'


def _embedded(pixels: NDArray[np.uint8]) -> str:
    picture, file = Image.fromarray(pixels), io.BytesIO()
    picture.thumbnail((WIDTH, 4 * WIDTH))
    picture.save(file, "JPEG", quality=QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
