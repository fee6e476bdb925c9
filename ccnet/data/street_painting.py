"""A canvas behind a pinhole camera that takes colour and label in the same stroke.

World axes, metres: x right, y up from the road, z forward (depth). The canvas has four channels, R, G, B and labelId,
at twice the size of the picture: every drawing call paints all four, so that picture and label cannot disagree.
N points, P polygons; points are (..., 3) in world axes; a `face` is (4, 3): bottom left and right, top right and left.
"""

import math
from dataclasses import dataclass
from enum import IntEnum

import cv2
import numpy as np
from numpy.typing import ArrayLike

SUPERSAMPLE = 2
SHIFT = 4  # fractional bits of the coordinates handed to cv2
Colour = tuple[float, float, float] | np.ndarray
Patch = tuple[ArrayLike, Colour]  # rectangles on a face and their colour
Patches = list[Patch]
Block = tuple[tuple[float, ...], tuple[float, ...], dict[int, Patches]]


class Label(IntEnum):
    """labelIds (cityscapesScripts `labels.py`) that a scene may hold."""

    EGO_VEHICLE = 1
    ROAD = 7
    SIDEWALK = 8
    BUILDING = 11
    WALL = 12
    FENCE = 13
    POLE = 17
    TRAFFIC_LIGHT = 19
    TRAFFIC_SIGN = 20
    VEGETATION = 21
    TERRAIN = 22
    SKY = 23
    PERSON = 24
    RIDER = 25
    CAR = 26
    TRUCK = 27
    BICYCLE = 33


@dataclass(frozen=True)
class Light:
    """Weather and time of day."""

    zenith: Colour
    haze: Colour  # of the horizon, into which far things fade
    haze_depth: float  # metres after which 63 % of a colour is haze
    tint: Colour  # factor on the finished picture
    sun: float  # direct light, 0 (overcast) to 1
    shadow: tuple[float, float]  # (x, z) on the ground per metre of height
    clouds: float  # cover, 0 to 1
    lit_windows: float  # share of windows with the lamp on


class Canvas:
    """A (2H, 2W, 4) buffer for an (H, W) picture; `vanishing` is a fraction (x, y) of it, `eye` the camera's height."""

    def __init__(
        self, rng: np.random.Generator, size: tuple[int, int], vanishing: tuple[float, float], eye: float, light: Light
    ) -> None:
        height, width = SUPERSAMPLE * size[0], SUPERSAMPLE * size[1]
        self.rng, self.light = rng, light
        self.pixels = np.zeros((height, width, 4), np.uint8)
        self.vanishing = np.array(vanishing) * (width, height)
        self.eye = np.array((0.0, eye))
        self.focal = 0.78 * width
        self.scale = np.array((self.focal, -self.focal))

    def project(self, points: np.ndarray) -> np.ndarray:
        """(..., 3) world points to (..., 2) canvas pixels."""
        pixels: np.ndarray = self.vanishing + (points[..., :2] - self.eye) * self.scale / points[..., 2:]
        return pixels

    def fixed_point(self, points: np.ndarray) -> np.ndarray:
        rounded: np.ndarray = np.rint(self.project(points) * 2**SHIFT).astype(np.int32)
        return rounded

    def ink(self, colour: Colour, label: int, depth: float) -> tuple[float, ...]:
        clear = math.exp(-depth / self.light.haze_depth)
        (r, g, b), (far_r, far_g, far_b), veil = colour, self.light.haze, 1 - clear
        return (clear * r + veil * far_r, clear * g + veil * far_g, clear * b + veil * far_b, float(label))

    def fill(self, polygons: np.ndarray, colour: Colour, label: Label) -> None:
        """Fill (N, 3) or disjoint (P, N, 3) polygons, hazed by their mean depth."""
        if len(polygons):
            corners = self.fixed_point(polygons).reshape(-1, polygons.shape[-2], 2)
            depths = polygons[..., 2]
            ink = self.ink(colour, label, depths.sum() / depths.size)
            cv2.fillPoly(self.pixels, list(corners), ink, shift=SHIFT)

    def glaze(self, polygon: np.ndarray, colour: Colour, opacity: float, label: Label | None = None) -> None:
        """Blend an (N, 3) polygon over the picture; without a label, what lies below keeps its own."""
        corners = self.project(polygon)
        left, top = np.maximum(np.floor(corners.min(0)), 0).astype(int)
        right, bottom = np.maximum(np.ceil(corners.max(0)), -1).astype(int) + 1
        below = self.pixels[top:bottom, left:right]
        if below.size == 0:
            return
        above = below.copy()
        shifted = np.rint((corners - (left, top)) * 2**SHIFT).astype(np.int32)
        cv2.fillPoly(above, [shifted], self.ink(colour, label or 0, polygon[:, 2].mean()), shift=SHIFT)
        labels = (below if label is None else above)[..., 3].copy()
        below[...] = cv2.addWeighted(above, opacity, below, 1 - opacity, 0)
        below[..., 3] = labels

    def stroke(self, points: ArrayLike, thickness: float, colour: Colour, label: Label) -> None:
        """Draw a line through (N, 3) points, `thickness` in metres but at least one pixel of the picture."""
        points = np.asarray(points, np.float64)
        depth = points[:, 2].sum() / len(points)
        pixels = max(SUPERSAMPLE, round(self.focal * thickness / depth))
        ink = self.ink(colour, label, depth)
        cv2.polylines(self.pixels, [self.fixed_point(points)], False, ink, pixels, shift=SHIFT)

    def balls(self, centres: np.ndarray, radii: np.ndarray, tones: np.ndarray, colour: Colour, label: Label) -> None:
        """Paint (N, 3) balls of (N,) radii, all of them hazed as the first, their colour times (N,) tones."""
        pixels = np.maximum(self.focal * radii / centres[:, 2] * 2**SHIFT, 2**SHIFT).astype(int).tolist()
        inks = np.outer(tones, self.ink(colour, label, centres[0, 2]))
        inks[:, 3] = label
        for centre, radius, ink in zip(self.fixed_point(centres).tolist(), pixels, inks.tolist(), strict=True):
            cv2.circle(self.pixels, centre, radius, ink, -1, shift=SHIFT)

    def ball(self, centre: tuple[float, ...], radius: float, colour: Colour, label: Label) -> None:
        self.balls(np.array([centre]), np.array([radius]), np.ones(1), colour, label)

    def shade(self, face: np.ndarray) -> float:
        """Brightness of a face: above 0.92 towards the sun, below it on the far side."""
        (ax, ay, az), (bx, by, bz) = (face[3] - face[0]).tolist(), (face[1] - face[0]).tolist()
        outward = (ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx)
        to_sun = (-self.light.shadow[0], 1.0, -self.light.shadow[1])
        cosine: float = sum(a * b for a, b in zip(outward, to_sun, strict=True))
        cosine /= math.hypot(*outward) * math.hypot(*to_sun) + 1e-9
        return 0.92 + 0.4 * self.light.sun * cosine

    def visible(self, block: np.ndarray) -> list[tuple[int, np.ndarray]]:
        """The (index, face) pairs of (P, 4, 3) faces whose outside is in view."""
        corners = self.project(block)
        (ax, ay), (bx, by) = (corners[:, 1] - corners[:, 0]).T, (corners[:, 3] - corners[:, 0]).T
        inside = (corners[..., 0].max(1) > 0) & (corners[..., 0].min(1) < self.pixels.shape[1])
        return [(int(i), block[i]) for i in np.flatnonzero((ax * by < ay * bx) & inside)]


def faces(low: tuple[float, ...], high: tuple[float, ...]) -> np.ndarray:
    """(5, 4, 3) faces REAR, RIGHT, FRONT, LEFT, TOP of a block between two rectangles (x0, x1, z0, z1, y)."""
    corners = [(x, y, z) for x0, x1, z0, z1, y in (low, high) for x, z in ((x0, z0), (x1, z0), (x1, z1), (x0, z1))]
    return np.array(corners)[[(0, 1, 5, 4), (1, 2, 6, 5), (2, 3, 7, 6), (3, 0, 4, 7), (4, 5, 6, 7)]]


def on_face(face: np.ndarray, rectangles: ArrayLike) -> np.ndarray:
    """Place (P, 4) rectangles (u0, v0, u1, v1), fractions of a face, as (P, 4, 3) polygons."""
    u0, v0, u1, v1 = np.asarray(rectangles, np.float64).reshape(-1, 4).T
    u, v = np.stack([u0, u1, u1, u0], -1)[..., None], np.stack([v0, v0, v1, v1], -1)[..., None]
    placed: np.ndarray = (1 - v) * ((1 - u) * face[0] + u * face[1]) + v * ((1 - u) * face[3] + u * face[2])
    return placed


def turned(points: ArrayLike, x: float, z: float, yaw: float) -> np.ndarray:
    """Rotate (..., 3) points about the vertical by `yaw` radians, then move them to (x, z)."""
    px, py, pz = np.moveaxis(np.asarray(points, np.float64), -1, 0)
    cos, sin = math.cos(yaw), math.sin(yaw)
    return np.stack([x + px * cos + pz * sin, py, z - px * sin + pz * cos], -1)


def disc(radius: float, num_corners: int = 14, turn: float = 0.0) -> np.ndarray:
    """(N, 2) corners of a regular polygon about the origin."""
    angle = np.arange(num_corners) * 2 * np.pi / num_corners + turn
    return radius * np.stack([np.cos(angle), np.sin(angle)], -1)
