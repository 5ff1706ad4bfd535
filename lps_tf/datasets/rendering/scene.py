"""Scenes under 25 lights, drawn by a small renderer: no download needed.

They are the offline stand-in for the Multi-Illumination data set: bodies of several
materials on a floor or in the corner of a room, photographed under each of 25 fixed
lights. Every report names them "rendered scenes (25 lights)".

A scene is a height field. Its coordinates do not depend on the size of the picture: x
points right and y down from the centre, the picture is 1 high, and z points to the
camera, which is far away.
"""

import math
from typing import NamedTuple

import numpy as np

from lps_tf._internal import checks
from lps_tf.datasets.rendering.materials import GROUNDS, KINDS, MATERIALS
from lps_tf.datasets.rendering.shading import (
    COLOURS,
    LIGHTS,
    NOWHERE,
    highlight,
    lambert,
    normals,
    visibility,
)

SOURCE = "rendered scenes (25 lights)"
_AMBIENT = np.float32(0.16)


class Scene(NamedTuple):
    """One scene under all lights.

    Attributes:
        images: (25, height, width, 3) uint8, in the order of `LIGHTS`.
        materials: (height, width) uint8, indices of `MATERIALS`.
    """

    images: np.ndarray
    materials: np.ndarray


def render(seed: int, index: int, height: int = 62, width: int = 93) -> Scene:
    """Draws a scene, which depends on the seed and the index and not on the size.

    A larger picture shows the same scene in more detail; other proportions show more
    or less of it on the left and on the right.

    Args:
        seed: Seed of the collection of scenes, below 2^32.
        index: Number of the scene, below 2^32.
        height: Rows of the pictures, at least 16.
        width: Columns of the pictures, at least 16.

    Raises:
        ValueError: If an argument is not such a whole number.
    """
    numbers = checks.count("seed", seed, 0), checks.count("index", index, 0)
    random = np.random.RandomState(numbers)
    height = checks.count("height", height, 16)
    width = checks.count("width", width, 16)

    # Four samples make a pixel: arrays of samples are (2 height, 2 width).
    spacing = 1 / (2 * height)
    x = (np.arange(2 * width) + 0.5 - width) * spacing
    y = (np.arange(2 * height) + 0.5 - height) * spacing
    x, y = np.meshgrid(x.astype(np.float32), y.astype(np.float32))

    surfaces = _arrange(random)
    z, owner = _seen(surfaces, x, y)
    albedo, mirror, shininess, relief = _paint(surfaces, x, y, z, owner)
    z += relief
    normal = normals(z, spacing, owner)

    # Planes of colour until the end: sums over pixels run along contiguous rows.
    images = np.empty((25, 3, height, width), np.float32)
    openness = np.zeros_like(z)
    for image, light, colour in zip(images, LIGHTS, COLOURS, strict=True):
        visible = visibility(z, spacing, light)
        diffuse = lambert(normal, light) * visible
        glint = highlight(normal, light, shininess) * visible
        # (3, samples) of reflected light to (3, height, width).
        image[:] = _pixels(albedo * diffuse + mirror * glint) * colour[:, None, None]
        openness += visible / 25

    # The little light that comes from everywhere gets where lamps do, and what is
    # smooth shows the upper, brighter part of the room.
    room = (0.5 - 1.5 * normal[1] * normal[2]).clip(0, 1)
    images += _pixels((albedo + mirror * room) * (_AMBIENT * openness))
    # The camera is set once for the scene; flashes vary a little.
    flash = np.exp(random.normal(0, 0.1, (25, 1, 1, 1)))
    images *= (0.25 / images.mean() * flash).astype(np.float32)
    images = 255 * (1 - np.exp(-images)) ** np.float32(1 / 2.2)
    images = (images + 0.5).astype(np.uint8).transpose(0, 2, 3, 1)  # channels last
    materials = np.array([s.material for s in surfaces], np.uint8)
    return Scene(np.ascontiguousarray(images), materials[_majority(owner)])


def _pixels(samples: np.ndarray) -> np.ndarray:
    """Takes means of 2x2 samples, (..., 2 rows, 2 columns) to (..., rows, columns)."""
    rows = samples[..., ::2, :] + samples[..., 1::2, :]
    return (rows[..., ::2] + rows[..., 1::2]) / 4


def _majority(samples: np.ndarray) -> np.ndarray:
    """Takes the most frequent of 2x2 samples; in a tie, the first that leads."""
    # (4, rows, columns): the samples of each pixel.
    four = np.stack([samples[i::2, j::2] for i in (0, 1) for j in (0, 1)])
    # How many of the four agree with each of them, (4, rows, columns).
    votes = (four[:, None] == four).sum(1)
    return np.take_along_axis(four, votes.argmax(0)[None], 0)[0]


# What stands where: drawn from the scene's random numbers before any pixel is looked
# at, so that it is the same at every size.


class _Surface(NamedTuple):
    """A plane or a body.

    Attributes:
        material: Index of its material.
        seed: Seed of its texture.
        frame: Axes, in rows, (3, 3).
        centre: Centre, (3,).
        half: Half extents along the axes, (3,); None of a plane.
        shape: "plane", or one of the shapes of its material.
    """

    material: int
    seed: int
    frame: np.ndarray
    centre: np.ndarray
    half: np.ndarray | None = None
    shape: str = "plane"


# With q in units of the half extents, q0^2 + q1^2 + a q2^2 + b q2 <= c.
_ROUND = {"ball": (1, 0, 1), "cylinder": (0, 0, 1), "cone": (-0.25, 0.5, 0.25)}


def _arrange(random: np.random.RandomState) -> list[_Surface]:
    """Draws a floor, perhaps with one wall or two, and bodies on them."""
    walls = random.randint(3)
    # With walls the camera looks down less steeply, or it would hardly see them.
    tilt = random.uniform(0.6, 0.95) if walls else random.uniform(0.1, 0.4)
    turn = random.uniform(-0.4, 0.4)
    turns = [(), (turn,), (turn - 0.75, turn + 0.75)][walls]
    cos, sin = np.cos(tilt), np.sin(tilt)
    ups = [(0, -sin, cos)] + [
        (np.sin(t), np.cos(t) * cos, np.cos(t) * sin) for t in turns
    ]
    corner = np.array([random.uniform(-0.3, 0.3), random.uniform(-0.25, 0.05), 0])
    grounds = random.permutation(GROUNDS)
    planes = [
        _Surface(material, _seed(random), _frame(np.array(up), np.eye(3)[0]), corner)
        for material, up in zip(grounds, ups, strict=False)
    ]
    # Bodies are mostly of what no floor is made of: it would be rare otherwise.
    others = np.setdiff1d(np.arange(len(MATERIALS)), GROUNDS)
    palette = [*random.permutation(others)[:3], random.choice(GROUNDS)]
    # One body at most in each cell of a grid of 3x4, somewhere about its middle.
    bodies = []
    for cell in random.permutation(12)[: random.randint(5, 10)]:
        place = np.array([cell % 4 - 1.5, cell // 4 - 1]) + random.uniform(-0.4, 0.4, 2)
        place = place * [0.375, 0.333]
        bodies.append(_body(random, random.choice(palette), place, planes))
    return planes + bodies


def _body(
    random: np.random.RandomState, material: int, place: np.ndarray, planes: list
) -> _Surface:
    """Draws a body that stands on the highest of the planes at a place (x, y)."""
    heights = [_plane_height(plane, *place) for plane in planes]
    up = planes[int(np.argmax(heights))].frame[2]
    frame = _frame(up, random.normal(size=3))
    shapes = KINDS[material].shapes
    shape = shapes[random.randint(len(shapes))]
    half = {
        "ball": (0.8, 0.8, random.uniform(0.5, 0.8)),
        "cylinder": (0.6, 0.6, random.uniform(0.4, 1.2)),
        "cone": (0.9, 0.9, random.uniform(0.7, 1.2)),
        "box": random.uniform(0.4, 1, 3),
        "slab": (*random.uniform(0.8, 1.7, 2), random.uniform(0.1, 0.25)),
    }[shape]
    half = random.uniform(0.11, 0.2) * np.array(half)
    rest = half[2]
    if shape == "cylinder" and random.uniform() < 0.4:  # it lies
        frame, rest = frame[[2, 0, 1]], half[0]
    centre = np.array([*place, max(heights)]) + rest * up
    return _Surface(material, _seed(random), frame, centre, half, shape)


def _seed(random: np.random.RandomState) -> int:
    return random.randint(2**31 - 1)


def _frame(up: np.ndarray, near: np.ndarray) -> np.ndarray:
    """Makes three orthonormal rows: one as near as can be to `near`, one, and `up`."""
    first = near - (near @ up) * up
    first = first / np.linalg.norm(first)
    return np.stack([first, np.cross(up, first), up])


def _plane_height(plane: _Surface, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    a, b, c = plane.frame[2].tolist()
    at_x, at_y, at_z = plane.centre.tolist()
    return at_z - a / c * (x - at_x) - b / c * (y - at_y)


def _body_height(body: _Surface, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Finds where the line of sight first meets a body; `NOWHERE` if it passes by.

    A body is the intersection of three slabs and perhaps of something round; the line
    enters and leaves each of them once.
    """
    assert body.half is not None  # it is no plane
    # In the body's frame, in its half extents, the line is start + z * along.
    axes = body.frame / body.half[:, None]
    along = np.where(np.abs(axes[:, 2]) < 1e-3, 1e-3, axes[:, 2]).tolist()
    at_x, at_y, at_z = body.centre.tolist()
    start = [
        a * (x - at_x) + b * (y - at_y) - c * at_z
        for (a, b, _), c in zip(axes.tolist(), along, strict=True)
    ]
    back, front = np.float32(-np.inf), np.float32(np.inf)
    for s, a in zip(start, along, strict=True):
        back = np.maximum(back, (-s - math.copysign(1, a)) / a)
        front = np.minimum(front, (-s + math.copysign(1, a)) / a)
    if body.shape in _ROUND:
        weight, linear, constant = _ROUND[body.shape]
        weights = (1, 1, weight)
        a = sum(w * c * c for w, c in zip(weights, along, strict=True))
        b = sum(w * c * s for w, c, s in zip(weights, along, start, strict=True))
        b = b + linear / 2 * along[2]
        c = sum(w * s * s for w, s in zip(weights, start, strict=True))
        c = c + linear * start[2] - constant
        square = b * b - a * c
        root = np.sqrt(np.maximum(square, 0))
        front = np.where(square > 0, np.minimum(front, (root - b) / a), NOWHERE)
        # Seen along its axis, a cone has no end at the back but that of its slab.
        if a > 0:
            back = np.maximum(back, (-root - b) / a)
    return np.where(front > back, front, NOWHERE)


def _seen(
    surfaces: list[_Surface], x: np.ndarray, y: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Finds the heights of what the camera sees, and the indices of the surfaces."""
    z, owner = np.full_like(x, NOWHERE), np.zeros(x.shape, np.uint8)
    for i, surface in enumerate(surfaces):
        meet = _plane_height if surface.half is None else _body_height
        height = meet(surface, x, y)
        owner[height > z] = i
        z = np.maximum(z, height)
    return z, owner


def _paint(
    surfaces: list[_Surface],
    x: np.ndarray,
    y: np.ndarray,
    z: np.ndarray,
    owner: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Gives each sample its albedo, colour of reflections, shininess and relief.

    Returns:
        Albedo and colour (3, rows, columns), shininess and relief (rows, columns).
    """
    albedo, mirror = np.empty((2, 3, *x.shape), np.float32)
    shininess, relief = np.empty((2, *x.shape), np.float32)
    for i, surface in enumerate(surfaces):
        here = owner == i  # its n samples; textures are functions of n points
        material = KINDS[surface.material]
        random = np.random.RandomState(surface.seed)
        gloss, sharpness = (random.uniform(*r) for r in material.gloss)
        shininess[here] = np.exp(sharpness)
        u, v = _surface_coordinates(surface, x[here], y[here], z[here])
        u, v = (w + np.float32(random.uniform(0, 64)) for w in (u, v))
        colour, relief[here] = material.texture(random, u, v)
        metal = np.float32(material.metallic)
        albedo[:, here] = colour * (1 - metal)
        mirror[:, here] = np.float32(gloss) * (metal * colour + 1 - metal)
    return albedo, mirror, shininess, relief


def _surface_coordinates(
    surface: _Surface, x: np.ndarray, y: np.ndarray, z: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Gives points on a surface two coordinates, in the scene's units."""
    frame = surface.frame.astype(np.float32)
    centre = surface.centre.astype(np.float32)
    x, y, z = x - centre[0], y - centre[1], z - centre[2]
    if surface.shape in _ROUND:  # as the camera sees it, along its axis and across
        a, b = frame[2, :2] / max(np.hypot(*frame[2, :2]), 1e-6)
        return a * y - b * x, a * x + b * y
    q = np.stack([a * x + b * y + c * z for a, b, c in frame])  # (3, n)
    if surface.half is None:
        return q[0], q[1]
    # A box: the axis, of three, along which the point is farthest out is its face's.
    face = np.abs(q / surface.half[:, None].astype(np.float32)).argmax(0)
    return np.where(face == 0, q[1], q[0]), np.where(face == 2, q[1], q[2])
