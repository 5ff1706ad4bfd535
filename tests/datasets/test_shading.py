"""Light on height fields, against geometry worked out by hand and marched rays."""

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from lps_tf.datasets.rendering import shading
from lps_tf.datasets.rendering.shading import LIGHTS

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


# The lights.


def test_lights_are_unit_vectors_in_front_and_flashes_stand_by_the_camera():
    assert LIGHTS.shape == (25, 3)
    np.testing.assert_allclose(np.linalg.norm(LIGHTS, axis=1), 1, atol=1e-6)
    elevation = np.rad2deg(np.arcsin(LIGHTS[:, 2]))
    side = np.delete(elevation, FRONTAL)
    assert elevation[FRONTAL].min() > 60 and 55 > side.max() > side.min() > 20
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
    normal = shading.normals(z, 0.02, one_owner(z))
    expected = np.array([-slope_x, -slope_y, 1])
    expected = expected / np.sqrt(1 + slope_x**2 + slope_y**2)
    for light in LIGHTS:
        cosine = float(expected @ light)
        shade = shading.lambert(normal, light)
        np.testing.assert_allclose(shade, max(cosine, 0), atol=2e-5)
        # Nothing stands on the plane: all of it is lit, or none.
        visible = shading.visibility(z, 0.02, light)
        if cosine > 0.1:
            np.testing.assert_array_equal(visible, 1)
        if cosine < -0.1:
            np.testing.assert_array_equal(visible[2:-2, 2:-2], 0)


def test_normals_of_a_sphere_point_away_from_its_centre():
    x, y = coordinates(80, 90, 0.01)
    z = np.sqrt(np.maximum(1 - x**2 - y**2, 0))
    normal = shading.normals(z, 0.01, one_owner(z))
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
    np.testing.assert_array_equal(shading.normals(z, 0.1, owner), upright)
    assert shading.normals(z, 0.1, one_owner(z))[2].min() < 0.5
    # A surface one pixel wide has no neighbour to differ from.
    owner[:] = np.arange(12)
    z = np.random.RandomState(0).uniform(size=(1, 12)).astype(np.float32)
    z = np.repeat(z, 10, 0)
    np.testing.assert_array_equal(shading.normals(z, 0.1, owner), upright)


@pytest.mark.parametrize("azimuth, brightest", [(180, "left"), (0, "right")])
def test_slopes_that_face_the_light_are_the_brighter(azimuth, brightest):
    x, _ = coordinates(20, 41, 0.05)
    roof = -0.5 * np.abs(x)
    normal = shading.normals(roof, 0.05, one_owner(roof))
    shade = shading.lambert(normal, light_from(azimuth, 50))
    left, right = shade[:, :20].mean(), shade[:, 21:].mean()
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
    normal = shading.normals(z, 0.02, inside.astype(np.uint8))
    shade = shading.lambert(normal, light)
    place = np.unravel_index(np.where(inside, shade, 0).argmax(), x.shape)
    np.testing.assert_allclose([x[place], y[place]], 0.25 * light[:2], atol=0.02)
    dark = (1 - shading.visibility(z, 0.02, light)) * ~inside
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
        found = shading.highlight(normal, light, exponent)
        np.testing.assert_allclose(found[0], expected**shininess, atol=1e-4)


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
    found = shading.visibility(z, 1 / 36, LIGHTS[index], half_width=1e-3) > 0.5
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
    visible = shading.visibility(z, spacing, light, half_width=1e-3)
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
    visible = shading.visibility(z, spacing, light_from(0, elevation), lamp)[4]
    distance = (100 - np.arange(100)) * spacing
    # The part of the bar that stands above the edge of the wall.
    edge = np.rad2deg(np.arctan2(height, distance))
    expected = ((elevation + half_width - edge) / (2 * half_width)).clip(0, 1)
    np.testing.assert_allclose(visible[:100], expected, atol=0.06)
    assert ((visible > 0.1) & (visible < 0.9)).sum() > 10
    np.testing.assert_array_equal(visible[100:], 1)
