"""Files that are not what their name says, or only nearly: what a downloaded or half-copied data set may hold."""

import io
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

LABELS = np.kron(np.arange(48).reshape(6, 8) % 19, np.ones((4, 4))).astype(np.uint8)
PHOTO = np.random.default_rng(3).integers(0, 256, (24, 32, 3)).astype(np.uint8)
SAVED = {
    "png": ("PNG", {}),
    "bmp": ("BMP", {}),
    "tif": ("TIFF", {}),
    "lzw.tif": ("TIFF", {"compression": "tiff_lzw"}),
    "deflate.tif": ("TIFF", {"compression": "tiff_deflate"}),
    "webp": ("WEBP", {"lossless": True}),
    "jpg": ("JPEG", {"quality": 95}),
}


def encoded(pixels: NDArray[np.generic] | Image.Image, kind: str, **options: object) -> bytes:
    """A file's bytes; `kind` is an ending of SAVED."""
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    buffer = io.BytesIO()
    name, saved = SAVED[kind]
    image.save(buffer, name, **{**saved, **options})
    return buffer.getvalue()


def truncated(pixels: NDArray[np.uint8], count: int) -> Iterator[tuple[str, bytes, bytes]]:
    """Each format, cut off at `count` places from its first byte to its last but one; and the whole file."""
    for kind in SAVED:
        whole = encoded(pixels, kind)
        for length in np.unique(np.linspace(1, len(whole) - 1, count).astype(int)):
            yield f"truncated_{length}.{kind}", whole[:length], whole


def damaged(pixels: NDArray[np.uint8], count: int) -> Iterator[tuple[str, bytes, bytes]]:
    """A PNG with one bit changed, which its checksums tell; and the whole file."""
    whole = encoded(pixels, "png")
    for place in np.unique(np.linspace(0, len(whole) - 1, count).astype(int)):
        yield f"damaged_{place}.png", whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :], whole


def chunk(name: bytes, content: bytes) -> bytes:
    """A PNG chunk with a right checksum."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(width: int, height: int, color: int = 2, depth: int = 8, data: bytes = b"", before: bytes = b"") -> bytes:
    """A PNG that declares a size and has whatever data."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + before + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def bombs() -> Iterator[tuple[str, bytes]]:
    """Small files that declare huge images, or unpack to much."""
    for width, height in ((30000, 30000), (2**31 - 1, 2**31 - 1), (10000, 12000), (0, 5), (5, 0), (2**31 - 1, 1)):
        for color in (0, 2, 3):
            yield f"bomb_{width}x{height}_{color}.png", png(width, height, color)
    yield "bomb_text.png", png(4, 4, before=chunk(b"zTXt", b"key\0\0" + zlib.compress(bytes(2**27))))
    yield "bomb_profile.png", png(4, 4, before=chunk(b"iCCP", b"key\0\0" + zlib.compress(bytes(2**27))))
    bmp, tif = bytearray(encoded(PHOTO, "bmp")), bytearray(encoded(LABELS, "tif"))
    width = tif.index(struct.pack("<HHI", 256, 4, 1)) + 8
    for size in (20000, 65535, 2**31 - 1):
        bmp[18:26] = struct.pack("<ii", size, size)
        tif[width : width + 4] = tif[width + 12 : width + 16] = struct.pack("<I", size)
        yield f"bomb_{size}.bmp", bytes(bmp)
        yield f"bomb_{size}.tif", bytes(tif)
    jpg = bytearray(encoded(PHOTO, "jpg"))
    start = jpg.index(b"\xff\xc0") + 5
    jpg[start : start + 4] = struct.pack(">HH", 65535, 65535)
    yield "bomb.jpg", bytes(jpg)


def strangers() -> Iterator[tuple[str, bytes]]:
    """Other things under the name of an image."""
    gif = io.BytesIO()
    Image.fromarray(LABELS).save(gif, "GIF")
    texts = {
        "empty": b"",
        "text": b"not an image",
        "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EOF\n",
        "svg": b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
        "gif": gif.getvalue(),
        "zeros": bytes(4096),
        "pdf": b"%PDF-1.4\n%%EOF\n",
        "json": b'{"shapes": []}',
        "signature": b"\x89PNG\r\n\x1a\n",
        "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n",
        "html": b"<!DOCTYPE html><title>404 Not Found</title>",
        "random": np.random.default_rng(4).bytes(5000),
    }
    for name, content in texts.items():
        for kind in ("png", "jpg", "webp", "tif", "bmp"):
            yield f"{name}.{kind}", content


def special_files(folder: Path) -> Iterator[Path]:
    """What is no regular file, or one that cannot be opened."""
    directory = folder / "directory.png"
    directory.mkdir()
    yield directory
    yield folder / "missing.png"
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "fifo.png")
        yield folder / "fifo.png"
        link, loop = folder / "link.png", folder / "loop.png"
        link.symlink_to(folder / "nowhere.png")
        loop.symlink_to(loop)
        yield from (link, loop)
    if hasattr(os, "geteuid") and os.geteuid() != 0:
        closed = folder / "closed.png"
        closed.write_bytes(encoded(LABELS, "png"))
        closed.chmod(0)
        yield closed


def odd_images() -> Iterator[tuple[str, bytes]]:
    """Whole images in rare modes and sizes, with transparency or several frames."""
    photo = Image.fromarray(PHOTO)
    modes = {
        "L": ("png", "tif", "jpg", "webp", "bmp"), "RGB": ("png", "tif", "webp", "bmp"), "1": ("png", "tif", "bmp"),
        "P": ("png", "tif", "bmp"), "LA": ("png", "tif"), "RGBA": ("png", "tif", "webp"), "CMYK": ("tif", "jpg"),
        "YCbCr": ("jpg", "tif"), "I;16": ("png", "tif"), "I": ("tif",), "F": ("tif",),
    }  # fmt: skip
    for mode, kinds in modes.items():
        for kind in kinds:
            image = photo.convert("L").convert(mode) if mode.startswith(("I", "F")) else photo.convert(mode)
            yield f"mode_{mode.replace(';', '_')}.{kind}", encoded(image, kind)
    yield "mode_PA.tif", encoded(photo.convert("L").convert("PA"), "tif")
    yield "mode_LAB.tif", encoded(Image.frombytes("LAB", (32, 24), PHOTO.tobytes()), "tif")
    yield "transparency.png", encoded(photo.convert("P"), "png", transparency=bytes(range(256)))
    frames = [photo, Image.fromarray(PHOTO[::-1].copy())]
    for kind in ("png", "webp", "tif"):
        yield f"animated.{kind}", encoded(photo, kind, save_all=True, append_images=frames[1:])
    for height, width in ((1, 1), (1, 20000), (20000, 1), (3, 5)):
        pixels = np.random.default_rng(height).integers(0, 256, (height, width, 3)).astype(np.uint8)
        for kind in ("png", "bmp", "tif"):
            yield f"size_{width}x{height}.{kind}", encoded(pixels, kind)


def upright(stored: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """What EXIF's orientation 1..8 asks for, by its definition: where the stored first row and column lie."""
    turned = {
        1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1), 6: lambda a: a[::-1].swapaxes(0, 1),
        7: lambda a: a[::-1, ::-1].swapaxes(0, 1), 8: lambda a: a[:, ::-1].swapaxes(0, 1),
    }  # fmt: skip
    return turned[orientation](stored)


def turned_images(pixels: NDArray[np.uint8]) -> Iterator[tuple[str, bytes, NDArray[np.uint8]]]:
    """Every orientation in every lossless format that carries one: a file and what it shows."""
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        for kind in ("png", "tif", "webp")[: pixels.ndim]:  # WEBP holds colours alone
            whole = encoded(pixels, kind, exif=exif)
            yield f"exif_{orientation}.{kind}", whole, upright(pixels, orientation)
