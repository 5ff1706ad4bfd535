"""Scenes under 25 lights, drawn by a small renderer: no download needed.

They are the offline stand-in for the Multi-Illumination data set: bodies of several
materials on a floor or in the corner of a room, photographed under each of 25 fixed
lights. Every report names them "rendered scenes (25 lights)".

A scene is a height field. Its coordinates do not depend on the size of the picture: x
points right and y down from the centre, the picture is 1 high, and z points to the
camera, which is far away.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lps_tf._internal import checks
from lps_tf.datasets.rendering.materials import GROUNDS, KINDS, MATERIALS

SOURCE = "rendered scenes (25 lights)"

# Azimuth (0 is right, 90 up) and elevation above the picture's plane, in degrees.
# Lights 2, 3, 19 to 22 and 24 stand close to the camera, as in the data set; few come
# from below, where a room has its floor.
_ANGLES = (
    *((-30, 30), (-6, 36), (0, 68), (60, 68), (18, 30)),
    *((42, 36), (66, 30), (90, 36), (114, 30), (138, 36)),
    *((162, 30), (186, 36), (210, 30), (0, 50), (51, 50)),
    *((103, 50), (154, 50), (206, 50), (257, 50), (120, 68)),
    *((180, 68), (240, 68), (300, 68), (309, 50), (90, 85)),
)
_AZIMUTH, _ELEVATION = np.deg2rad(_ANGLES).T
_FLAT = np.cos(_ELEVATION)
_XYZ = (_FLAT * np.cos(_AZIMUTH), -_FLAT * np.sin(_AZIMUTH), np.sin(_ELEVATION))

#: Unit vectors to the 25 lights, (25, 3).
LIGHTS = np.stack(_XYZ, -1).astype(np.float32)

# Some lamps are warmer than others. Low ones are stronger, which makes up for part of
# what they lose by shining along the picture's plane.
_WARMTH = np.cos(2.4 * np.arange(25))
_COLOURS = np.stack([1 + 0.1 * _WARMTH, np.ones(25), 1 - 0.14 * _WARMTH], -1)
_COLOURS = (_COLOURS / np.sqrt(LIGHTS[:, 2:])).astype(np.float32)
_AMBIENT = np.float32(0.16)
_LAMP = np.deg2rad(2.5)  # half the height of a lamp, seen from the scene
_NOWHERE = np.float32(-1e3)  # below everything


class Scene(NamedTuple):
    """One scene under all lights.

    Attributes:
        images: (25, height, width, 3) uint8, in the order of `LIGHTS`.
        materials: (height, width) uint8, indices of `MATERIALS`.
    """

    images: np.ndarray
    materials: np.ndarray


def render(seed: int, index: int, height: int = 62, width: int = 93) -> Scene:
    """Draws a scene: the same one for the same seed and index, whatever the size.

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

    # Four samples make a pixel.
    spacing = 1 / (2 * height)
    x = (np.arange(2 * width) + 0.5 - width) * spacing
    y = (np.arange(2 * height) + 0.5 - height) * spacing
    x, y = np.meshgrid(x.astype(np.float32), y.astype(np.float32))

    surfaces = _arrange(random)
    z, owner = _seen(surfaces, x, y)
    albedo, mirror, shininess, relief = _paint(surfaces, x, y, z, owner)
    z += relief
    normal = normals(z, spacing, owner)

    images = np.empty((25, 3, height, width), np.float32)
    openness = np.zeros_like(z)
    for image, light, colour in zip(images, LIGHTS, _COLOURS, strict=True):
        visible = visibility(z, spacing, light)
        diffuse = lambert(normal, light) * visible
        glint = highlight(normal, light, shininess) * visible
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
    images = (images + 0.5).astype(np.uint8).transpose(0, 2, 3, 1)
    materials = np.array([s.material for s in surfaces], np.uint8)
    return Scene(np.ascontiguousarray(images), materials[_majority(owner)])


def _pixels(samples: np.ndarray) -> np.ndarray:
    """Means of 2x2 samples, (..., 2 rows, 2 columns) to (..., rows, columns)."""
    rows = samples[..., ::2, :] + samples[..., 1::2, :]
    return (rows[..., ::2] + rows[..., 1::2]) / 4


def _majority(samples: np.ndarray) -> np.ndarray:
    """The most frequent of 2x2 samples; in a tie, the first that leads."""
    four = np.stack([samples[i::2, j::2] for i in (0, 1) for j in (0, 1)])
    votes = (four[:, None] == four).sum(1)
    return np.take_along_axis(four, votes.argmax(0)[None], 0)[0]


# Light on a height field. Arrays are indexed by row (y) and column (x).


def normals(z: np.ndarray, spacing: float, owner: np.ndarray) -> np.ndarray:
    """Unit normals of a height field, from central differences.

    Args:
        z: Heights (rows, columns).
        spacing: Distance of neighbouring rows and columns.
        owner: Which surface each pixel belongs to, (rows, columns). No difference is
            taken across surfaces: a body before a wall is not a slope of the wall.

    Returns:
        (3, rows, columns).
    """
    slopes = _slope(z.T, spacing, owner.T).T, _slope(z, spacing, owner)
    length = np.sqrt(slopes[0] ** 2 + slopes[1] ** 2 + 1)
    return np.stack([-slopes[0], -slopes[1], np.ones_like(z)]) / length


def _slope(z: np.ndarray, spacing: float, owner: np.ndarray) -> np.ndarray:
    """Derivative from row to row: the mean of the differences to both sides."""
    same = (owner[1:] == owner[:-1]).astype(np.float32)
    step = np.diff(z, axis=0) * same / np.float32(spacing)
    before, after = ((1, 0), (0, 0)), ((0, 1), (0, 0))
    sides = np.pad(same, before) + np.pad(same, after)
    return (np.pad(step, before) + np.pad(step, after)) / np.maximum(sides, 1)


def lambert(normal: np.ndarray, light: np.ndarray) -> np.ndarray:
    """Diffuse shading: the cosine between normal and light, at least 0.

    Args:
        normal: Unit vectors (3, rows, columns).
        light: Unit vector to the light, (3,).
    """
    x, y, z = (n * c for n, c in zip(normal, light, strict=True))
    return np.maximum(x + y + z, 0)


def highlight(
    normal: np.ndarray, light: np.ndarray, shininess: np.ndarray
) -> np.ndarray:
    """Blinn's and Phong's highlight; 0 where the light is behind the surface.

    Args:
        normal: Unit vectors (3, rows, columns).
        light: Unit vector to the light, (3,).
        shininess: Exponent (rows, columns); the larger, the smaller the highlight.
    """
    half = light + np.array([0, 0, 1], np.float32)  # the camera is at (0, 0, inf)
    cosine = lambert(normal, half / np.sqrt((half**2).sum()))
    power = np.exp(shininess * np.log(np.maximum(cosine, 1e-6)))
    return power * (lambert(normal, light) > 0)


def visibility(
    z: np.ndarray, spacing: float, light: Sequence[float], half_width: float = _LAMP
) -> np.ndarray:
    """The part of a lamp that each pixel of a height field sees: cast shadows.

    A pixel is in the shadow if a point ahead, on the line to the light, stands above
    it by more than tan(elevation) times the distance. With the field sheared so that
    these lines become columns, that is a running maximum, found for all pixels in one
    pass. The lamp is an upright bar, of which the horizon hides the lower part.
    Nothing stands outside the picture.

    Args:
        z: Heights (rows, columns), float32.
        spacing: Distance of neighbouring rows and columns.
        light: Unit vector to the middle of the lamp, (3,); all of the lamp is below
            the zenith.
        half_width: Half the lamp's height seen from the scene, in radians.

    Returns:
        (rows, columns), from 0 to 1.
    """
    across, along, up = (float(c) for c in light)
    if abs(across) > abs(along):
        return visibility(z.T, spacing, (along, across, up), half_width).T
    if along < 0:
        return visibility(z[::-1], spacing, (across, -along, up), half_width)[::-1]
    # The light now comes from the last row. The line that passes row 0 at column c
    # passes row i at column c + shift[i].
    rows, columns = z.shape
    shift = np.arange(rows)[:, None] * (across / along)
    whole = np.floor(shift).astype(np.int64)
    part = (shift - whole).astype(np.float32)
    lines = np.arange(-whole.max() - 1, columns - whole.min() + 1)
    column = lines + whole + 1
    outside = (column < 0) | (column > columns)
    # One more column on each side carries on with the slope at the border.
    z = np.pad(z, ((0, 0), (1, 1)), mode="reflect", reflect_type="odd")
    z = _lerp(np.take_along_axis(z, column.clip(0, columns + 1), 1), part)
    z[outside[:, :-1]] = _NOWHERE

    elevation = math.atan2(up, math.hypot(across, along))
    low, high = (math.tan(elevation + sign * half_width) for sign in (-1, 1))
    horizon = _horizon(z, spacing * math.hypot(across / along, 1), (low, high))
    seen = ((high - horizon) / (high - low)).clip(0, 1)
    line = np.arange(columns + 1) - whole - 1 - lines[0]
    return _lerp(np.take_along_axis(seen, line, 1), 1 - part)


def _lerp(z: np.ndarray, part: np.ndarray) -> np.ndarray:
    """Between each column and the next."""
    return z[:, :-1] + part * (z[:, 1:] - z[:, :-1])


def _horizon(z: np.ndarray, step: float, slopes: tuple[float, float]) -> np.ndarray:
    """Slope of the line of sight from each point to the horizon in the rows ahead.

    For each of the two slopes, it finds the point that stands out most over a line of
    that slope; the steeper line to one of these two is the answer. So it is exact
    about whether the horizon is above a given slope; in between the two, the true
    horizon may be a little higher.
    """
    row = np.arange(len(z), dtype=np.float32)[:, None, None]
    slopes = np.float32(slopes)[:, None]
    rise = row * (np.float32(step) * slopes)
    highest = np.full((len(z), 2, z.shape[1]), _NOWHERE)
    highest[:-1] = z[1:, None] - rise[1:]
    at = np.broadcast_to(row + 1, highest.shape).copy()
    for i in range(len(z) - 2, -1, -1):
        farther = highest[i + 1] > highest[i]
        np.copyto(highest[i], highest[i + 1], where=farther)
        np.copyto(at[i], at[i + 1], where=farther)
    over = highest + rise - z[:, None]
    return (over / (np.float32(step) * (at - row)) + slopes).max(1)


# What stands where: drawn from the scene's random numbers before any pixel is looked
# at, so that it is the same at every size.


class _Surface(NamedTuple):
    material: int
    seed: int  # of its texture
    frame: np.ndarray  # (3, 3): its axes, in rows
    centre: np.ndarray  # (3,)
    half: np.ndarray | None = None  # half extents along its axes; a plane has none
    shape: str = "plane"


# With q in units of the half extents, q0^2 + q1^2 + a q2^2 + b q2 <= c.
_ROUND = {"ball": (1, 0, 1), "cylinder": (0, 0, 1), "cone": (-0.25, 0.5, 0.25)}


def _arrange(random: np.random.RandomState) -> list[_Surface]:
    """A floor, perhaps with one wall or two, and bodies on them."""
    walls = random.randint(3)
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
    bodies = []
    for cell in random.permutation(12)[: random.randint(5, 10)]:
        place = np.array([cell % 4 - 1.5, cell // 4 - 1]) + random.uniform(-0.4, 0.4, 2)
        place = place * [0.375, 0.333]
        bodies.append(_body(random, random.choice(palette), place, planes))
    return planes + bodies


def _body(
    random: np.random.RandomState, material: int, place: np.ndarray, planes: list
) -> _Surface:
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
    """Three orthonormal rows; the first is as near as can be to `near`, the last up."""
    first = near - (near @ up) * up
    first = first / np.linalg.norm(first)
    return np.stack([first, np.cross(up, first), up])


def _plane_height(plane: _Surface, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    a, b, c = plane.frame[2].tolist()
    at_x, at_y, at_z = plane.centre.tolist()
    return at_z - a / c * (x - at_x) - b / c * (y - at_y)


def _body_height(body: _Surface, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Where the line of sight first meets a body; `_NOWHERE` if it passes by.

    A body is the intersection of three slabs and perhaps of something round; the line
    enters and leaves each of them once.
    """
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
        front = np.where(square > 0, np.minimum(front, (root - b) / a), _NOWHERE)
        # Seen along its axis, a cone has no end at the back but that of its slab.
        if a > 0:
            back = np.maximum(back, (-root - b) / a)
    return np.where(front > back, front, _NOWHERE)


def _seen(
    surfaces: list[_Surface], x: np.ndarray, y: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Heights of what the camera sees, and the number of the surface."""
    z, owner = np.full_like(x, _NOWHERE), np.zeros(x.shape, np.uint8)
    for i, surface in enumerate(surfaces):
        height = _plane_height if surface.half is None else _body_height
        height = height(surface, x, y)
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
    """Albedo, colour of reflections, shininess and relief of each pixel."""
    albedo, mirror = np.empty((2, 3, *x.shape), np.float32)
    shininess, relief = np.empty((2, *x.shape), np.float32)
    for i, surface in enumerate(surfaces):
        here = owner == i
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
    """Two coordinates of points on a surface, in the scene's units."""
    frame = surface.frame.astype(np.float32)
    centre = surface.centre.astype(np.float32)
    x, y, z = x - centre[0], y - centre[1], z - centre[2]
    if surface.shape in _ROUND:  # as the camera sees it, along its axis and across
        a, b = frame[2, :2] / max(np.hypot(*frame[2, :2]), 1e-6)
        return a * y - b * x, a * x + b * y
    q = np.stack([a * x + b * y + c * z for a, b, c in frame])
    if surface.half is None:
        return q[0], q[1]
    face = np.abs(q / surface.half[:, None].astype(np.float32)).argmax(0)
    return np.where(face == 0, q[1], q[0]), np.where(face == 2, q[1], q[2])
