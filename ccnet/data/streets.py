"""Synthetic street scenes in the Cityscapes layout, so that a first training run needs no download.

root/leftImg8bit/{train,val}/{city}/{city}_{000000}_000019_leftImg8bit.png    8-bit RGB
root/gtFine/{train,val}/{city}/{city}_{000000}_000019_gtFine_labelIds.png     8-bit Cityscapes labelIds
root/streets.json                                                             what they were generated with
"""

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console
from rich.progress import track

from ccnet.data import street_setting, street_things
from ccnet.data.street_painting import SUPERSAMPLE, Canvas, Label, Light
from ccnet.data.street_setting import CURB, FAR, Street
from ccnet.errors import DataError

__all__ = ["draw_scene", "generate"]

VERSION = 1  # of the drawing: raise it when the same parameters give other pictures
CITIES = {"train": ("alderbruck", "fennmoor", "quellstadt", "torvik"), "val": ("sundrath", "wexlingen")}
GRAIN = {
    Label.ROAD: 3.5,
    Label.SIDEWALK: 3.5,
    Label.VEGETATION: 14,
    Label.TERRAIN: 12,
    Label.BUILDING: 3,
    Label.WALL: 5,
}
LIGHTS = (  # zenith, haze, haze depth, tint, sun, cloud cover, lit windows of clear, fair, overcast, low sun, dusk
    ((70, 128, 205), (190, 212, 232), 260, (1.04, 1.0, 0.96), 1.0, 0.35, 0.0),
    ((98, 150, 210), (214, 222, 228), 170, (1.02, 1.0, 0.97), 0.7, 0.6, 0.0),
    ((158, 168, 178), (206, 210, 214), 110, (0.93, 0.95, 0.97), 0.0, 0.9, 0.05),
    ((88, 118, 172), (250, 208, 160), 150, (1.12, 0.96, 0.8), 0.9, 0.4, 0.1),
    ((52, 66, 108), (188, 158, 160), 120, (0.78, 0.76, 0.86), 0.0, 0.5, 0.35),
)
FURNITURE: tuple[
    tuple[Callable[..., None] | None, float, tuple[float, float, float]], ...
] = (  # painter, share, (half width, low, high) of the shadow
    (street_things.tree, 0.18, (1.7, 2.6, 6.0)),
    (street_things.lamp_post, 0.12, (0.1, 0.0, 7.0)),
    (street_things.traffic_sign, 0.22, (0.12, 0.0, 2.8)),
    (street_things.bollard, 0.12, (0.1, 0.0, 1.0)),
    (street_things.traffic_light, 0.07, (0.2, 0.0, 3.6)),
    (None, 0.29, (0.0, 0.0, 0.0)),
)


@dataclass(frozen=True)
class Thing:
    """What stands or drives in the street; its shadow is that of a post, (half width, low, high) in metres."""

    x: float
    z: float
    shadow: tuple[float, float, float]
    draw: Callable[[Canvas], None]


def generate(
    root: str | Path, num_train: int = 200, num_val: int = 50, height: int = 256, width: int = 512, seed: int = 0
) -> None:
    """Write `num_train` + `num_val` scenes below `root`, or return at once when it already holds them.

    Picture i of a split depends on (seed, split, i, height, width) alone. The set is written aside and renamed, so that
    `root` is either whole or absent.

    Raises:
        DataError: `root` was generated with other parameters, lacks files, or holds something else.
    """
    root = Path(root).resolve()
    parameters = {"num_train": num_train, "num_val": num_val, "height": height, "width": width, "seed": seed}
    parameters["version"] = VERSION
    if _holds(root, parameters):
        return
    aside = root.with_name(f".{root.name}-{os.getpid()}")
    shutil.rmtree(aside, ignore_errors=True)  # of a killed process that had the same number
    try:
        _write_set(aside, parameters)
        _publish(aside, root, parameters)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _holds(root: Path, parameters: dict[str, int]) -> bool:
    """Whether `root` is the complete set of `parameters`; False where there is nothing yet."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    advice = "remove that folder or name another one"
    try:
        found = json.loads((root / "streets.json").read_text(encoding="utf-8"))
        differing = [
            f"{key} is {found.get(key)}, not {value}" for key, value in parameters.items() if found.get(key) != value
        ]
    except (OSError, ValueError, AttributeError) as error:
        raise DataError(
            f"{root} holds something other than generated street scenes (no readable streets.json): {advice}"
        ) from error
    if differing:
        raise DataError(f"{root} holds street scenes of other parameters ({', '.join(differing)}): {advice}")
    missing = [path for paths in _names(root, parameters) for path in paths[:2] if not path.exists()]
    if missing:
        raise DataError(f"{root} lacks {len(missing)} files, first {missing[0].relative_to(root)}: {advice}")
    return True


def _names(root: Path, parameters: dict[str, int]) -> list[tuple[Path, Path, str, int]]:
    """(image path, mask path, split, index) of every scene."""
    rows = []
    for split, cities in CITIES.items():
        for index in range(parameters[f"num_{split}"]):
            city = cities[index % len(cities)]
            stem = f"{split}/{city}/{city}_{index:06d}_000019"
            image, mask = (
                root / "leftImg8bit" / f"{stem}_leftImg8bit.png",
                root / "gtFine" / f"{stem}_gtFine_labelIds.png",
            )
            rows.append((image, mask, split, index))
    return rows


def _write_set(folder: Path, parameters: dict[str, int]) -> None:
    folder.mkdir(parents=True)
    names, console, hidden = _names(folder, parameters), Console(stderr=True), not sys.stderr.isatty()
    for image_path, mask_path, split, index in track(
        names, "Generating street scenes", console=console, disable=hidden
    ):
        entropy = (parameters["seed"], list(CITIES).index(split), index)
        rng = np.random.default_rng(np.random.SeedSequence(entropy))
        image, mask = draw_scene(rng, parameters["height"], parameters["width"])
        _write_png(image_path, image[..., ::-1])
        _write_png(mask_path, mask)
    (folder / "streets.json").write_text(json.dumps(parameters, indent=2) + "\n", encoding="utf-8")


def _write_png(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), pixels):  # by default the fastest compression
        raise OSError(f"cannot write {path}")


def _publish(aside: Path, root: Path, parameters: dict[str, int]) -> None:
    try:
        aside.rename(root)
    except OSError:
        # Another process (a second rank, say) may have published the same set meanwhile; anything else is an error.
        if not _holds(root, parameters):
            raise


def draw_scene(rng: np.random.Generator, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw one scene: a (H, W, 3) uint8 RGB image and its (H, W) uint8 mask of labelIds."""
    canvas = Canvas(
        rng, (height, width), (rng.uniform(0.38, 0.62), rng.uniform(0.4, 0.5)), rng.uniform(1.45, 2.0), _light(rng)
    )
    street = _street(rng)
    things = [*_sidewalk_things(rng, street), *_traffic(rng, street)]
    street_setting.sky(canvas)
    street_setting.ground(canvas, street)
    _shadows(canvas, things, street)
    street_setting.plots(canvas, street)
    for thing in sorted(things, key=lambda thing: -thing.z):
        if abs(thing.x) < thing.z + 2:  # the others stand beside the picture
            thing.draw(canvas)
    if rng.random() < 0.6:
        _bonnet(canvas)
    return _photograph(canvas, height, width)


def _light(rng: np.random.Generator) -> Light:
    zenith, haze, depth, tint, sun, clouds, lit = LIGHTS[rng.choice(len(LIGHTS), p=(0.3, 0.2, 0.25, 0.15, 0.1))]
    exposure = np.multiply(tint, rng.uniform(0.85, 1.12)) * rng.uniform(0.97, 1.03, 3)
    shadow = (rng.choice((-1, 1)) * rng.uniform(0.4, 1.6), rng.uniform(-0.4, 0.9))
    return Light(zenith, haze, depth * rng.uniform(0.7, 1.4), exposure, sun, shadow, clouds, lit)


def _street(rng: np.random.Generator) -> Street:
    """The camera drives in the right lane, so that more of the road lies to its left."""
    curbs = (-rng.uniform(5.0, 7.5), rng.uniform(3.2, 5.2))
    fronts = (curbs[0] - rng.uniform(2.4, 4.2), curbs[1] + rng.uniform(2.4, 4.2))
    start = rng.uniform(14, 60)
    crossing = (start, start + rng.uniform(7, 11)) if rng.random() < 0.4 else None
    return Street(curbs, fronts, crossing, bool(rng.random() < 0.75))


def _thing(
    x: float, z: float, shadow: tuple[float, float, float], painter: Callable[..., None], *arguments: object
) -> Thing:
    return Thing(x, z, shadow, lambda canvas: painter(canvas, x, z, *arguments))


def _vehicle(rng: np.random.Generator, x: float, z: float, yaw: float, trucks: float) -> Thing:
    label = Label.TRUCK if rng.random() < trucks else Label.CAR
    return _thing(x, z, (0.9, 0.0, 1.4), street_things.vehicle, yaw + rng.uniform(-0.04, 0.04), label)


def _sidewalk_things(rng: np.random.Generator, street: Street) -> Iterator[Thing]:
    """Furniture along the curbs, walkers and parked bicycles behind it, parked cars before it."""
    for side, curb, front in zip((-1, 1), street.curbs, street.fronts, strict=True):
        for z in np.arange(rng.uniform(5, 8), 60, 4.3):
            if street.crossing is not None and street.crossing[0] - 1.5 < z < street.crossing[1] + 1.5:
                continue
            painter, _, shadow = FURNITURE[rng.choice(len(FURNITURE), p=[share for _, share, _ in FURNITURE])]
            if painter is not None:
                yield _thing(curb + side * 0.45, z + rng.uniform(-1, 1), shadow, painter, CURB)
            if z < 48 and rng.random() < 0.36:
                x = curb + (front - curb) * rng.uniform(0.3, 0.85)
                yield _thing(x, z + rng.uniform(-2, 2), (0.25, 0.0, 1.7), street_things.person, CURB)
            if z < 40 and rng.random() < 0.2:
                yaw = rng.choice((-1, 1)) * np.pi / 2 + rng.uniform(-0.7, 0.7)
                yield _thing(
                    curb + side * rng.uniform(0.8, 1.5), z + 2, (0.5, 0.0, 0.9), street_things.bicycle, yaw, CURB
                )
            if street.parking and 9 < z < 46 and rng.random() < 0.3:
                yield _vehicle(rng, curb - side * 1.1, z, np.pi * (side < 0), trucks=0.05)


def _traffic(rng: np.random.Generator, street: Street) -> Iterator[Thing]:
    """Cars and trucks ahead and oncoming, riders, people and cars that cross."""
    for lane, yaw in ((0.1, 0.0), (street.curbs[0] * 0.5, np.pi)):
        for z in np.cumsum(rng.uniform(9, 22, 3)):
            if rng.random() < 0.6:
                yield _vehicle(rng, lane + rng.uniform(-0.3, 0.3), z, yaw, trucks=0.13)
    for _ in range(rng.choice(3, p=(0.45, 0.4, 0.15))):
        x, z = 0.75 * rng.uniform(*street.curbs), rng.uniform(9, 24)
        yield _thing(x, z, (0.4, 0.0, 1.7), street_things.bicycle, rng.uniform(-1.4, 1.4), 0.0, True)
    if rng.random() < 0.25:
        yield _thing(rng.uniform(*street.curbs), rng.uniform(10, 30), (0.25, 0.0, 1.7), street_things.person, 0.0)
    if street.crossing is not None and rng.random() < 0.6:
        yield _vehicle(rng, rng.uniform(*street.curbs), sum(street.crossing) / 2, rng.choice((-0.5, 0.5)) * np.pi, 0.1)


def _shadows(canvas: Canvas, things: list[Thing], street: Street) -> None:
    """Darken the ground where a thing or a row of houses hides the sun: colour alone, never the label."""
    light, (rows, columns) = canvas.light, canvas.pixels.shape[:2]
    shadow = np.zeros((rows // 4, columns // 4), np.uint8)

    def cast(ground: np.ndarray) -> None:
        ground[:, 2] = np.maximum(ground[:, 2], 1.5)
        hull = cv2.convexHull(np.rint(canvas.project(ground) * 4).astype(np.int32))
        cv2.fillConvexPoly(shadow, hull, 255, shift=4)

    offset = (light.shadow[0], 0.0, light.shadow[1])
    for thing in things:
        half, *levels = thing.shadow
        base = street_setting.flat(thing.x - half, thing.x + half, thing.z - half, thing.z + half)
        cast(np.concatenate([base + np.multiply(level, offset) for level in levels]))
    front = street.fronts[int(light.shadow[0] < 0)]
    cast(street_setting.flat(front, front + light.shadow[0] * canvas.rng.uniform(2, 6), 1.5, FAR))
    soft = cv2.resize(cv2.GaussianBlur(shadow, (0, 0), 1.2), (columns, rows))
    factor = cv2.convertScaleAbs(soft, alpha=-(0.12 + 0.4 * light.sun), beta=255)
    horizon = int(canvas.vanishing[1])
    ground = canvas.pixels[horizon:]
    lit = cv2.merge([factor[horizon:]] * 3 + [np.full_like(factor[horizon:], 255)])
    cv2.multiply(ground, lit, ground, scale=1 / 255)


def _bonnet(canvas: Canvas) -> None:
    """The front of the car that carries the camera, in the pictures' bottom rows."""
    rows, columns = canvas.pixels.shape[:2]
    colour, rise = canvas.rng.choice(street_things.PAINTS), canvas.rng.uniform(0.05, 0.1) * rows
    for inset, tone in ((0.0, 0.55), (0.15, 0.8), (0.5, 0.68)):
        axes = (int(columns * 0.5 - inset * rise), int(rise * (1 - inset)))
        ink = (*(tone * colour).tolist(), float(Label.EGO_VEHICLE))
        cv2.ellipse(canvas.pixels, (columns // 2, rows), axes, 0, 180, 360, ink, -1)


def _photograph(canvas: Canvas, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Reduce to the size of the picture; grain of the materials, exposure, blur of the lens, noise of the sensor."""
    rng = canvas.rng
    mask = np.ascontiguousarray(canvas.pixels[1::SUPERSAMPLE, 1::SUPERSAMPLE, 3])
    reduced = cv2.resize(canvas.pixels, (width, height), interpolation=cv2.INTER_AREA)
    image: np.ndarray = reduced[..., :3].astype(np.float32)
    amplitude = np.zeros(256, np.float32)
    amplitude[list(GRAIN)] = list(GRAIN.values())
    coarse = cv2.resize(rng.standard_normal((height // 3 + 1, width // 3 + 1), np.float32), (width, height))
    fine = rng.standard_normal((height, width), np.float32)
    grain = (fine + coarse) * amplitude[mask]
    image = (image + grain[..., None]) * np.asarray(canvas.light.tint, np.float32)
    image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 0.65))
    image = image + np.float32(rng.uniform(1.0, 3.0)) * fine[::-1, ::-1, None]
    return np.clip(image, 0, 255).astype(np.uint8), mask
