"""Rendered scenes and the bodies in them, against geometry worked out by hand."""

import functools
import hashlib
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import scipy.stats

from lps_tf.datasets.rendering import scene as renderer
from lps_tf.datasets.rendering.scene import LIGHTS, MATERIALS, render
from tests.datasets.test_shading import coordinates

ROOT = pathlib.Path(__file__).parents[2]


@functools.cache
def scenes():
    return [render(3, index) for index in range(50)]


# Bodies.


def inside(shape, q):
    """Whether points q (3, ...), in half extents of the body, are in it."""
    radius = np.hypot(q[0], q[1])
    return {
        "ball": radius**2 + q[2] ** 2 <= 1,
        "cylinder": (radius <= 1) & (np.abs(q[2]) <= 1),
        "cone": (radius <= (1 - q[2]) / 2) & (np.abs(q[2]) <= 1),
        "box": np.abs(q).max(0) <= 1,
    }[shape]


@pytest.mark.parametrize("shape", ["ball", "cylinder", "cone", "box"])
@pytest.mark.parametrize("tilt", [2, 25, 50, 85])
def test_the_camera_sees_the_front_of_a_body(shape, tilt):
    random = np.random.RandomState(tilt)
    tilt, turn, spin = np.deg2rad(tilt), *random.uniform(0, 2 * np.pi, 2)
    up = np.array([np.sin(tilt) * np.cos(turn), np.sin(tilt) * np.sin(turn), 0])
    up[2] = np.cos(tilt)
    frame = renderer._frame(up, np.array([np.cos(spin), np.sin(spin), 0.1]))
    np.testing.assert_allclose(frame @ frame.T, np.eye(3), atol=1e-9)
    half = np.array([0.3, 0.3, 0.4])
    centre = np.array([0.1, -0.05, 0.2])
    body = renderer._Surface(0, 0, frame, centre, half, shape)
    x, y = coordinates(30, 40, 0.04)
    found = renderer._body_height(body, x, y)
    # The highest point of the body among 700 on each line of sight.
    levels = np.linspace(-0.5, 0.9, 700)[:, None]
    points = [x.ravel() - 0.1 + 0 * levels, y.ravel() + 0.05 + 0 * levels]
    points = np.stack([*points, levels - 0.2 + 0 * points[0]])
    q = np.einsum("ij,jln->iln", frame / half[:, None], points)
    within = inside(shape, q)
    expected = np.where(within, levels, -1e3).max(0).reshape(x.shape)
    hit, expected_hit = found > -100, expected > -100
    assert (hit != expected_hit).mean() < 0.01 and expected_hit.mean() > 0.1
    both = hit & expected_hit
    error = np.abs(found - expected)[both]
    assert np.quantile(error, 0.98) < 0.004 and error.max() < 0.05


# Scenes.


def fingerprint(index, height=30, width=44):
    scene = render(7, index, height, width)
    content = scene.images.tobytes() + scene.materials.tobytes()
    return hashlib.sha256(content).hexdigest()


def test_a_scene_is_25_pictures_and_a_map():
    scene = render(0, 0)
    assert scene.images.shape == (25, 62, 93, 3) and scene.images.dtype == np.uint8
    assert scene.materials.shape == (62, 93) and scene.materials.dtype == np.uint8


@pytest.mark.slow
def test_a_scene_is_the_same_in_any_order_and_in_another_process():
    first = [fingerprint(index) for index in (0, 1, 2)]
    assert [fingerprint(index) for index in (2, 0, 1)] == [first[i] for i in (2, 0, 1)]
    assert len(set(first)) == 3
    program = (
        "from tests.datasets.test_scene import fingerprint\n"
        "print(fingerprint(2), fingerprint(1))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
        capture_output=True,
        text=True,
    )
    assert result.stdout.split() == [first[2], first[1]]


def test_numpy_s_global_seed_plays_no_part():
    np.random.seed(1)
    first = fingerprint(0)
    np.random.seed(2)
    assert fingerprint(0) == first
    assert np.random.uniform() == np.random.RandomState(2).uniform()


def test_seeds_and_indices_give_different_scenes():
    found = [render(seed, i, 16, 16).images for seed in (0, 1) for i in (0, 1)]
    for i, one in enumerate(found):
        for other in found[:i]:
            assert (one != other).mean() > 0.5


@pytest.mark.parametrize("times", [2, 4])
@pytest.mark.parametrize("index", [0, 1, 2])
def test_every_size_shows_the_same_scene(index, times):
    small, large = render(3, index), render(3, index, 62 * times, 93 * times)
    blocks = large.images.reshape(25, 62, times, 93, times, 3).mean((2, 4)) / 255
    images = small.images / 255
    assert np.abs(blocks - images).mean() < 0.03
    for one, other in zip(blocks, images, strict=True):
        assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.97
    labels = large.materials[times // 2 :: times, times // 2 :: times]
    assert (labels == small.materials).mean() > 0.95


def test_a_wider_picture_shows_more_on_both_sides():
    narrow, wide = render(3, 4, 62, 93), render(3, 4, 62, 133)
    np.testing.assert_array_equal(wide.materials[:, 20:113], narrow.materials)


def test_a_valley_is_lit_as_worked_out_by_hand(monkeypatch):
    ups = np.array([[0.3, 0.1, 1], [-0.3, -0.2, 1]])
    ups /= np.linalg.norm(ups, axis=1)[:, None]
    planes = [
        renderer._Surface(0, 0, renderer._frame(up, np.eye(3)[0]), np.zeros(3))
        for up in ups
    ]

    def matt(surfaces, x, y, z, owner):
        zero = np.zeros_like(z)
        return np.stack([zero + 0.5] * 3), np.stack([zero] * 3), zero + 10, zero

    monkeypatch.setattr(renderer, "_arrange", lambda random: planes)
    monkeypatch.setattr(renderer, "_paint", matt)
    images = render(0, 0, 40, 60).images[:, 20, [2, -3]] / 255  # (light, side, colour)
    # Undo the camera's curve; how strong a flash was cancels between the sides.
    linear = -np.log(1 - images**2.2)
    for light, (left, right) in zip(LIGHTS, linear, strict=True):
        strength = 1 / np.sqrt(light[2])
        expected = strength * (ups @ light) + 0.16  # green: lamps have no tint in it
        assert left[1] / right[1] == pytest.approx(expected[0] / expected[1], rel=0.03)
    # Red and blue differ by the tints of the lamps, from warm to cool.
    warmth = np.log(linear[..., 0] / linear[..., 2]).mean(1)
    assert warmth.max() == pytest.approx(np.log(1.1 / 0.86), abs=0.06)
    assert warmth.min() == pytest.approx(np.log(0.9 / 1.14), abs=0.06)


@pytest.mark.slow
def test_every_light_gives_another_picture():
    for scene in scenes()[:4]:
        images = scene.images.astype(np.float64)
        for i in range(25):
            for j in range(i):
                assert np.abs(images[i] - images[j]).mean() > 1


def test_lights_far_apart_differ_more_than_near_ones():
    images = np.stack([s.images for s in scenes()[:20]]) / 255
    pairs = [(i, j) for i in range(25) for j in range(i)]
    angles = [np.arccos(LIGHTS[i] @ LIGHTS[j]) for i, j in pairs]
    errors = [((images[:, i] - images[:, j]) ** 2).mean() for i, j in pairs]
    assert scipy.stats.spearmanr(angles, errors).statistic > 0.7
    # About as far apart as in the real data set, to judge by published errors.
    assert 0.02 < np.mean(errors) < 0.06


def test_pictures_are_well_exposed():
    images = np.stack([scene.images for scene in scenes()])
    means = images.mean((2, 3, 4)) / 255
    assert 0.35 < means.mean() < 0.5
    assert means.min() > 0.15 and means.max() < 0.7
    assert (images == 255).mean() < 1e-3 and (images == 0).mean() < 1e-3
    spread = (images / 255).std((2, 3, 4))
    assert spread.min() > 0.04 and spread.mean() > 0.12


def test_materials_are_those_of_the_list_and_all_occur():
    assert 8 <= len(set(MATERIALS)) == len(MATERIALS) <= 12
    maps = np.stack([scene.materials for scene in scenes()])
    assert maps.max() < len(MATERIALS)
    share = np.bincount(maps.ravel(), minlength=len(MATERIALS)) / maps.size
    assert share.min() > 0.015 and share.max() < 0.3
    number = [len(np.unique(m)) for m in maps]
    assert min(number) >= 2 and 4 <= np.mean(number) <= 7


def test_a_material_is_no_single_colour():
    # The mean colour of one material varies from scene to scene about as much as
    # it does between materials.
    images = np.stack([s.images[24] for s in scenes()]) / 255
    maps = np.stack([s.materials for s in scenes()])
    for material in range(len(MATERIALS)):
        colours = [
            image[here].mean(0)
            for image, here in zip(images, maps == material, strict=True)
            if here.sum() > 50
        ]
        assert len(colours) >= 5
        assert np.std(colours, 0).max() > 0.04


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((0, 0, 15, 93), "`height` must be .* at least 16.*height=15"),
        ((0, 0, 62, 3), "`width` must be .* at least 16.*width=3"),
        ((0, 0, 62.5, 93), "`height` must be a whole number.*height=62.5"),
        ((-1, 0), "`seed` must be .* at least 0.*seed=-1"),
        ((0, "a"), "`index` must be a number.*index=a"),
    ],
)
def test_refuses_arguments_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        render(*arguments)


def test_the_smallest_picture_is_drawn():
    assert render(0, 0, 16, 16).images.shape == (25, 16, 16, 3)
