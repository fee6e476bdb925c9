"""The things of a street scene: vehicles, people, bicycles, poles and signs, trees."""

import math

import numpy as np

from ccnet.data.street_painting import Block, Canvas, Label, Patch, Patches, disc, faces, on_face, turned

REAR, RIGHT, FRONT, LEFT = range(4)
GLASS, DARK, WHITE, RED, STEEL = (50, 60, 72), (26, 26, 28), (236, 236, 230), (205, 24, 24), (104, 108, 112)
LAMPS = [(0.03, 0.5, 0.2, 0.82), (0.8, 0.5, 0.97, 0.82)]
BUMPER: Patch = ([(0, 0, 1, 0.2)], (52, 52, 54))
PLATE: Patch = ([(0.38, 0.28, 0.62, 0.48)], WHITE)
TAIL: Patches = [BUMPER, PLATE, (LAMPS, RED)]
NOSE: Patches = [BUMPER, ([(0.27, 0.4, 0.73, 0.75)], DARK), PLATE, (LAMPS, (252, 248, 225))]
DOORS: Patches = [([(0, 0, 1, 0.14)], (46, 46, 48)), ([(0.33, 0.14, 0.337, 1), (0.6, 0.14, 0.607, 1)], DARK)]
PANE: Patches = [([(0.06, 0.1, 0.94, 0.88)], GLASS)]
PANES: Patches = [([(0.1, 0.1, 0.47, 0.88), (0.52, 0.1, 0.9, 0.88)], GLASS)]
UNDERSIDE: Patches = [([(0.2, 0, 0.8, 0.8)], (58, 58, 60))]  # between the tyres
TYRES: dict[int, Patches] = {REAR: UNDERSIDE, FRONT: UNDERSIDE}
CABIN: dict[int, Patches] = {REAR: PANE, FRONT: PANE, LEFT: PANES, RIGHT: PANES}
CARGO_DOORS: Patches = [
    ([(0.495, 0, 0.505, 1)], STEEL),
    BUMPER,
    ([(0.03, 0.06, 0.12, 0.14), (0.88, 0.06, 0.97, 0.14)], RED),
]
# Blocks: low and high rectangle (x0, x1, z0, z1, y), details per face; those on the road are dark undersides.
CAR: tuple[Block, ...] = (
    ((-0.8, 0.8, -2.0, 2.0, 0.0), (-0.8, 0.8, -2.0, 2.0, 0.32), TYRES),
    (
        (-0.86, 0.86, -2.1, 2.1, 0.26),
        (-0.9, 0.9, -2.15, 2.1, 0.9),
        {REAR: TAIL, FRONT: NOSE, LEFT: DOORS, RIGHT: DOORS},
    ),
    ((-0.84, 0.84, -1.95, 1.1, 0.9), (-0.64, 0.64, -1.45, 0.35, 1.47), CABIN),
)
TRUCK: tuple[Block, ...] = (
    ((-1.1, 1.1, -3.4, 3.5, 0.0), (-1.1, 1.1, -3.4, 3.5, 0.6), TYRES),
    ((-1.15, 1.15, 1.9, 3.7, 0.5), (-1.1, 1.1, 1.9, 3.4, 2.6), {**CABIN, REAR: [], FRONT: [*PANE, BUMPER]}),
    ((-1.25, 1.25, -3.6, 1.7, 0.6), (-1.25, 1.25, -3.6, 1.7, 3.3), {REAR: CARGO_DOORS}),
)
VEHICLES = {Label.CAR: (CAR, 0.33, (-1.3, 1.3)), Label.TRUCK: (TRUCK, 0.48, (-2.4, 2.7))}  # blocks, wheels, axles
PAINTS = np.array(
    ((182, 30, 34), (30, 62, 140), (225, 227, 228), (160, 166, 172), (40, 42, 48), (34, 92, 66), (214, 168, 40))
)
SKINS = np.array(((240, 200, 172), (222, 170, 134), (164, 112, 78), (104, 70, 50)))
CLOTHES = np.array(((190, 40, 60), (40, 80, 170), (235, 190, 60), (60, 130, 80), (120, 60, 130), (235, 120, 40)))
TROUSERS = np.array(((48, 95, 32), (184, 184, 182), (56, 56, 62), (30, 35, 56), (96, 48, 104)))
HAIR = ((50, 34, 24), (26, 24, 24), (150, 110, 60), (110, 110, 112))
LEAVES = np.array(((62, 96, 40), (80, 108, 38), (46, 84, 46), (104, 112, 40)))
# Corners, turn, rim, inside of prohibition, warning, stop, mandatory, priority, parking and direction signs.
SIGNS = (
    (20, 0.0, RED, WHITE),
    (3, -np.pi / 6, RED, WHITE),
    (8, np.pi / 8, WHITE, RED),
    (20, 0.0, WHITE, (20, 70, 190)),
    (4, 0.0, WHITE, (250, 196, 20)),
    (4, np.pi / 4, WHITE, (20, 80, 200)),
    (4, np.pi / 4, DARK, (245, 205, 40)),
)


def vehicle(canvas: Canvas, x: float, z: float, yaw: float, label: Label = Label.CAR) -> None:
    blocks, radius, axles = VEHICLES[label]
    rng = canvas.rng
    paint = rng.choice(PAINTS) * rng.uniform(0.85, 1.1)
    stretch = (1.0, rng.uniform(0.94, 1.14), rng.uniform(0.9, 1.08))
    for spread, opacity in ((1.35, 0.3), (1.15, 0.45)):
        footprint = np.insert(disc(spread) * (1.0, 2.3), 1, 0.0, axis=1)
        canvas.glaze(turned(footprint, x, z, yaw), DARK, opacity)
    if label == Label.TRUCK and math.cos(yaw) < 0:  # seen from ahead the cab hides the cargo
        blocks = (blocks[0], blocks[2], blocks[1])
    for low, high, details in blocks:
        for index, face in canvas.visible(turned(faces(low, high) * stretch, x, z, yaw)):
            canvas.fill(face, canvas.shade(face) * (paint if low[4] else np.array(DARK)), label)
            for rectangles, colour in details.get(index, ()):
                canvas.fill(on_face(face, rectangles), colour, label)
            if index in (LEFT, RIGHT) and 0 < low[4] < 0.7:
                side = low[1] + 0.05 if index == RIGHT else low[0] - 0.05
                for size, colour in ((radius, DARK), (0.58 * radius, (150, 152, 156))):
                    wheels = [[(side, radius + b, axle + a) for a, b in disc(size)] for axle in axles]
                    canvas.fill(turned(wheels, x, z, yaw), colour, label)


def person(canvas: Canvas, x: float, z: float, ground: float, label: Label = Label.PERSON, lean: float = 0.0) -> None:
    """A walker, or with `lean` the rider of a bicycle, in the plane that faces the camera."""
    rng = canvas.rng
    tall = rng.uniform(0.9, 1.1) * (0.65 if label == Label.PERSON and rng.random() < 0.15 else 1.0)
    skin, top, legs = rng.choice(SKINS), rng.choice(CLOTHES), rng.choice(TROUSERS)
    stride, swing = rng.uniform(-0.26, 0.26), rng.uniform(-0.2, 0.2)

    def at(*points: tuple[float, float]) -> np.ndarray:
        return np.array([(x + tall * dx + lean * max(y - 0.9, 0), ground + tall * y, z) for dx, y in points])

    for side, tone in ((-1, 0.75), (1, 0.95)):
        foot = side * (0.1 + stride)
        canvas.stroke(
            at((side * 0.09, 0.88), (side * 0.1 + 0.6 * foot, 0.45), (foot, 0.06)), 0.16 * tall, tone * legs, label
        )
        canvas.stroke(at((foot, 0.04), (foot + 0.1, 0.04)), 0.1, DARK, label)
        arm = at((side * 0.22, 1.38), (side * (0.3 + swing), 1.08), (side * 0.26 + swing, 0.84))
        canvas.stroke(arm, 0.11, tone * top, label)
    canvas.fill(at((-0.16, 0.82), (0.16, 0.82), (0.25, 1.4), (0.12, 1.5), (-0.12, 1.5), (-0.25, 1.4)), top, label)
    canvas.stroke(at((0, 1.5), (0, 1.56)), 0.12, 0.9 * skin, label)
    canvas.ball(at((0, 1.7))[0], 0.135 * tall, rng.choice(HAIR), label)
    canvas.ball(at((0.02, 1.66))[0], 0.105 * tall, skin, label)


def bicycle(canvas: Canvas, x: float, z: float, yaw: float, ground: float, ridden: bool = False) -> None:
    """Two wheels (spokes: a half transparent disc, labelled whole as in Cityscapes), frame, saddle and handlebar."""
    colour = canvas.rng.choice(CLOTHES)

    def at(*points: tuple[float, float]) -> np.ndarray:
        return turned([(0.0, ground + y, along) for along, y in points], x, z, yaw)

    for hub in (-0.54, 0.54):
        rim = at(*np.add(disc(0.34, 18), (hub, 0.35)))
        canvas.glaze(rim, (120, 122, 126), 0.45, Label.BICYCLE)
        canvas.stroke(np.r_[rim, rim[:1]], 0.055, DARK, Label.BICYCLE)
    rear, crank, seat, head = (-0.54, 0.35), (-0.05, 0.34), (-0.2, 0.85), (0.38, 0.9)
    for tubes in ((rear, crank, seat, rear), (crank, head, (-0.16, 0.72)), ((0.54, 0.35), head, (0.3, 1.05))):
        canvas.stroke(at(*tubes), 0.06, colour, Label.BICYCLE)
    canvas.stroke(at((-0.32, 0.95), (-0.08, 0.95)), 0.09, DARK, Label.BICYCLE)
    canvas.stroke(
        turned([(-0.26, ground + 1.06, 0.3), (0.26, ground + 1.06, 0.3)], x, z, yaw), 0.05, DARK, Label.BICYCLE
    )
    if ridden:
        person(canvas, x, z, ground + 0.35, Label.RIDER, lean=0.5 * math.sin(yaw))


def pole(canvas: Canvas, x: float, z: float, ground: float, top: float, thickness: float) -> None:
    """A round pole: a shaded and a lit half."""
    lit = x - math.copysign(thickness / 4, canvas.light.shadow[0])
    canvas.stroke([(x, ground, z), (x, top, z)], thickness, (78, 82, 84), Label.POLE)
    canvas.stroke([(lit, ground, z), (lit, top, z)], thickness / 2, (128, 132, 134), Label.POLE)


def lamp_post(canvas: Canvas, x: float, z: float, ground: float) -> None:
    top, inwards = canvas.rng.uniform(5.5, 8.0), -math.copysign(1.0, x)
    pole(canvas, x, z, ground, top, 0.2)
    arm = [(x, top, z), (x + 0.5 * inwards, top + 0.3, z), (x + 1.6 * inwards, top + 0.35, z)]
    canvas.stroke(arm, 0.1, STEEL, Label.POLE)
    canvas.stroke([arm[2], (x + 2.2 * inwards, top + 0.3, z)], 0.2, (210, 208, 190), Label.POLE)


def bollard(canvas: Canvas, x: float, z: float, ground: float) -> None:
    pole(canvas, x, z, ground, ground + 0.95, 0.18)
    canvas.stroke([(x, ground + 0.7, z), (x, ground + 0.82, z)], 0.18, WHITE, Label.POLE)


def traffic_sign(canvas: Canvas, x: float, z: float, ground: float) -> None:
    rng = canvas.rng
    height = rng.uniform(2.3, 3.0)
    pole(canvas, x, z, ground, height + 0.4, 0.12)
    for centre in ((x, height), (x, height - 0.98))[: rng.choice((1, 1, 2))]:
        corners, turn, rim, inside = SIGNS[rng.integers(len(SIGNS))]
        plate = rng.uniform(0.42, 0.56) * disc(1.0, corners, turn) * ((1.5, 1.0) if rim == DARK else (1.0, 1.0))
        for scale, colour in ((1.0, rim), (0.74, inside)):
            canvas.fill(np.c_[centre + scale * plate, np.full(corners, z - 0.1)], colour, Label.TRAFFIC_SIGN)
        lean = rng.uniform(-0.2, 0.2)
        symbol = [(x - lean, centre[1] - 0.16, z - 0.1), (x + lean, centre[1] + 0.16, z - 0.1)]
        canvas.stroke(symbol, 0.1, DARK if sum(inside) > 450 else WHITE, Label.TRAFFIC_SIGN)


def traffic_light(canvas: Canvas, x: float, z: float, ground: float) -> None:
    pole(canvas, x, z, ground, 3.4, 0.18)
    box = np.array([(x + dx, y, z) for dx, y in ((-0.26, 2.5), (0.26, 2.5), (0.26, 3.8), (-0.26, 3.8))])
    canvas.fill(box, (30, 32, 30), Label.TRAFFIC_LIGHT)
    burning = canvas.rng.integers(3)
    for lamp, colour in enumerate(((40, 230, 130), (255, 190, 40), (255, 50, 40))):
        tone = 1.0 if lamp == burning else 0.28
        canvas.ball((x, 2.74 + 0.41 * lamp, z), 0.17, tone * np.array(colour), Label.TRAFFIC_LIGHT)


def foliage(canvas: Canvas, centre: tuple[float, ...], spread: tuple[float, float], num_leaves: int) -> None:
    """Clumps of leaves, dark inside and below, bright on top and towards the sun."""
    rng = canvas.rng
    angle, reach, tone = rng.random((3, num_leaves))
    layer = np.linspace(0.0, 1.0, num_leaves)  # from the inside out
    sunwards = -np.sign(canvas.light.shadow[0]) * (layer - 0.4) * 0.25
    across = 0.8 * np.sqrt(reach) * np.cos(2 * np.pi * angle) + sunwards
    up = 0.8 * np.sqrt(reach) * np.sin(2 * np.pi * angle) + 0.35 * (layer - 0.4)
    centres = np.stack([centre[0] + spread[0] * across, centre[1] + spread[1] * up, np.full(num_leaves, centre[2])], -1)
    radii = min(spread) * (0.17 + 0.18 * tone) * (1.25 - 0.6 * layer)
    canvas.balls(centres, radii, 0.45 + 0.65 * layer + 0.35 * tone, rng.choice(LEAVES), Label.VEGETATION)


def tree(canvas: Canvas, x: float, z: float, ground: float) -> None:
    rng = canvas.rng
    crown, radius = rng.uniform(3.6, 5.5), rng.uniform(1.3, 2.4)
    for offset, thickness, bark in ((0.0, 0.32, (68, 56, 44)), (-0.06, 0.12, (98, 84, 66))):
        canvas.stroke([(x + offset, ground, z), (x + offset, crown, z)], thickness, bark, Label.VEGETATION)
    foliage(canvas, (x, crown, z), (radius, radius * rng.uniform(0.8, 1.2)), 60 if z < 40 else 24)
