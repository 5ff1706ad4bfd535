"""What the things in a rendered scene are made of.

A texture is a function of the place on a surface and of the surface's random numbers;
it gives linear colours and a relief.
"""

import colorsys
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

_Random = np.random.RandomState
_Array = np.ndarray
_Texture = tuple[np.ndarray, np.ndarray]  # (3, n), (n,)

_TABLE = _Random(0).uniform(-1, 1, 4096).astype(np.float32)


def _noise(u: _Array, v: _Array) -> _Array:
    """Smooth noise from -1 to 1, of wavelength 1 or so; it repeats after 64."""
    iu, iv = np.floor(u), np.floor(v)
    du, dv = u - iu, v - iv
    du, dv = du * du * (3 - 2 * du), dv * dv * (3 - 2 * dv)
    iu, iv = iu.astype(np.int32), iv.astype(np.int32)
    u0, u1, v0, v1 = (iu & 63) * 64, (iu + 1 & 63) * 64, iv & 63, iv + 1 & 63
    left = _TABLE[u0 + v0] + dv * (_TABLE[u0 + v1] - _TABLE[u0 + v0])
    right = _TABLE[u1 + v0] + dv * (_TABLE[u1 + v1] - _TABLE[u1 + v0])
    return left + du * (right - left)


def _fractal(u: _Array, v: _Array) -> _Array:
    """Noise of three sizes, each half as large and half as strong as the last."""
    fine = _noise(2 * u + 9, 2 * v) + _noise(4 * u, 4 * v + 5) / 2
    return _noise(u, v) + fine / 2


def _cells(u: _Array, v: _Array) -> tuple[_Array, _Array]:
    """Cells about jittered points, one in each unit square.

    Returns:
        The distance to the cell's point and a number of the cell, from -1 to 1.
    """
    iu, iv = np.floor(u), np.floor(v)
    du, dv = u - iu - np.float32(0.5), v - iv - np.float32(0.5)
    iu, iv = iu.astype(np.int32), iv.astype(np.int32)
    nearest, number = np.full_like(u, 9), np.zeros_like(u)
    for i in (-1, 0, 1):
        for j in (-1, 0, 1):
            cell = (iu + i & 63) * 64 + (iv + j & 63)
            a = i + np.float32(0.45) * _TABLE[cell] - du
            b = j + np.float32(0.45) * _TABLE[cell - 1] - dv
            distance = a * a + b * b
            number = np.where(distance < nearest, _TABLE[cell - 2], number)
            nearest = np.minimum(nearest, distance)
    return np.sqrt(nearest), number


def _number(row: _Array, column: _Array | int = 0) -> _Array:
    """A random number from -1 to 1 for each pair of whole numbers."""
    return _TABLE[(67 * row + 31 * column).astype(np.int32) & 4095]


def _above(x: _Array, width: float) -> _Array:
    """0 where x is negative, 1 where it is positive, blurred to that width."""
    return (x / np.float32(width) + np.float32(0.5)).clip(0, 1)


def _mix(a: _Array, b: _Array, weight: _Array) -> _Array:
    return a[:, None] + (b - a)[:, None] * weight


def _colour(random: _Random, hue: tuple, saturation: tuple, value: tuple) -> _Array:
    """A linear colour; the ranges are of the colour that a picture shows."""
    hsv = [random.uniform(*r) for r in (hue, saturation, value)]
    rgb = np.array(colorsys.hsv_to_rgb(*hsv), np.float32)
    return rgb ** np.float32(2.2)


def _painted(random: _Random, u: _Array, v: _Array) -> _Texture:
    colour = _colour(random, (0, 1), (0.05, 0.4), (0.6, 0.95))
    mottled = 1 + 0.06 * _fractal(4 * u, 4 * v)
    return colour[:, None] * mottled, 0.0007 * _noise(40 * u, 40 * v)


def _wood(random: _Random, u: _Array, v: _Array) -> _Texture:
    if random.uniform() < 0.5:
        u, v = v, u
    light = _colour(random, (0.06, 0.11), (0.4, 0.65), (0.55, 0.85))
    dark = light * np.array([0.5, 0.42, 0.36], np.float32)
    plank = np.floor(v / np.float32(random.uniform(0.14, 0.3)))
    u = u + _number(plank)
    rings = 9 * v + 0.9 * _noise(1.5 * u, 5 * v) + 3 * _number(plank, 1)
    rings = np.abs(2 * (rings - np.floor(rings)) - 1)
    grain = _noise(6 * u, 70 * v)
    weight = 0.75 * rings**2 + 0.25 * grain + 0.15 * _number(plank, 2)
    return _mix(light, dark, weight.clip(0, 1)), 0.0006 * grain


def _metal(random: _Random, u: _Array, v: _Array) -> _Texture:
    steel, brass, copper = (0.6, 0.05), (0.12, 0.45), (0.05, 0.5)
    hue, saturation = (steel, brass, copper)[random.randint(3)]
    colour = _colour(random, (hue, hue), (saturation, saturation + 0.1), (0.7, 0.85))
    brushed = _noise(4 * u, 60 * v)
    tarnish = 1 + 0.15 * _fractal(5 * u, 5 * v) + 0.14 * brushed
    return colour[:, None] * tarnish, 0.0008 * brushed


def _fabric(random: _Random, u: _Array, v: _Array) -> _Texture:
    colour = _colour(random, (0, 1), (0.2, 0.8), (0.3, 0.8))
    other = _colour(random, (0, 1), (0.1, 0.7), (0.3, 0.9))
    # Plain, striped one way or the other, or checked.
    weight = np.zeros_like(u)
    for w in (u, v):
        stripe = np.float32(2 * np.pi / random.uniform(0.06, 0.12))
        if random.uniform() < 0.5:
            weight += _above(np.sin(stripe * w), 0.6) / 2
    thread = np.float32(2 * np.pi * 26)
    weave = np.sin(thread * u) * np.sin(thread * v)
    shade = 1 + 0.2 * weave + 0.12 * _noise(50 * u, 50 * v)
    return _mix(colour, other, weight) * shade, (
        0.0016 * weave + 0.008 * _noise(5 * u, 5 * v)
    )


def _ceramic(random: _Random, u: _Array, v: _Array) -> _Texture:
    white = _colour(random, (0.08, 0.16), (0.02, 0.15), (0.85, 0.97))
    glaze = _colour(random, (0.3, 0.65), (0.4, 0.8), (0.3, 0.7))
    # White, glazed all over, or with bands of glaze.
    bands = _above(np.sin(30 * v + _noise(8 * u, 8 * v) / 2), 0.5)
    weight = (np.zeros_like(u), np.ones_like(u), bands)[random.randint(3)]
    return _mix(white, glaze, weight), np.zeros_like(u)


def _foliage(random: _Random, u: _Array, v: _Array) -> _Texture:
    dark = _colour(random, (0.22, 0.38), (0.5, 0.85), (0.2, 0.35))
    light = _colour(random, (0.18, 0.34), (0.45, 0.8), (0.5, 0.75))
    size = np.float32(random.uniform(14, 22))
    distance, leaf = _cells(size * u, size * v)
    weight = (0.6 + 0.35 * leaf - 0.5 * distance).clip(0, 1)
    return _mix(dark, light, weight), 0.015 * leaf - 0.02 * distance


def _brick(random: _Random, u: _Array, v: _Array) -> _Texture:
    clay = _colour(random, (0, 0.06), (0.5, 0.7), (0.45, 0.7))
    mortar = _colour(random, (0.08, 0.12), (0.05, 0.15), (0.6, 0.8))
    v = v / np.float32(0.075)
    row = np.floor(v)
    u = u / np.float32(0.17) + row / 2
    column = np.floor(u)
    to_edge = np.minimum(
        0.17 * (0.5 - np.abs(u - column - 0.5)), 0.075 * (0.5 - np.abs(v - row - 0.5))
    )
    face = _above(to_edge - 0.008, 0.008)
    rough = _fractal(3.4 * u, 1.5 * v)
    shade = 1 + 0.3 * face * _number(row, column) + 0.1 * rough
    return _mix(mortar, clay, face) * shade, 0.008 * face + 0.0015 * rough


def _paper(random: _Random, u: _Array, v: _Array) -> _Texture:
    card = _colour(random, (0.08, 0.1), (0.35, 0.5), (0.6, 0.75))
    white = _colour(random, (0.1, 0.17), (0, 0.1), (0.85, 0.97))
    creases = 0.012 * np.abs(_noise(3 * u, 3 * v))
    if random.uniform() < 0.4:  # corrugated card
        flutes = np.sin(np.float32(2 * np.pi * 20) * u)
        return card[:, None] * (1 + 0.08 * flutes), creases + 0.0012 * flutes
    v = v / np.float32(0.045)
    line = np.floor(v)
    words = _noise(26 * u, 7 * line) + _noise(7 * u, 5 * line) / 2
    words = _above(words + 0.3, 0.3)
    ink = words * _above(0.24 - np.abs(v - line - 0.5), 0.2)
    return white[:, None] * (1 - 0.6 * ink), creases


def _stone(random: _Random, u: _Array, v: _Array) -> _Texture:
    colour = _colour(random, (0, 1), (0.02, 0.12), (0.4, 0.75))
    _, grain = _cells(55 * u, 55 * v)
    blotch = _fractal(5 * u, 5 * v)
    shade = 1 + 0.4 * grain + 0.2 * blotch
    return colour[:, None] * shade, 0.008 * blotch + 0.0008 * grain


def _plastic(random: _Random, u: _Array, v: _Array) -> _Texture:
    colour = _colour(random, (0, 1), (0.6, 0.95), (0.5, 0.95))
    return np.repeat(colour[:, None], len(u), 1), np.zeros_like(u)


class Material(NamedTuple):
    """A kind of material: how it looks, how it shines, what is made of it."""

    name: str
    texture: Callable[[_Random, _Array, _Array], _Texture]
    shapes: tuple[str, ...]
    # Ranges of the strength of highlights and of the logarithm of their exponent.
    gloss: tuple[tuple[float, float], tuple[float, float]]
    metallic: float = 0.0  # how much of the colour is that of reflections


_ANY = ("ball", "cylinder", "cone", "box", "slab")
_TURNED, _CUT = _ANY[:3], _ANY[3:]

#: All materials, in the order of `MATERIALS`.
KINDS = (
    Material("painted", _painted, _ANY, ((0, 0.05), (2.3, 3))),
    Material("wood", _wood, _ANY, ((0.03, 0.15), (2.7, 3.7))),
    Material("metal", _metal, _ANY, ((0.9, 1.3), (2.5, 4)), 0.75),
    Material("fabric", _fabric, _ANY, ((0, 0), (2.3, 3))),
    Material("ceramic", _ceramic, _TURNED, ((0.6, 1), (4.4, 5.5))),
    Material("foliage", _foliage, _TURNED, ((0.02, 0.08), (2.7, 3.4))),
    Material("brick", _brick, _CUT, ((0, 0), (2.3, 3))),
    Material("paper", _paper, _CUT, ((0, 0.03), (2.3, 3))),
    Material("stone", _stone, _ANY, ((0, 0.2), (3, 4.1))),
    Material("plastic", _plastic, _ANY, ((0.3, 0.6), (3.2, 4.3))),
)

#: Names of the materials; a scene's map holds their indices.
MATERIALS = tuple(material.name for material in KINDS)
#: Indices of what floors and walls are made of.
GROUNDS = [MATERIALS.index(n) for n in ("painted", "wood", "fabric", "foliage")]
GROUNDS += [MATERIALS.index(n) for n in ("brick", "stone")]
