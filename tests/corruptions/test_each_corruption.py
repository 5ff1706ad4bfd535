"""Each corruption by other means: a formula, SciPy, Pillow, a walk over pixels."""

import numpy as np
import pytest
import skimage
from PIL import Image
from scipy import ndimage, sparse, stats
from skimage.filters import gaussian

from lps_tf.corruptions import (
    PARAMETERS,
    blur,
    corrupt,
    digital,
    frost,
    pixels,
    spatter,
    weather,
)
from lps_tf.corruptions.streams import Streams
from tests.corruptions.test_corruptions import SEVERITIES, photographs


def even(value, channels=3):
    return np.full((20, 32, 32, channels), value, np.float32)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_noise_has_its_distribution(severity):
    std = PARAMETERS["gaussian_noise"][severity - 1]
    noise = (corrupt(even(0.5), "gaussian_noise", severity) - 0.5) / std
    assert stats.kstest(noise.ravel(), "norm").pvalue > 1e-4
    std = PARAMETERS["speckle_noise"][severity - 1]
    noise = (corrupt(even(0.25), "speckle_noise", severity) / 0.25 - 1) / std
    assert stats.kstest(noise.ravel(), "norm").pvalue > 1e-4
    photons = PARAMETERS["shot_noise"][severity - 1]
    counts = photons * corrupt(even(0.4), "shot_noise", severity).astype(np.float64)
    np.testing.assert_allclose(counts, np.rint(counts), atol=1e-4)
    mean = 0.4 * photons
    np.testing.assert_allclose(
        counts.mean(), mean, atol=5 * np.sqrt(mean / counts.size)
    )
    np.testing.assert_allclose(counts.var(), mean, rtol=0.05)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_impulse_noise_is_half_salt_half_pepper(severity):
    amount = PARAMETERS["impulse_noise"][severity - 1]
    images = even(0.5)
    result = corrupt(images, "impulse_noise", severity)
    assert set(np.unique(result)) == {0, 0.5, 1}
    for value in (0, 1):
        expected = amount / 2
        deviation = np.sqrt(expected / result.size)
        assert abs(np.mean(result == value) - expected) < 4 * deviation


def test_contrast_is_its_formula():
    images = photographs((19, 16, 3), np.float64)
    for severity, times in enumerate((0.75, 0.5, 0.4, 0.3, 0.15), 1):
        for image, result in zip(
            images, corrupt(images, "contrast", severity), strict=True
        ):
            mean = [image[..., k].mean() for k in range(3)]
            expected = [times * (image[..., k] - mean[k]) + mean[k] for k in range(3)]
            np.testing.assert_allclose(result, np.stack(expected, -1), atol=1e-6)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_brightness_and_saturation_are_those_of_hsv(severity):
    images = photographs((16, 16, 3), np.float64)
    images[:, 0], images[:, 1], images[:, 2] = 0, 1, 0.4  # without a hue
    hsv = skimage.color.rgb2hsv(images)
    hsv[..., 2] = np.clip(hsv[..., 2] + PARAMETERS["brightness"][severity - 1], 0, 1)
    result = corrupt(images, "brightness", severity)
    np.testing.assert_allclose(result, skimage.color.hsv2rgb(hsv), atol=1e-5)

    times, plus = PARAMETERS["saturate"][severity - 1]
    hsv = skimage.color.rgb2hsv(images)
    hsv[..., 1] = np.clip(times * hsv[..., 1] + plus, 0, 1)
    expected = skimage.color.hsv2rgb(hsv)
    result = corrupt(images, "saturate", severity)
    np.testing.assert_allclose(result, expected, atol=1e-5)

    grey = np.float64([[[[0.4]]]]) * np.ones((1, 16, 16, 1))
    red, green, blue = expected[0, 2, 0]
    result = corrupt(grey, "saturate", severity)
    expected = 0.299 * red + 0.587 * green + 0.114 * blue
    np.testing.assert_allclose(result, expected, atol=1e-5)


def test_pixelate_is_pillows_box_filter():
    images = photographs((23, 40, 3))
    for severity, scale in enumerate(PARAMETERS["pixelate"], 1):
        result = corrupt(images, "pixelate", severity)
        for image, ours in zip(images, result, strict=True):
            small = Image.fromarray(image).resize(
                (int(40 * scale), int(23 * scale)), Image.BOX
            )
            expected = np.asarray(small.resize((40, 23), Image.BOX))
            # Pillow rounds after the columns and again after the rows.
            assert np.abs(ours.astype(int) - expected).max() <= 1


def test_jpeg_is_pillows_of_grey_images_too(tmp_path):
    images = photographs((17, 30, 1))
    Image.fromarray(images[0, :, :, 0]).save(tmp_path / "x.jpg", quality=40)
    expected = np.asarray(Image.open(tmp_path / "x.jpg"))
    result = corrupt(images, "jpeg_compression", 5)
    np.testing.assert_array_equal(result[0, :, :, 0], expected)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_glass_blur_is_a_walk_over_the_pixels(severity):
    sigma, iterations = PARAMETERS["glass_blur"][severity - 1]
    images = photographs((16, 19, 3), np.float32)
    back = Streams(4, "glass_blur", severity, np.array([0, 6])).uniform(
        iterations, 2, 14, 17
    )
    result = corrupt(images, "glass_blur", severity, seed=4, index=[0, 6])
    for image, moves, ours in zip(images, back < 0.5, result, strict=True):
        x = gaussian(image, sigma, channel_axis=-1)
        for up, left in moves:
            for row in range(15, 1, -1):
                for column in range(18, 1, -1):
                    step = up[row - 2, column - 2], left[row - 2, column - 2]
                    x[row, column] = x[row - step[0], column - step[1]]
        expected = gaussian(x, sigma, channel_axis=-1)
        np.testing.assert_allclose(ours, expected, atol=1e-5)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_motion_blur_draws_half_a_gaussian_along_a_line(severity):
    radius, sigma = PARAMETERS["motion_blur"][severity - 1]
    points = np.zeros((50, 65, 65, 1), np.float32)
    points[:, 32, 32] = 1
    index = np.arange(50)
    degrees = 90 * Streams(0, "motion_blur", severity, index).uniform() - 45
    assert degrees.min() < -35 and degrees.max() > 35
    weights = np.exp(-(np.arange(2 * radius + 1) ** 2) / (2 * sigma**2))
    for streak, angle in zip(
        corrupt(points, "motion_blur", severity), np.deg2rad(degrees), strict=True
    ):
        expected = np.zeros((65, 65))
        for step, weight in enumerate(weights / weights.sum()):
            row = round(32 - step * np.sin(angle))
            column = round(32 - step * np.cos(angle))
            expected[row, column] += weight
        np.testing.assert_allclose(streak[..., 0], expected, atol=5e-4)
        np.testing.assert_allclose(streak.sum(), 1, atol=1e-5)


@pytest.mark.parametrize("factor", [1.01, 1.13, 1.75, 2.25])
def test_zoom_is_scipys(factor):
    height, width = 17, 30
    image = photographs((height, width, 3), np.float32)[0]
    rows, columns = (int(np.ceil(side / factor)) for side in (height, width))
    top, left = (height - rows) // 2, (width - columns) // 2
    middle = image[top : top + rows, left : left + columns]
    expected = ndimage.zoom(middle, (factor, factor, 1), order=1)
    top, left = (expected.shape[0] - height) // 2, (expected.shape[1] - width) // 2
    expected = expected[top : top + height, left : left + width]
    axes = pixels.zoom_axis(height, factor), pixels.zoom_axis(width, factor)
    zoomed = pixels.separable([axes], image[None])[0]
    np.testing.assert_allclose(zoomed, expected, atol=1e-5)


def test_maps_of_rows_and_columns_add_up(monkeypatch):
    monkeypatch.setattr(pixels, "_STRIP", 8)  # three strips, the last one shorter
    random = np.random.RandomState(0)
    maps = [(random.normal(size=(20, 20)), random.normal(size=(9, 9))) for _ in "ab"]
    x = random.normal(size=(3, 20, 9, 2)).astype(np.float32)
    expected = sum(np.einsum("ij,kl,njlc->nikc", *axes, x) for axes in maps)
    sparse_maps = [tuple(map(sparse.csr_array, axes)) for axes in maps]
    found = pixels.separable(sparse_maps, x)
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("sigma", [9.0, 30.0])
def test_a_wide_blur_in_the_cosine_basis_is_scipys(sigma):
    x = np.random.RandomState(0).uniform(-1, 1, (3, 2, 100, 131)).astype(np.float32)
    expected = ndimage.gaussian_filter(
        x, sigma, mode="reflect", truncate=3, axes=(2, 3)
    )
    np.testing.assert_allclose(digital._smooth(x, sigma), expected, atol=1e-6)
    np.testing.assert_array_equal(
        digital._smooth(x, sigma)[1:2], digital._smooth(x[1:2], sigma)
    )


@pytest.mark.parametrize(
    "border, mode", [("reflect", "mirror"), ("symmetric", "reflect")]
)
def test_bilinear_reading_is_scipys(border, mode):
    images = photographs((16, 21, 3), np.float32, n=3)
    rows, columns = np.random.RandomState(0).uniform(-40, 60, (2, 3, 16, 21))
    result = pixels.bilinear(images, rows, columns, border)
    for i in range(3):
        for k in range(3):
            expected = ndimage.map_coordinates(
                images[i, :, :, k], [rows[i], columns[i]], order=1, mode=mode
            )
            np.testing.assert_allclose(result[i, :, :, k], expected, atol=1e-5)


def test_the_disk_is_a_symmetric_kernel():
    for setting in PARAMETERS["defocus_blur"]:
        kernel = blur.disk(setting)
        np.testing.assert_allclose(kernel.sum(), 1, rtol=1e-6)
        np.testing.assert_array_equal(kernel, kernel.T)
        np.testing.assert_array_equal(kernel, kernel[::-1])
    np.testing.assert_allclose(blur.disk(setting)[1:-1, 1:-1], 1 / 9, rtol=1e-6)


def test_clouds_fill_their_range_and_are_the_smoother_the_larger_the_decay():
    noise = np.random.RandomState(0).uniform(-1, 1, (20, 64 * 64 - 1))
    steps = []
    for decay in (1.75, 2, 2.5, 3):
        clouds = weather.plasma(noise, decay)
        assert clouds.shape == (20, 64, 64)
        np.testing.assert_array_equal(clouds.min((1, 2)), 0)
        np.testing.assert_array_equal(clouds.max((1, 2)), 1)
        wrapped = np.pad(clouds, ((0, 0), (0, 1), (0, 1)), "wrap")
        steps.append(np.abs(np.diff(wrapped, axis=1)).mean())
        # No seam: the last rows go on in the first.
        seam = np.abs(np.diff(wrapped, axis=1))[:, -1].mean()
        np.testing.assert_allclose(seam, steps[-1], rtol=0.3)
    assert (np.diff(steps) < 0).all()


def test_clouds_displace_midpoints():
    # Two scales of a 4x4 map by hand: 3 displacements of 1, then 12 of 1 / decay^2.
    noise = np.zeros((1, 15))
    noise[0, 0] = 1  # the centre of the largest square
    clouds = weather.plasma(noise, 2.0)[0]
    expected = np.zeros((4, 4))
    expected[2, 2] = 1
    expected[0, 2] = expected[2, 0] = 2 / 4  # twice that centre, twice the corner
    for row in (1, 3):
        for column in (1, 3):
            expected[row, column] = (1 + 0.5 + 0.5) / 4
    for i in (1, 3):
        expected[0, i] = expected[i, 0] = (0.5 + 2 * 0.5) / 4
        expected[2, i] = expected[i, 2] = (1 + 0.5 + 2 * 0.5) / 4
    np.testing.assert_allclose(clouds, expected, atol=1e-6)


def test_fog_keeps_the_brightest_value_as_the_limit():
    images = photographs((32, 32, 3), np.float32) * np.float32(0.7)
    for severity in SEVERITIES:
        assert corrupt(images, "fog", severity).max() <= 0.7 + 1e-6
    assert corrupt(np.zeros_like(images), "fog").max() == 0


def test_frost_is_a_part_of_the_sheet():
    sheet = frost.sheet(16, 20)
    assert sheet.shape == (128, 160, 3) and sheet.min() >= 0 and sheet.max() <= 1
    # Drawn, not noise: neighbours resemble each other, at some distance they do not.
    grey = sheet.mean(-1) - sheet.mean()
    assert np.mean(grey[1:] * grey[:-1]) > 0.6 * grey.var()
    assert np.mean(grey[16:] * grey[:-16]) < 0.3 * grey.var()
    result = corrupt(np.zeros((6, 16, 20, 3), np.float32), "frost", 5) / 0.45
    windows = np.lib.stride_tricks.sliding_window_view(sheet, (16, 20), (0, 1))
    windows = windows.transpose(0, 1, 3, 4, 2)
    for layer in result:
        turned = [layer, layer[::-1], layer[:, ::-1], layer[::-1, ::-1]]
        found = [
            np.isclose(windows[:, :, 0, 0], t[0, 0], atol=1e-5).all(-1) for t in turned
        ]
        assert any(
            np.allclose(window, t, atol=1e-5)
            for t, places in zip(turned, found, strict=True)
            for window in windows[places]
        )
    assert len({layer.tobytes() for layer in result}) == 6


def test_frost_of_a_large_image_is_that_of_a_small_one_enlarged():
    images = np.zeros((2, 320, 480, 3), np.float32)
    large = corrupt(images, "frost") / 0.45
    small = corrupt(images[:, ::5, ::5], "frost") / 0.45  # 64x96: as it is drawn
    blocks = large.reshape(2, 64, 5, 96, 5, 3).mean((2, 4))
    assert np.abs(blocks - small).mean() < 0.01
    assert small.std() > 0.05
    # It is smooth between the drawn pixels: no step is a whole one of them.
    assert np.abs(np.diff(large, axis=1)).max() < np.abs(np.diff(small, axis=1)).max()


def test_edges_of_drops():
    image = np.zeros((3, 32, 32), np.uint8)
    image[0, 8:20, 10:25] = 200
    image[1, 8:20, 10:25] = 20  # steps too weak for a strong edge
    image[2, 8:20, 10:25] = 30
    image[2, 8:20, 24] = 200  # a strong side, that weak ones continue
    edges = spatter.find_edges(image)
    inner = ndimage.binary_erosion(image[0] > 0)
    outer = ndimage.binary_dilation(image[0] > 0, np.ones((3, 3)))
    assert not edges[0][inner | ~outer].any()
    filled = ndimage.binary_fill_holes(edges[0])
    np.testing.assert_array_equal(filled[9:19, 11:24], True)  # a closed line
    assert not edges[1].any()
    assert edges[2][8:20, 22:27].any() and edges[2][7:9, 10:20].any()


def test_distances_are_each_images_own():
    edges = np.random.RandomState(0).uniform(size=(5, 40, 70)) < 0.001
    edges[2] = False
    result = spatter.distances(edges)
    for image, ours in zip(edges, result, strict=True):
        expected = ndimage.distance_transform_edt(~image) if image.any() else 20
        np.testing.assert_allclose(ours, np.minimum(expected, 20), rtol=1e-6)
    np.testing.assert_array_equal(spatter.distances(edges[2:3]), 20)


def test_drops_have_their_colour():
    black = np.zeros((8, 32, 32, 3), np.float32)
    mud = corrupt(black, "spatter", 5)
    covered = mud[mud.any(-1)] / np.float32([63 / 255, 42 / 255, 20 / 255])
    assert len(covered) > 50 and covered.min() >= 0.8 and covered.max() < 1.0001
    np.testing.assert_allclose(np.ptp(covered, axis=-1), 0, atol=1e-5)
    # Water is half opaque where it is thickest.
    water = corrupt(black, "spatter", 3).max((1, 2))
    turquoise = np.broadcast_to([175 / 510, 238 / 510, 238 / 510], water.shape)
    np.testing.assert_allclose(water, turquoise, atol=1e-4)
