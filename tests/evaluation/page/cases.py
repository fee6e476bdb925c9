"""Evaluations made by hand, and a page as a browser would take it apart."""

import base64
import io
import re
from collections.abc import Sequence
from html.parser import HTMLParser

import numpy as np
import torch
from PIL import Image

from ccnet.evaluation.metrics import Scores
from ccnet.evaluation.outcome import ImageScores, Outcome, Picture

NAMES = ("road", "car, parked", "sky")
VOID = {"meta", "img", "br", "hr", "input", "link"}


def palette(num_classes: int) -> list[tuple[int, int, int]]:
    """Some colour for each class, none of them black."""
    return [(40 + 37 * index % 200, 60 + 91 * index % 190, 250 - 53 * index % 240) for index in range(num_classes)]


def make_outcome(
    names: Sequence[str] = NAMES, num_images: int = 5, image_name: str = "city/image", size: tuple[int, int] = (12, 20)
) -> Outcome:
    """Images of noise whose prediction is right at three of four pixels; the last class is never there."""
    rng = np.random.default_rng(0)
    num_classes, confusion = len(names), np.zeros((len(names), len(names)), np.int64)
    images, pictures = [], []
    for index in range(num_images):
        mask = rng.integers(0, max(num_classes - 1, 1), size, dtype=np.uint8)
        prediction = np.where(rng.random(size) < 0.75, mask, rng.permutation(mask.ravel()).reshape(size))
        mask[0] = 255
        valid = mask != 255
        cells = mask[valid].astype(int) * num_classes + prediction[valid]
        counts = np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)
        confusion += counts
        three = np.stack([counts.diagonal(), counts.sum(axis=1), counts.sum(axis=0)])
        images.append(ImageScores(f"{image_name}{index}", three, 0.1 * index, f"{index:064x}"))
        photo = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        pictures.append(Picture(images[-1].name, photo, mask, prediction))
    boundary = torch.from_numpy(np.stack([confusion.diagonal() // 2, confusion.sum(1), confusion.sum(0)]))
    scores = Scores(torch.from_numpy(confusion), list(names), loss=0.25, boundary=boundary)
    order = np.argsort([image.mean_iou for image in images])
    return Outcome(scores, images, pictures[:2], [pictures[index] for index in order[:3]])


class Page(HTMLParser):
    """What a browser would make of it; every tag is closed where it has to be."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: list[tuple[str, str]] = []  # tag, words
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs)
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert "svg" in self.open, f"<{tag}/> closes itself only within svg"
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append((self.open[-1], data))

    def attributes(self, tag: str, kind: str) -> list[dict[str, str]]:
        """Of the tags with a class."""
        return [attributes for name, attributes in self.tags if name == tag and kind in attributes["class"].split()]

    def words(self, tag: str) -> list[str]:
        """The texts right within a kind of tag."""
        return [words for name, words in self.texts if name == tag]

    def pictures(self) -> dict[str, np.ndarray]:
        """Embedded pictures by what they are told to be."""
        found = {}
        for _, attributes in [entry for entry in self.tags if entry[0] == "img"]:
            head, _, data = attributes["src"].partition(",")
            assert head == "data:image/jpeg;base64"
            found[attributes["alt"]] = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
        return found

    def require_self_contained(self) -> None:
        """No address leads out of the page, and nothing in it runs."""
        for tag, attributes in self.tags:
            assert tag not in {"script", "link", "iframe", "object", "embed", "form", "base", "style\n"}, tag
            for name, value in attributes.items():
                assert not name.startswith("on"), name
                if name in {"src", "href", "xlink:href", "srcset", "action", "data", "poster", "background"}:
                    assert value.startswith(("data:", "#")), value[:80]
        styles = [*self.words("style"), *(attributes.get("style", "") for _, attributes in self.tags)]
        assert not any(re.search(r"url\(|@import|expression", style) for style in styles)
