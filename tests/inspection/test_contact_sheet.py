"""The page of samples: what is on it, and that nothing on it can do harm."""

import base64
import io
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ccnet.data.augmentation import ScaleCropFlip, Unchanged
from ccnet.data.context_probe import ContextProbe
from ccnet.data.doctor.findings import Finding, Kind, Severity
from ccnet.data.folder import Folder
from ccnet.data.loader import AugmentedStream, train_batches
from ccnet.inspection import contact_sheet
from ccnet.inspection.contact_sheet import write_contact_sheet
from tests.conftest import write_folder

PALETTE = [(200, 0, 0), (0, 0, 200)]


class Page(HTMLParser):
    """What a browser would make of it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def pictures(self) -> list[np.ndarray]:
        sources = [attributes["src"] or "" for tag, attributes in self.tags if tag == "img"]
        assert all(source.startswith("data:image/jpeg;base64,") for source in sources)
        return [np.asarray(Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2])))) for source in sources]


def test_a_page_shows_what_the_network_sees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the batches of training, of the same seed, as far as JPEG keeps them."""
    monkeypatch.setattr(contact_sheet, "QUALITY", 95)
    dataset = Folder(str(write_folder(tmp_path)), "train", ["dark", "bright"], PALETTE)
    augmentation = ScaleCropFlip(crop_size=(24, 32))
    write_contact_sheet(tmp_path / "index.html", "a folder", dataset, augmentation, seed=5)
    pictures = Page((tmp_path / "index.html").read_text(encoding="utf-8")).pictures()
    assert len(pictures) == len(dataset) * 2 * (1 + contact_sheet.EPOCHS)
    batches = train_batches(
        dataset, augmentation, seed=5, batch_size=1, steps=range(len(dataset) * contact_sheet.EPOCHS), workers=0
    )
    seen = {}
    stream = AugmentedStream(dataset, augmentation, 5)
    for position, batch in enumerate(batches):
        seen[position // len(dataset), stream.index(position)] = batch["image"][0].permute(1, 2, 0).numpy()
    order = [stream.index(position) for position in range(len(dataset))]
    augmented = [pictures[10 * row + 2 + 2 * epoch] for row in range(3) for epoch in range(contact_sheet.EPOCHS)]
    for picture, (row, epoch) in zip(augmented, ((r, e) for r in range(3) for e in range(4)), strict=True):
        difference = np.abs(picture.astype(int) - seen[epoch, order[row]]).mean()
        assert difference < 8, (row, epoch)
        others = [
            np.abs(picture.astype(int) - other).mean() for key, other in seen.items() if key != (epoch, order[row])
        ]
        assert difference < min(others)


def test_names_cannot_write_into_the_page(tmp_path: Path) -> None:
    """Oracle: the tags that an HTML parser finds; the words arrive as they are."""
    evil = '<script>alert("x")</script><img src=x onerror=alert(1)>'
    dataset = Folder(str(write_folder(tmp_path)), "train", [evil, "bright"], PALETTE)
    finding = Finding(Kind.SIZE, Severity.ERROR, evil, evil)
    write_contact_sheet(tmp_path / "index.html", evil, dataset, Unchanged(), seed=0, findings=[finding])
    text = (tmp_path / "index.html").read_text(encoding="utf-8")
    page = Page(text)
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object", "form", "svg"}
    assert not any("onerror" in attributes for _, attributes in page.tags)
    assert page.words.count(evil) == 3  # title, heading, legend
    assert len(page.pictures()) == 30
    assert not [value for _, attributes in page.tags for key, value in attributes.items() if key in ("href", "action")]


def test_damaged_files_and_data_in_memory_have_a_page_too(tmp_path: Path) -> None:
    """Oracle: the file's name in the place of its pictures; the probe's own eight images."""
    root = write_folder(tmp_path)
    (root / "images" / "train" / "1.png").write_bytes(b"nonsense")
    dataset = Folder(str(root), "train", ["dark", "bright"], PALETTE)
    write_contact_sheet(tmp_path / "index.html", "a folder", dataset, Unchanged(), seed=0)
    page = Page((tmp_path / "index.html").read_text(encoding="utf-8"))
    assert len(page.pictures()) == 20
    assert any("1.png is not an image" in word for word in page.words)
    write_contact_sheet(tmp_path / "probe.html", "probe", ContextProbe("train"), Unchanged(), seed=0)
    assert len(Page((tmp_path / "probe.html").read_text(encoding="utf-8")).pictures()) == 80
