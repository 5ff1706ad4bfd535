"""The renderer, against geometry worked out by hand and rays marched one by one."""

import functools
import hashlib
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import scipy.stats
from scipy.ndimage import map_coordinates

from lps_tf.datasets.rendering import scene as renderer
from lps_tf.datasets.rendering.scene import LIGHTS, MATERIALS, render

ROOT = pathlib.Path(__file__).parents[2]
FRONTAL = [2, 3, 19, 20, 21, 22, 24]


def light_from(azimuth, elevation):
    """Degrees; azimuth 0 is to the right of the picture, 90 to its top."""
    azimuth, elevation = np.deg2rad([azimuth, elevation])
    flat = np.cos(elevation)
    direction = [flat * np.cos(azimuth), -flat * np.sin(azimuth), np.sin(elevation)]
    return np.array(direction, np.float32)


def coordinates(rows, columns, spacing):
    y, x = np.mgrid[:rows, :columns] * spacing
    return (x - x.mean()).astype(np.float32), (y - y.mean()).astype(np.float32)


def one_owner(z):
    return np.zeros(z.shape, np.uint8)


@functools.cache
def scenes():
    return [render(3, index) for index in range(50)]


# The lights.


def test_lights_are_unit_vectors_in_front_and_flashes_stand_by_the_camera():
    assert LIGHTS.shape == (25, 3)
    np.testing.assert_allclose(np.linalg.norm(LIGHTS, axis=1), 1, atol=1e-6)
    elevation = np.rad2deg(np.arcsin(LIGHTS[:, 2]))
    side = np.delete(elevation, FRONTAL)
    assert elevation[FRONTAL].min() > 60 > 55 > side.max() and side.min() > 20
    cosines = LIGHTS @ LIGHTS.T - 2 * np.eye(25)
    assert np.rad2deg(np.arccos(cosines.max())) > 10  # no two are alike


def test_the_first_light_comes_from_the_lower_right():
    np.testing.assert_allclose(LIGHTS[0], light_from(-30, 30), atol=1e-6)
    assert LIGHTS[0, 0] > 0 and LIGHTS[0, 1] > 0


# Normals and shading.


@pytest.mark.parametrize("slope_x, slope_y", [(0, 0), (0.5, 0), (0, -0.8), (-0.7, 1.3)])
def test_a_flat_plane_is_shaded_by_the_cosine_to_each_light(slope_x, slope_y):
    x, y = coordinates(30, 40, 0.02)
    z = slope_x * x + slope_y * y
    normal = renderer.normals(z, 0.02, one_owner(z))
    expected = np.array([-slope_x, -slope_y, 1])
    expected = expected / np.sqrt(1 + slope_x**2 + slope_y**2)
    for light in LIGHTS:
        cosine = float(expected @ light)
        shading = renderer.lambert(normal, light)
        np.testing.assert_allclose(shading, max(cosine, 0), atol=2e-5)
        # Nothing stands on the plane: all of it is lit, or none.
        visible = renderer.visibility(z, 0.02, light)
        if cosine > 0.1:
            np.testing.assert_array_equal(visible, 1)
        if cosine < -0.1:
            np.testing.assert_array_equal(visible[2:-2, 2:-2], 0)


def test_normals_of_a_sphere_point_away_from_its_centre():
    x, y = coordinates(80, 90, 0.01)
    z = np.sqrt(np.maximum(1 - x**2 - y**2, 0))
    normal = renderer.normals(z, 0.01, one_owner(z))
    expected = np.stack([x, y, z])
    inner = np.s_[:, 1:-1, 1:-1]
    np.testing.assert_allclose(normal[inner], expected[inner], atol=1e-3)
    np.testing.assert_allclose(normal, expected, atol=0.02)  # one-sided at the border


def test_a_step_between_two_surfaces_is_not_a_slope():
    z = np.zeros((10, 12), np.float32)
    z[3:7, 4:9] = 0.5
    upright = np.zeros((3, 10, 12))
    upright[2] = 1
    owner = (z > 0).astype(np.uint8)
    np.testing.assert_array_equal(renderer.normals(z, 0.1, owner), upright)
    assert renderer.normals(z, 0.1, one_owner(z))[2].min() < 0.5
    # A surface one pixel wide has no neighbour to differ from.
    owner[:] = np.arange(12)
    z = np.random.RandomState(0).uniform(size=(1, 12)).astype(np.float32)
    z = np.repeat(z, 10, 0)
    np.testing.assert_array_equal(renderer.normals(z, 0.1, owner), upright)


@pytest.mark.parametrize("azimuth, brightest", [(180, "left"), (0, "right")])
def test_slopes_that_face_the_light_are_the_brighter(azimuth, brightest):
    x, _ = coordinates(20, 41, 0.05)
    roof = -0.5 * np.abs(x)
    normal = renderer.normals(roof, 0.05, one_owner(roof))
    shading = renderer.lambert(normal, light_from(azimuth, 50))
    left, right = shading[:, :20].mean(), shading[:, 21:].mean()
    bright, dark = (left, right) if brightest == "left" else (right, left)
    slope = np.arctan(0.5)
    assert bright == pytest.approx(np.sin(np.deg2rad(50) + slope), abs=1e-4)
    assert dark == pytest.approx(np.sin(np.deg2rad(50) - slope), abs=1e-4)


@pytest.mark.parametrize("index", range(25))
def test_a_ball_is_bright_towards_the_light_and_its_shadow_falls_away(index):
    light = LIGHTS[index]
    x, y = coordinates(90, 90, 0.02)
    inside = x**2 + y**2 < 0.25**2
    z = np.sqrt(np.maximum(0.25**2 - x**2 - y**2, 0)) + 0.25 * inside
    normal = renderer.normals(z, 0.02, inside.astype(np.uint8))
    shading = renderer.lambert(normal, light)
    place = np.unravel_index(np.where(inside, shading, 0).argmax(), x.shape)
    np.testing.assert_allclose([x[place], y[place]], 0.25 * light[:2], atol=0.02)
    dark = (1 - renderer.visibility(z, 0.02, light)) * ~inside
    centre = np.array([(x * dark).sum(), (y * dark).sum()]) / dark.sum()
    cosine = centre @ light[:2] / np.linalg.norm(centre) / np.linalg.norm(light[:2])
    assert cosine < -0.99


def test_a_highlight_is_the_cosine_to_the_halfway_vector_to_a_power():
    light = light_from(0, 30)  # halfway to the camera: 60 degrees high
    angles = np.deg2rad(np.arange(0, 181, 10.0))
    normal = np.stack([np.cos(angles), 0 * angles, np.sin(angles)])
    normal = normal[:, None].astype(np.float32)
    expected = np.maximum(np.cos(angles - np.deg2rad(60)), 0)
    expected[angles >= np.deg2rad(119.9)] = 0  # the light is behind
    for shininess in (1, 10, 200):
        exponent = np.full((1, len(angles)), shininess, np.float32)
        found = renderer.highlight(normal, light, exponent)
        np.testing.assert_allclose(found[0], expected**shininess, atol=1e-4)


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


# Cast shadows.


def marched(z, spacing, light):
    """1 where a ray from the pixel to the light meets nothing, else 0."""
    rows, columns = np.mgrid[: z.shape[0], : z.shape[1]]
    flat = np.hypot(light[0], light[1])
    lit = np.ones(z.shape, bool)
    for distance in np.arange(1, 1.5 * max(z.shape), 0.2):
        place = [
            rows + distance * light[1] / flat,
            columns + distance * light[0] / flat,
        ]
        ground = map_coordinates(z.astype(np.float64), place, order=1, mode="nearest")
        outside = False
        for at, size in zip(place, z.shape, strict=True):
            outside |= (at < -0.5) | (at > size - 0.5)
        lit &= outside | (ground <= z + distance * spacing * light[2] / flat)
    return lit


@pytest.mark.parametrize("index", range(0, 24, 2))
def test_shadows_are_those_of_rays_marched_one_by_one(index):
    random = np.random.RandomState(index)
    x, y = coordinates(36, 54, 1 / 36)
    z = 0.06 * np.sin(5 * x + 1) * np.cos(4 * y) + 0.2 * y
    for _ in range(5):
        top, left = random.randint(30), random.randint(48)
        z[top : top + 6, left : left + 6] += random.uniform(0.05, 0.3)
    expected = marched(z, 1 / 36, LIGHTS[index])
    found = renderer.visibility(z, 1 / 36, LIGHTS[index], half_width=1e-3) > 0.5
    assert 0.002 < (~expected).mean() < 0.9
    # They may differ by half a pixel along the edges.
    assert (found != expected).mean() < 0.04


@pytest.mark.parametrize("azimuth", [0, 90, 180, 270, 30, 200, 290])
@pytest.mark.parametrize("elevation", [30, 50])
def test_the_shadow_of_a_box_has_the_length_its_height_says(azimuth, elevation):
    spacing, height = 0.01, 0.3
    z = np.zeros((141, 141), np.float32)
    z[55:86, 55:86] = height
    light = light_from(azimuth, elevation)
    visible = renderer.visibility(z, spacing, light, half_width=1e-3)
    length = height / np.tan(np.deg2rad(elevation)) / spacing  # in pixels
    flat = light[:2] / np.linalg.norm(light[:2])
    edge = 15.5 / np.abs(flat).max()  # from the centre, along the line to the light
    steps = np.arange(0, 70, 0.1)
    for sign in (1, -1):
        place = [70 + sign * steps * flat[1], 70 + sign * steps * flat[0]]
        dark = map_coordinates(visible, place, order=1) < 0.5
        if sign == 1:
            assert not dark.any()
        else:
            assert steps[dark].min() == pytest.approx(edge, abs=1.1)
            assert steps[dark].max() == pytest.approx(edge + length, abs=1.1)
            assert dark[(steps > edge + 1) & (steps < edge + length - 1)].all()


def test_half_shadows_widen_with_the_distance_as_those_of_a_wide_lamp():
    spacing, height, elevation, half_width = 0.005, 0.3, 45, 5
    z = np.zeros((9, 201), np.float32)
    z[:, 100:] = height
    lamp = np.deg2rad(half_width)
    visible = renderer.visibility(z, spacing, light_from(0, elevation), lamp)[4]
    distance = (100 - np.arange(100)) * spacing
    # The part of the bar that stands above the edge of the wall.
    edge = np.rad2deg(np.arctan2(height, distance))
    expected = ((elevation + half_width - edge) / (2 * half_width)).clip(0, 1)
    np.testing.assert_allclose(visible[:100], expected, atol=0.06)
    assert ((visible > 0.1) & (visible < 0.9)).sum() > 10
    np.testing.assert_array_equal(visible[100:], 1)


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
        "import sys; sys.path.insert(0, 'tests')\n"
        "from test_rendering import fingerprint\n"
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


def test_every_light_gives_another_picture():
    for scene in scenes()[:10]:
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
    assert 0.15 < means.min() and means.max() < 0.7
    assert (images == 255).mean() < 1e-3 and (images == 0).mean() < 1e-3
    spread = (images / 255).std((2, 3, 4))
    assert 0.04 < spread.min() and spread.mean() > 0.12


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
