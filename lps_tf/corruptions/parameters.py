"""The settings of the corruptions at severities 1 to 5: one table.

They are those that D. Hendrycks and T. Dietterich, "Benchmarking Neural Network
Robustness to Common Corruptions and Perturbations" (ICLR 2019), made CIFAR-10-C with.
Lengths are in pixels, whatever the size of the image, except where a name says that
they are fractions of its shorter side. Noise and colours are on the scale of [0, 1].
"""

from typing import Any, NamedTuple


class Defocus(NamedTuple):
    """A disk of `radius`, softened by a Gaussian of `alias_sigma`."""

    radius: float
    alias_sigma: float


class Glass(NamedTuple):
    """A Gaussian blur, `iterations` of displaced pixels, the blur again."""

    sigma: float
    iterations: int


class Streak(NamedTuple):
    """Half a Gaussian of `sigma`, 2 `radius` + 1 pixels long."""

    radius: int
    sigma: float


class Snow(NamedTuple):
    """Noise (mean, std), enlarged `zoom` times, its peaks streaked; `mix` of image."""

    mean: float
    std: float
    zoom: float
    threshold: float
    streak: Streak
    mix: float


class Frost(NamedTuple):
    """Weights of the image and of the layer of frost."""

    image: float
    layer: float


class Fog(NamedTuple):
    """Weight of the fog; `decay` of its detail, the larger the smoother."""

    strength: float
    decay: float


class Saturate(NamedTuple):
    """What HSV saturation is multiplied by, and what is added to it."""

    times: float
    plus: float


class Elastic(NamedTuple):
    """Local shifts of up to `alpha` smoothed by `sigma`; corners moved by `affine`.

    All three are fractions of the image's shorter side.
    """

    alpha: float
    sigma: float
    affine: float


class Spatter(NamedTuple):
    """Noise (mean, std) blurred by `blur`; drops where it exceeds `threshold`.

    `mix` is the opacity of water, for mud the sigma that softens its edges.
    """

    mean: float
    std: float
    blur: float
    threshold: float
    mix: float
    mud: bool


#: What each corruption takes at the severities 1 to 5.
PARAMETERS: dict[str, tuple[Any, ...]] = {
    # Standard deviation.
    "gaussian_noise": (0.04, 0.06, 0.08, 0.09, 0.10),
    # Photons at full brightness.
    "shot_noise": (500, 250, 100, 75, 50),
    # Fraction of the values replaced.
    "impulse_noise": (0.01, 0.02, 0.03, 0.05, 0.07),
    # Standard deviation relative to the value.
    "speckle_noise": (0.06, 0.1, 0.12, 0.16, 0.2),
    # Sigma.
    "gaussian_blur": (0.4, 0.6, 0.7, 0.8, 1.0),
    "defocus_blur": (
        Defocus(0.3, 0.4),
        Defocus(0.4, 0.5),
        Defocus(0.5, 0.6),
        Defocus(1, 0.2),
        Defocus(1.5, 0.1),
    ),
    "glass_blur": (
        Glass(0.05, 1),
        Glass(0.25, 1),
        Glass(0.4, 1),
        Glass(0.25, 2),
        Glass(0.4, 2),
    ),
    "motion_blur": (
        Streak(6, 1),
        Streak(6, 1.5),
        Streak(6, 2),
        Streak(8, 2),
        Streak(9, 2.5),
    ),
    # Where the factors 1, 1.01, 1.02, ... stop.
    "zoom_blur": (1.06, 1.11, 1.16, 1.21, 1.26),
    "snow": (
        Snow(0.1, 0.2, 1, 0.6, Streak(8, 3), 0.95),
        Snow(0.1, 0.2, 1, 0.5, Streak(10, 4), 0.9),
        Snow(0.15, 0.3, 1.75, 0.55, Streak(10, 4), 0.9),
        Snow(0.25, 0.3, 2.25, 0.6, Streak(12, 6), 0.85),
        Snow(0.3, 0.3, 1.25, 0.65, Streak(14, 12), 0.8),
    ),
    "frost": (
        Frost(1, 0.2),
        Frost(1, 0.3),
        Frost(0.9, 0.4),
        Frost(0.85, 0.4),
        Frost(0.75, 0.45),
    ),
    "fog": (Fog(0.2, 3), Fog(0.5, 3), Fog(0.75, 2.5), Fog(1, 2), Fog(1.5, 1.75)),
    # Added to the value of HSV.
    "brightness": (0.05, 0.1, 0.15, 0.2, 0.3),
    # What differences from the channel's mean are multiplied by.
    "contrast": (0.75, 0.5, 0.4, 0.3, 0.15),
    "saturate": (
        Saturate(0.3, 0),
        Saturate(0.1, 0),
        Saturate(1.5, 0),
        Saturate(2, 0.1),
        Saturate(2.5, 0.2),
    ),
    "elastic_transform": (
        Elastic(0, 0, 0.08),
        Elastic(0.05, 0.2, 0.07),
        Elastic(0.08, 0.06, 0.06),
        Elastic(0.1, 0.04, 0.05),
        Elastic(0.1, 0.03, 0.03),
    ),
    # Side of the reduced image as a fraction.
    "pixelate": (0.95, 0.9, 0.85, 0.75, 0.65),
    # Quality.
    "jpeg_compression": (80, 65, 58, 50, 40),
    "spatter": (
        Spatter(0.62, 0.1, 0.7, 0.7, 0.5, False),
        Spatter(0.65, 0.1, 0.8, 0.7, 0.5, False),
        Spatter(0.65, 0.3, 1, 0.69, 0.5, False),
        Spatter(0.65, 0.1, 0.7, 0.69, 0.6, True),
        Spatter(0.65, 0.1, 0.5, 0.68, 0.6, True),
    ),
}
