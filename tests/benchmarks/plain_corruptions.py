"""The corruptions one image at a time, in the plainest way: the peer for speed.

As the original generator they loop over images and call SciPy and scikit-image for
each. Frost is not here: the original's needs its photographs. Spatter finds the edges
of water with scikit-image's detector, which makes it stronger at severity 3.
"""

import io

import numpy as np
import skimage
from PIL import Image
from scipy import ndimage
from skimage.filters import gaussian

from lps_tf.corruptions import PARAMETERS


def corrupt_one(
    image: np.ndarray, name: str, severity: int, rng: np.random.Generator
) -> np.ndarray:
    """A uint8 image (h, w, 3), corrupted."""
    x = globals()[name](image / 255, PARAMETERS[name][severity - 1], rng)
    return np.uint8(np.clip(x, 0, 1) * 255 + 1e-3)


def gaussian_noise(x, std, rng):
    return x + rng.normal(0, std, x.shape)


def shot_noise(x, photons, rng):
    return rng.poisson(x * photons) / photons


def impulse_noise(x, amount, rng):
    return skimage.util.random_noise(x, mode="s&p", amount=amount, rng=rng)


def speckle_noise(x, std, rng):
    return x + x * rng.normal(0, std, x.shape)


def gaussian_blur(x, sigma, rng):
    return gaussian(x, sigma, channel_axis=-1)


def defocus_blur(x, c, rng):
    offset = np.arange(-8, 9)
    disk = (offset[:, None] ** 2 + offset**2 <= c.radius**2).astype(float)
    disk = ndimage.gaussian_filter(disk / disk.sum(), c.alias_sigma, radius=1)
    return np.stack(
        [ndimage.correlate(x[..., k], disk, mode="mirror") for k in range(3)], -1
    )


def glass_blur(x, c, rng):
    x = np.uint8(255 * gaussian(x, c.sigma, channel_axis=-1))
    for _ in range(c.iterations):
        for row in range(x.shape[0] - 1, 1, -1):
            for column in range(x.shape[1] - 1, 1, -1):
                down, right = rng.integers(-1, 1, 2)
                x[row, column] = x[row + down, column + right]
    return gaussian(x / 255, c.sigma, channel_axis=-1)


def streaks(x, c, degrees):
    height, width = x.shape[:2]
    steps = np.arange(2 * c.radius + 1)
    weights = np.exp(-(steps**2) / (2 * c.sigma**2))
    total = np.zeros(x.shape)
    for step, weight in zip(steps, weights / weights.sum(), strict=True):
        down = int(np.ceil(step * np.sin(np.deg2rad(degrees)) - 0.5))
        right = int(np.ceil(step * np.cos(np.deg2rad(degrees)) - 0.5))
        rows = np.clip(np.arange(height) + down, 0, height - 1)
        columns = np.clip(np.arange(width) + right, 0, width - 1)
        total += weight * x[rows][:, columns]
    return total


def motion_blur(x, c, rng):
    return streaks(x, c, rng.uniform(-45, 45))


def clipped_zoom(x, factor):
    """The middle of an image enlarged to its size."""
    size = np.array(x.shape[:2])
    kept = np.ceil(size / factor).astype(int)
    x = middle(x, kept)
    return middle(ndimage.zoom(x, (factor, factor, 1)[: x.ndim], order=1), size)


def middle(x, size):
    (top, left), (height, width) = (np.array(x.shape[:2]) - size) // 2, size
    return x[top : top + height, left : left + width]


def zoom_blur(x, stop, rng):
    zoomed = [clipped_zoom(x, factor) for factor in np.arange(1, stop, 0.01)]
    return np.mean([x, *zoomed], 0)


def snow(x, c, rng):
    flakes = clipped_zoom(rng.normal(c.mean, c.std, x.shape[:2]), c.zoom)
    flakes = np.clip(np.where(flakes < c.threshold, 0, flakes), 0, 1)
    flakes = streaks(flakes, c.streak, rng.uniform(-135, -45))
    grey = x @ [0.299, 0.587, 0.114]
    x = c.mix * x + (1 - c.mix) * np.maximum(x, 1.5 * grey[..., None] + 0.5)
    return x + (flakes + np.rot90(flakes, 2))[..., None]


def fog(x, c, rng):
    height, width = x.shape[:2]
    size = 2 ** int(np.ceil(np.log2(max(height, width))))
    clouds = np.zeros((size, size))
    step, amplitude = size, 1.0

    def noise(mean):
        return mean / 4 + rng.uniform(-amplitude, amplitude, mean.shape)

    while step > 1:
        half = step // 2
        corner = clouds[::step, ::step]
        mean = corner + np.roll(corner, -1, 0)
        clouds[half::step, half::step] = noise(mean + np.roll(mean, -1, 1))
        centre = clouds[half::step, half::step]
        mean = corner + np.roll(corner, -1, 1) + centre + np.roll(centre, 1, 0)
        clouds[::step, half::step] = noise(mean)
        mean = corner + np.roll(corner, -1, 0) + centre + np.roll(centre, 1, 1)
        clouds[half::step, ::step] = noise(mean)
        step, amplitude = half, amplitude / c.decay**2
    clouds = ((clouds - clouds.min()) / np.ptp(clouds))[:height, :width]
    return (x + c.strength * clouds[..., None]) * x.max() / (x.max() + c.strength)


def brightness(x, plus, rng):
    hsv = skimage.color.rgb2hsv(x)
    hsv[..., 2] = np.clip(hsv[..., 2] + plus, 0, 1)
    return skimage.color.hsv2rgb(hsv)


def saturate(x, c, rng):
    hsv = skimage.color.rgb2hsv(x)
    hsv[..., 1] = np.clip(c.times * hsv[..., 1] + c.plus, 0, 1)
    return skimage.color.hsv2rgb(hsv)


def contrast(x, times, rng):
    mean = x.mean((0, 1))
    return (x - mean) * times + mean


def elastic_transform(x, c, rng):
    side, centre = min(x.shape[:2]), np.array(x.shape[1::-1]) // 2
    corners = centre + side // 3 * np.array([[1, 1], [1, -1], [-1, -1]])
    moved = corners + rng.uniform(-c.affine * side, c.affine * side, (3, 2))
    back = np.linalg.solve(np.c_[moved, np.ones(3)], np.c_[corners, np.ones(3)]).T
    x = skimage.transform.warp(x, back, order=1, mode="reflect")
    shifts = [
        c.alpha * side * gaussian(noise, c.sigma * side, mode="reflect", truncate=3)
        for noise in rng.uniform(-1, 1, (2, *x.shape[:2]))
    ]
    places = np.indices(x.shape[:2]) + shifts
    channels = [
        ndimage.map_coordinates(x[..., k], places, order=1, mode="reflect")
        for k in range(3)
    ]
    return np.stack(channels, -1)


def pixelate(x, scale, rng):
    image = Image.fromarray(np.uint8(np.rint(255 * x)))
    height, width = x.shape[:2]
    image = image.resize((int(width * scale), int(height * scale)), Image.BOX)
    return np.asarray(image.resize((width, height), Image.BOX)) / 255


def jpeg_compression(x, quality, rng):
    file = io.BytesIO()
    Image.fromarray(np.uint8(np.rint(255 * x))).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file)) / 255


def spatter(x, c, rng):
    drops = gaussian(rng.normal(c.mean, c.std, x.shape[:2]), c.blur)
    if c.mud:
        cover = gaussian((drops > c.threshold).astype(float), c.mix)
        cover = np.where(cover < 0.8, 0, cover)[..., None]
        return x * (1 - cover) + cover * np.array([63, 42, 20]) / 255
    drops = np.where(drops < c.threshold, 0, drops)
    edges = skimage.feature.canny(drops, 0, 50 / 255, 150 / 255)
    distance = np.minimum(ndimage.distance_transform_edt(~edges), 20)
    relief = skimage.exposure.equalize_hist(ndimage.uniform_filter(distance, 3))
    light = [[-2, -1, 0], [-1, 1, 1], [0, 1, 2]]
    relief = np.clip(ndimage.correlate(relief, light, mode="mirror"), 0, 1)
    shine = drops * ndimage.uniform_filter(relief, 3)
    shine *= c.mix / max(shine.max(), 1e-9)
    return x + shine[..., None] * np.array([175, 238, 238]) / 255
