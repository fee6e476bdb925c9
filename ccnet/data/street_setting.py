"""The street itself: sky, ground, houses and gardens, from far to near."""

from dataclasses import dataclass

import cv2
import numpy as np

from ccnet.data import street_painting as paint
from ccnet.data import street_things
from ccnet.data.street_painting import Canvas, Label

FAR = 130.0  # metres to the end of the street
CURB = 0.14  # height of the sidewalk, metres
PLASTER = np.array(
    ((186, 92, 70), (206, 170, 126), (226, 206, 168), (168, 164, 158), (150, 74, 60), (190, 132, 96), (222, 214, 202))
)
ROOFS = np.array(((142, 72, 54), (92, 84, 84), (120, 62, 50)))
DOORS = np.array(((84, 52, 36), (40, 62, 52), (60, 40, 44)))
GRASS = np.array(((110, 128, 62), (128, 124, 70), (94, 120, 58)))
STONE = np.array(((176, 172, 164), (150, 146, 138), (188, 176, 152)))
PALES = np.array(((120, 84, 52), (58, 66, 62), (206, 204, 196), (88, 104, 84)))


@dataclass(frozen=True)
class Street:
    """Where things stand, x or z in metres; the pairs are left and right, or near and far."""

    curbs: tuple[float, float]
    fronts: tuple[float, float]  # of the houses: the far edge of the sidewalks
    crossing: tuple[float, float] | None  # a side street
    parking: bool


def sky(canvas: Canvas) -> None:
    horizon, columns = int(canvas.project(np.array((0.0, 0.0, FAR)))[1]) + 2, canvas.pixels.shape[1]
    down = np.linspace(0, 1, horizon // 4 + 1)[:, None, None] ** 0.8
    colours = (1 - down) * canvas.light.zenith + down * np.array(canvas.light.haze)
    size = (columns // 4, len(down))
    octaves = (cv2.resize(canvas.rng.random((n, 2 * n)), size, interpolation=cv2.INTER_CUBIC) / n for n in (3, 6, 12))
    cover = np.clip((sum(octaves) / 0.583 - 0.62 + 0.3 * canvas.light.clouds) * 5, 0, 0.85)[..., None]
    clouds = 0.35 * colours + 0.65 * (248 - 40 * (1 - canvas.light.sun))
    picture = cv2.resize((1 - cover) * colours + cover * clouds, (columns, horizon))
    canvas.pixels[:horizon, :, :3] = picture
    canvas.pixels[:horizon, :, 3] = Label.SKY


def flat(x0: float, x1: float, z0: float, z1: float, y: float = 0.0) -> np.ndarray:
    return np.array([(x0, y, z0), (x1, y, z0), (x1, y, z1), (x0, y, z1)])


def ground(canvas: Canvas, street: Street) -> None:
    rng = canvas.rng
    asphalt = rng.uniform(72, 112) * np.array((1.0, 1.0, rng.uniform(1.0, 1.06)))
    slabs = rng.uniform(138, 172) * np.array((1.0, rng.uniform(0.93, 0.98), rng.uniform(0.84, 0.95)))
    grass = rng.choice(GRASS)
    nearest = canvas.focal * canvas.eye[1] / (canvas.pixels.shape[0] - canvas.vanishing[1])  # depth at the lower edge
    depths = np.geomspace(min(2.0, 0.9 * nearest), FAR, 9)
    for z0, z1 in zip(depths[-2::-1], depths[:0:-1], strict=True):  # in slices, as haze is one value per polygon
        canvas.fill(flat(-300, 300, z0, z1), grass, Label.TERRAIN)
        for side, curb, front in zip((-1, 1), street.curbs, street.fronts, strict=True):
            canvas.fill(flat(curb, front, z0, z1, CURB), slabs, Label.SIDEWALK)
            canvas.fill(flat(curb, curb + side * 0.18, z0, z1, CURB), 1.15 * slabs, Label.SIDEWALK)
            step = np.array([(curb, 0, z0), (curb, CURB, z0), (curb, CURB, z1), (curb, 0, z1)])
            canvas.fill(step, 0.7 * slabs, Label.SIDEWALK)
        canvas.fill(flat(*street.curbs, z0, z1), asphalt, Label.ROAD)
    for ends in zip(street.curbs, street.fronts, strict=True):
        joints = [flat(*ends, z, z + 0.05, CURB) for z in np.arange(4, 30, 1.2)]
        canvas.fill(np.array(joints), 0.82 * slabs, Label.SIDEWALK)
    if street.crossing is not None:
        canvas.fill(flat(-60, 60, *street.crossing), asphalt, Label.ROAD)
    _road_wear(canvas, street, asphalt)
    _markings(canvas, street)


def _road_wear(canvas: Canvas, street: Street, asphalt: np.ndarray) -> None:
    """The darker tracks of tyres, repairs and manhole covers: all of it road."""
    rng = canvas.rng
    for x in (-0.9, 0.9, street.curbs[0] / 2 - 0.8, street.curbs[0] / 2 + 0.8):
        canvas.glaze(flat(x - 0.25, x + 0.25, 2.5, 50), 0.7 * asphalt, 0.25)
    for _ in range(rng.integers(2, 7)):
        x, z, width = rng.uniform(*street.curbs), rng.uniform(4, 30), rng.uniform(0.4, 2)
        patch = flat(x, min(x + width, street.curbs[1]), z, z + rng.uniform(0.5, 5))
        canvas.glaze(patch, asphalt * rng.choice((0.7, 1.25)), 0.5)
    cover = np.insert(np.add(paint.disc(0.35), (street.curbs[0] / 2, rng.uniform(6, 25))), 1, 0.0, axis=1)
    canvas.glaze(cover, 0.5 * asphalt, 0.8)


def _markings(canvas: Canvas, street: Street) -> None:
    rng = canvas.rng
    centre, (dash, gap) = street.curbs[0] / 2 + 0.8, rng.choice(((3.0, 3.0), (4.0, 6.0), (6.0, 0.0)))
    lines = [flat(centre - 0.07, centre + 0.07, z, z + dash) for z in np.arange(2.5, 90, dash + gap)]
    if street.parking:
        lanes = (street.curbs[0] + 2.2, street.curbs[1] - 2.2)
        lines += [flat(x - 0.06, x + 0.06, z, z + 4) for x in lanes for z in np.arange(2.5, 60, 4)]
    canvas.fill(np.array(lines), rng.choice(((228, 228, 222), (205, 205, 200), (226, 196, 90))), Label.ROAD)
    if street.crossing is not None or rng.random() < 0.2:
        start = street.crossing[0] - 4 if street.crossing is not None else rng.uniform(8, 30)
        zebra = np.arange(street.curbs[0] + 0.3, street.curbs[1] - 0.5, 1.0)
        canvas.fill(np.array([flat(x, x + 0.5, start, start + 3) for x in zebra]), (225, 225, 220), Label.ROAD)


def plots(canvas: Canvas, street: Street) -> None:
    """What closes the street, then both rows of plots, far to near: houses, and gardens between them."""
    rng = canvas.rng
    for x in range(-84, 84, 14):
        block = flat(x, x + 14, FAR, FAR)
        block[2:, 1] = rng.uniform(5, 16)
        canvas.fill(block, rng.choice(PLASTER), Label.BUILDING)
    for x in rng.uniform(-40, 40, 8):
        street_things.foliage(canvas, (x, 3.0, FAR - 5), (5.0, 3.5), 20)
    start, end = street.crossing or (FAR, FAR)
    for side, front in zip((-1, 1), street.fronts, strict=True):
        bounds = np.cumsum(rng.uniform(9, 22, 16)) - rng.uniform(4, 8)
        bounds = bounds[(bounds < FAR) & ((bounds < start - 4) | (bounds > end + 4))]
        bounds = np.sort(np.r_[2.0, bounds, start, end, FAR])
        for z0, z1 in zip(bounds[-2::-1], bounds[:0:-1], strict=True):
            if z0 in (start, z1):
                continue
            if rng.random() < 0.64:
                _house(canvas, side, front + side * rng.choice((0, 0, 2.0)), z0, z1)
            else:
                _garden(canvas, side, front, z0, z1)


def _house(canvas: Canvas, side: int, front: float, z0: float, z1: float) -> None:
    rng = canvas.rng
    colour = rng.choice(PLASTER) * rng.uniform(0.85, 1.1)
    height = rng.choice((rng.uniform(5, 9), rng.uniform(9, 20)))
    near, far = sorted((front, front + side * 12))
    window = rng.uniform((0.4, 0.45, 2.2), (0.62, 0.65, 3.6))  # share of width and of height of a cell, metres of cell
    glass = rng.uniform(0.8, 1.4) * np.array((54, 66, 80))
    for _, face in canvas.visible(paint.faces((near, far, z0, z1, CURB), (near, far, z0, z1, height))[:4]):
        tone = canvas.shade(face)
        canvas.fill(face, colour * tone, Label.BUILDING)
        if face[:, 2].min() < 65:
            _masonry(canvas, face, height, colour * tone)
            _windows(canvas, face, height, window, glass, tone)
    if height < 9:
        ridge = (near + 3, far - 3, z0 + 0.5, z1 - 0.5, height + 3.2)
        tiles = rng.choice(ROOFS)
        for _, face in canvas.visible(paint.faces((near, far, z0, z1, height), ridge)):
            canvas.fill(face, tiles * canvas.shade(face), Label.BUILDING)


def _masonry(canvas: Canvas, face: np.ndarray, height: float, colour: np.ndarray) -> None:
    """Plinth, cornice, and near the camera courses of brick."""
    levels = np.arange(0.9, min(height, 9) - 0.6, 0.45) / height if face[:, 2].min() < 25 else ()
    courses = [(0, v, 1, v + 0.05 / height) for v in levels]
    canvas.fill(paint.on_face(face, [*courses, (0, 0, 1, 0.6 / height)]), 0.76 * colour, Label.BUILDING)
    canvas.fill(paint.on_face(face, [(0, 1 - 0.5 / height, 1, 1)]), 1.15 * colour, Label.BUILDING)


def _windows(
    canvas: Canvas, face: np.ndarray, height: float, window: np.ndarray, glass: np.ndarray, tone: float
) -> None:
    """Rows of framed windows, some mirroring the sky, some lit, and doors below them."""
    rng, (wide, tall, pitch) = canvas.rng, window
    columns, floors = max(int(np.linalg.norm(face[1] - face[0]) / pitch), 1), max(int(height / 3.0), 1)
    u, v = np.meshgrid((np.arange(columns) + 0.5) / columns, (np.arange(floors) + 0.5) / floors)
    half = np.array((-wide / columns, -tall / floors, wide / columns, tall / floors)) / 2
    cells = np.stack([u, v, u, v], -1).reshape(-1, 4) + half
    doors = cells[:columns][rng.random(columns) < 0.3] * (1, 0, 1, 1)
    shine = rng.random(len(cells))
    lit, dull = shine < canvas.light.lit_windows, shine < 0.7
    mirror = 0.6 * glass + 0.3 * np.array(canvas.light.zenith)
    for rectangles, colour in (
        (cells + 0.16 * half, tone * np.array((232, 228, 220))),
        (cells[dull & ~lit], tone * glass),
        (cells[~dull], mirror),
        (cells[lit], (255, 214, 130)),
        (doors, tone * rng.choice(DOORS)),
    ):
        canvas.fill(paint.on_face(face, rectangles), colour, Label.BUILDING)


def _garden(canvas: Canvas, side: int, front: float, z0: float, z1: float) -> None:
    """Trees, most often behind a wall or a fence."""
    rng = canvas.rng
    for z in np.arange(z1 - 1, z0, -5.0 if z0 < 50 else -9.0):
        street_things.tree(canvas, front + side * rng.uniform(2.5, 6), z, 0.0)
    length, height = z1 - z0, rng.uniform(1.2, 2.4)
    left, right = (z1, z0) if side < 0 else (z0, z1)
    face = np.array([(front, CURB, left), (front, CURB, right), (front, height, right), (front, height, left)])
    kind, tone = rng.random(), canvas.shade(face)
    if kind < 0.45:
        stone = tone * rng.choice(STONE)
        joints = [(u, 0, u + 0.06 / length, 1) for u in np.arange(0, 1, 2.4 / length)]
        canvas.fill(face, stone, Label.WALL)
        canvas.fill(paint.on_face(face, [*joints, (0, 0, 1, 0.12)]), 0.74 * stone, Label.WALL)
        canvas.fill(paint.on_face(face, [(0, 1 - 0.2 / height, 1, 1)]), 1.18 * stone, Label.WALL)
    elif kind < 0.9:
        wood = tone * rng.choice(PALES)
        pales = [(u, 0, u + 0.14 / length, 1) for u in np.arange(0, 1 - 0.1 / length, 0.34 / length)]
        canvas.glaze(face, 0.5 * wood, 0.7, Label.FENCE)
        canvas.fill(paint.on_face(face, pales), wood, Label.FENCE)
        canvas.fill(paint.on_face(face, [(0, 0.16, 1, 0.24), (0, 0.8, 1, 0.88)]), 0.85 * wood, Label.FENCE)
