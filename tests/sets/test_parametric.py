"""Sets of known formula, against SciPy, formulas written out, and their laws."""

from pathlib import Path

import keras
import numpy as np
import pytest
import scipy.ndimage
import scipy.stats
import tensorflow as tf
from skimage.color import rgb2yiq, yiq2rgb

from lps_tf.datasets.transformations import perturb_rts
from lps_tf.sets import latent, parametric

GREY, COLOUR = (12, 15, 1), (12, 15, 3)
RTS = {"rotation": 45, "translation": 7, "scale": 0.3, "map": "uniform"}

#: One of each, and values to change of which the digest must change.
SETS = {
    "affine": (
        parametric.Affine(
            GREY, rotation=30, translation=2, scale=(0.8, 1.5), shear=0.2
        ),
        {"rotation": 31, "map": "uniform", "translation": None},
    ),
    "rts": (parametric.Affine(GREY, **RTS), {"scale": 0.2}),
    "brightness": (parametric.Brightness(GREY, 0.3), {"shift": 0.2}),
    "contrast": (parametric.Contrast(GREY, 1.7), {"factor": 1.6}),
    "jitter": (
        parametric.ColourJitter(
            COLOUR, brightness=0.2, contrast=1.4, saturation=2.0, hue=40
        ),
        {"hue": 41, "brightness": None},
    ),
    "blur": (parametric.GaussianBlur(COLOUR, 1.5), {"sigma": 1.4}),
    "translation": (
        parametric.Translation(COLOUR, 3.0),
        {"distance": 2, "border": "wrap"},
    ),
    "wrapped": (parametric.Translation(GREY, 3.0, "wrap"), {"image_shape": COLOUR}),
    "l2": (parametric.L2(GREY, 0.5), {"image_shape": COLOUR}),
    "linf": (parametric.Linf(GREY, 0.3), {"epsilon": 0.2}),
}
every_set = pytest.mark.parametrize("name", SETS)


def images(shape, n=5, seed=0, low=0.0, high=1.0):
    random = np.random.default_rng(seed)
    return random.uniform(low, high, (n, *shape)).astype(np.float32)


def latents(pset, n=5, seed=1, scale=1.0):
    random = np.random.default_rng(seed)
    return (scale * random.normal(size=(n, pset.latent_dim))).astype(np.float32)


def test_there_is_a_case_for_every_parametric_set():
    kinds = {type(pset) for pset, _ in SETS.values()}
    public = {getattr(parametric, name) for name in parametric.__all__}
    assert kinds == public - {parametric.Compose}


# What all of them do.


@every_set
def test_a_set_is_what_its_configuration_says(name):
    pset, _ = SETS[name]
    again = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(pset)
    )
    assert type(again) is type(pset) and again is not pset
    assert again.get_config() == pset.get_config()
    assert again.digest() == pset.digest() and repr(again) == repr(pset)
    x, u = images(pset.image_shape), latents(pset)
    np.testing.assert_array_equal(again.perturb(x, u), pset.perturb(x, u))


@every_set
def test_the_digest_is_of_what_perturb_depends_on(name):
    pset, changes = SETS[name]
    kind, config = type(pset), pset.get_config()
    assert kind(**{**config, "radius": 7.0}).digest() == pset.digest()
    others = [kind(**{**config, key: value}) for key, value in changes.items()]
    assert len({pset.digest(), *(p.digest() for p in others)}) == 1 + len(others)


@every_set
def test_what_is_fixed_cannot_be_replaced(name):
    pset, changes = SETS[name]
    for key, value in {"radius": 3.0, **changes}.items():
        with pytest.raises(AttributeError, match=f"`{key}` of a {type(pset).__name__}"):
            setattr(pset, key, value)


@every_set
def test_images_and_latents_are_checked(name):
    pset, _ = SETS[name]
    x, u = images(pset.image_shape), latents(pset)
    with pytest.raises(ValueError, match=r"`x` must lie in \[0, 1\]"):
        pset.perturb(2 * x, u)
    with pytest.raises(ValueError, match="`x` must hold images of shape"):
        pset.perturb(np.concatenate([x, x], -1), u)
    with pytest.raises(ValueError, match=rf"\(batch, {pset.latent_dim}\)"):
        pset.perturb(x, np.concatenate([u, u], -1))


# Geometry.


def by_scipy(x, rotation=0.0, down=0.0, right=0.0, scale=1.0, shear=0.0):
    """One grey image sheared, rotated clockwise, scaled, moved, in float64."""
    angle, centre = np.deg2rad(rotation), (np.array(x.shape) - 1) / 2
    # In (row, column) from the centre. Clockwise: what is on the right goes down.
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    forward = scale * turn @ np.array([[1, 0], [shear, 1]])
    inverse = np.linalg.inv(forward)
    offset = centre - inverse @ (centre + np.array([down, right]))
    return scipy.ndimage.affine_transform(
        x.astype(np.float64), inverse, offset, order=1, mode="nearest"
    )


@pytest.mark.parametrize("map", ["linear", "uniform"])
@pytest.mark.parametrize(
    "ranges",
    [
        {"rotation": 60},
        {"translation": (-1, 4)},
        {"scale": (0.6, 1.9)},
        {"shear": 0.5},
        {"rotation": 45, "translation": 3, "scale": 0.3, "shear": 0.2},
    ],
    ids=lambda ranges: "+".join(ranges),
)
def test_affine_agrees_with_scipy(ranges, map):
    pset = parametric.Affine(GREY, map=map, **ranges)
    x, u = images(GREY, 12), latents(pset, 12)
    parameters = {k: v.numpy() for k, v in pset.parameters(u).items()}
    assert len(parameters) == pset.latent_dim
    found = pset.perturb(x, u).numpy()
    for i, image in enumerate(x[..., 0]):
        expected = by_scipy(image, **{k: v[i] for k, v in parameters.items()})
        np.testing.assert_allclose(found[i, :, :, 0], expected, atol=3e-5)


def test_the_parameters_of_a_linear_map_fill_their_ranges():
    pset = parametric.Affine(GREY, rotation=30, translation=(-1, 5), scale=(0.5, 1.7))
    assert pset.radius == 1.0 and pset.latent_dim == 4
    ends = {"rotation": (-30, 30), "down": (-1, 5), "right": (-1, 5)}
    ends["scale"] = (0.5, 1.7)
    for i, (name, (low, high)) in enumerate(ends.items()):
        u = np.zeros((3, 4), np.float32)
        u[:, i] = -1, 0, 1
        expected = (low, (low + high) / 2, high)
        np.testing.assert_allclose(pset.parameters(u)[name], expected, rtol=1e-6)


def test_a_scale_stays_positive_however_large_the_noise():
    pset = parametric.Affine(GREY, scale=0.3)
    scale = pset.parameters(tf.constant([[-3.2], [-50.0]]))["scale"]
    np.testing.assert_allclose(scale, [0.1, 0.1])
    found = pset.perturb(images(GREY, 1), [[-50.0]])
    assert np.isfinite(found).all()


def test_gaussian_latents_of_the_uniform_map_are_the_papers_law():
    pset = parametric.Affine((42, 42, 1), **RTS)
    u = latent.standard_normal((4000, pset.latent_dim), tf.constant([0, 5]))
    found = {k: v.numpy() for k, v in pset.parameters(u).items()}
    laws = {"rotation": (-45, 90), "down": (-7, 14), "right": (-7, 14)}
    laws["scale"] = (0.7, 0.6)
    assert found.keys() == laws.keys()
    for name, (low, width) in laws.items():
        law = scipy.stats.uniform(low, width)
        assert scipy.stats.kstest(found[name], law.cdf).pvalue > 1e-3
        assert law.cdf(found[name].min() + 1e-4) > 0  # none of them leaves it
        assert law.sf(found[name].max() - 1e-4) > 0
    values = list(found.values())
    for i, one in enumerate(values):
        for other in values[:i]:
            assert scipy.stats.spearmanr(one, other).pvalue > 1e-3


def test_affine_moves_as_the_data_of_the_paper_do():
    # One key of `perturb_rts`: its numbers drawn again, and given to the set.
    x, key = images((20, 24, 1), 6), tf.constant([2, 3])
    keys = tf.random.split(key, 4)
    uniform = tf.random.stateless_uniform
    parameters = {
        "rotation": uniform((6,), keys[0], -45, 45),
        "scale": uniform((6,), keys[1], 0.7, 1.3),
        "down": tf.cast(uniform((6,), keys[2], -7, 8, tf.int32), tf.float32),
        "right": tf.cast(uniform((6,), keys[3], -7, 8, tf.int32), tf.float32),
    }
    pset = parametric.Affine((20, 24, 1), **RTS)
    found = np.clip(pset.apply(tf.constant(x), parameters), 0, 1)
    np.testing.assert_allclose(found, perturb_rts(tf.constant(x), key), atol=1e-4)


def test_the_ball_of_the_uniform_map_holds_what_is_said():
    pset = parametric.Affine(GREY, **RTS)
    held = scipy.stats.chi2.cdf(pset.radius**2, pset.latent_dim)
    assert held == pytest.approx(0.99) and pset.radius == pytest.approx(3.64, abs=0.005)
    corner = np.full((1, 4), pset.radius / 2, np.float32)
    alone = np.float32([[pset.radius, 0, 0, 0]])
    for u, share in ((corner, 0.93), (alone, 0.9997)):
        angle = float(pset.parameters(u)["rotation"][0])
        assert angle / 45 == pytest.approx(share, abs=2e-3)


@pytest.mark.parametrize("border, mode", [("edge", "nearest"), ("wrap", "grid-wrap")])
def test_translation_agrees_with_scipy(border, mode):
    pset = parametric.Translation(COLOUR, 3.0, border)
    x, u = images(COLOUR, 9), latents(pset, 9)
    u[0] = 1 / 3, -2 / 3  # whole pixels
    u[1] = 20, -30  # far outside
    found = pset.perturb(x, u)
    for image, moved, (down, right) in zip(x, found, 3 * u, strict=True):
        expected = scipy.ndimage.shift(
            image.astype(np.float64), (down, right, 0), order=1, mode=mode
        )
        np.testing.assert_allclose(moved, expected, atol=1e-4)
    np.testing.assert_allclose(
        pset.perturb(x[:1], u[:1])[0, 3:-3, 3:-3], x[0, 2:-4, 5:-1], atol=1e-5
    )


def test_blur_agrees_with_scipy():
    pset = parametric.GaussianBlur(COLOUR, 1.5)
    u = np.float32([0, 0.02, 0.3, -0.7, 1.0])[:, None]
    x = images(COLOUR)
    found = pset.perturb(x, u)
    for image, blurred, factor in zip(x, found, np.abs(u[:, 0]), strict=True):
        # The kernel is cut off where that of the largest blur of the ball is.
        expected = image.astype(np.float64)
        if factor:
            expected = scipy.ndimage.gaussian_filter(
                expected, 1.5 * factor, mode="nearest", radius=6, axes=(0, 1)
            )
        np.testing.assert_allclose(blurred, expected, atol=2e-6)


# Colours.


def test_brightness_and_contrast_are_their_formulas():
    x, u = images(GREY), np.float32([-2, -1, 0, 0.5, 1])[:, None]
    wide = u[:, :, None, None].astype(np.float64)
    bright = np.clip(x + 0.3 * wide, 0, 1)
    np.testing.assert_allclose(
        parametric.Brightness(GREY, 0.3).perturb(x, u), bright, atol=1e-6
    )
    contrast = np.clip(0.5 + 1.7**wide * (x - 0.5), 0, 1)
    np.testing.assert_allclose(
        parametric.Contrast(GREY, 1.7).perturb(x, u), contrast, atol=1e-6
    )


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation", "hue"])
def test_jitter_of_one_kind_is_its_formula(name):
    value = {"brightness": 0.2, "contrast": 1.4, "saturation": 2.0, "hue": 40}[name]
    pset = parametric.ColourJitter(COLOUR, **{name: value})
    x, u = images(COLOUR, low=0.3, high=0.7), latents(pset)
    found = pset.perturb(x, u).numpy()
    v = u[:, :, None, None].astype(np.float64)
    luma = (x @ np.array([0.299, 0.587, 0.114]))[..., None]
    if name == "brightness":
        expected = x + 0.2 * v
    elif name == "contrast":
        expected = 0.5 + 1.4**v * (x - 0.5)
    elif name == "saturation":
        expected = luma + 2.0**v * (x - luma)
    else:  # the two axes of colour as complex numbers
        yiq = rgb2yiq(x.astype(np.float64))
        turned = (yiq[..., 1] + 1j * yiq[..., 2]) * np.exp(1j * np.deg2rad(40 * v))[
            ..., 0
        ]
        expected = yiq2rgb(np.stack([yiq[..., 0], turned.real, turned.imag], -1))
    np.testing.assert_allclose(found, np.clip(expected, 0, 1), atol=2e-4)


def test_jitter_does_all_in_the_order_of_its_arguments():
    both = parametric.ColourJitter(
        COLOUR, brightness=0.2, contrast=1.4, saturation=2.0, hue=40
    )
    assert both.latent_dim == 4
    x = images(COLOUR, low=0.4, high=0.6)
    u = np.random.default_rng(3).uniform(-0.7, 0.7, (5, 4)).astype(np.float32)
    alone = x
    for i, (name, value) in enumerate(
        {"brightness": 0.2, "contrast": 1.4, "saturation": 2.0, "hue": 40}.items()
    ):
        one = parametric.ColourJitter(COLOUR, **{name: value})
        alone = one.perturb(alone, u[:, i : i + 1])
    assert alone.numpy().min() > 0 and alone.numpy().max() < 1  # nothing was clipped
    np.testing.assert_allclose(both.perturb(x, u), alone, atol=1e-5)


def test_hue_and_saturation_leave_grey_alone_and_keep_luma():
    pset = parametric.ColourJitter(COLOUR, saturation=2.0, hue=180)
    grey = np.repeat(images(GREY), 3, -1)
    np.testing.assert_allclose(pset.perturb(grey, latents(pset)), grey, atol=1e-5)
    x, u = images(COLOUR, low=0.45, high=0.55), latents(pset, scale=0.3)
    luma = np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(pset.perturb(x, u).numpy() @ luma, x @ luma, atol=1e-5)


# Balls of pixels.


def test_l2_adds_the_latent_itself():
    pset = parametric.L2(GREY, 0.5)
    x, u = images(GREY), latents(pset, scale=0.2)
    expected = np.clip(x + u.reshape(x.shape), 0, 1)
    np.testing.assert_allclose(pset.perturb(x, u), expected, atol=1e-6)
    assert pset.radius == 0.5 and pset.latent_dim == 180


def test_linf_is_uniform_noise_of_gaussian_latents():
    pset = parametric.Linf((40, 50, 1), 0.3)
    grey = np.full((3, 40, 50, 1), 0.5, np.float32)
    u = latent.standard_normal((3, pset.latent_dim), tf.constant([0, 7]))
    noise = pset.perturb(grey, u).numpy().ravel() - 0.5
    assert np.abs(noise).max() <= 0.3 + 1e-6
    assert scipy.stats.kstest(noise, scipy.stats.uniform(-0.3, 0.6).cdf).pvalue > 1e-3


def test_a_ball_of_linf_holds_the_box_that_is_said():
    pset = parametric.Linf(GREY, 0.3, radius=10.0)
    grey = np.full((1, *GREY), 0.5, np.float32)
    u = np.full((1, 180), 10 / np.sqrt(180), np.float32)  # on the ball's surface
    side = 0.3 * (2 * scipy.stats.norm.cdf(10 / np.sqrt(180)) - 1)
    np.testing.assert_allclose(pset.perturb(grey, u) - grey, side, rtol=1e-4)
    default = parametric.Linf(GREY, 0.3).radius
    assert scipy.stats.chi2.cdf(default**2, 180) == pytest.approx(0.99)


# The guide.

GUIDE = Path(__file__).parents[2] / "docs" / "parametric_sets.md"
# What makes it short, without changing what it calls.
SHORTER = {
    "data.train, validation_data=data.val, epochs=20": "data.train.take(2), epochs=1",
    "steps=20": "steps=2",
    "limit=100": "limit=50",
    "certify(shifted, n0=100, n=1000)": "certify(shifted[:2], n0=10, n=50)",
}


@pytest.mark.slow
def test_the_code_of_the_guide_runs():
    code = GUIDE.read_text().split("```python\n")[1].split("```")[0]
    for long, short in SHORTER.items():
        assert code.count(long) == 1, long
        code = code.replace(long, short)
    names = {}
    exec(compile(code, GUIDE.name, "exec"), names)
    assert names["certificate"].prediction.shape == (2,)
    assert names["smooth"].resolvable
    images, moved = names["images"], names["moved"]
    whole = moved.resolves(images, np.full((len(images), 2), 1 / 7, np.float32))
    assert whole.numpy().mean() > 0.9  # digits are on a background


def test_the_guide_names_every_set():
    text = GUIDE.read_text()
    assert all(f"`{name}(" in text for name in parametric.__all__)


# Errors.


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: parametric.Affine(GREY), "Give at least one of `rotation`"),
        (lambda: parametric.Affine(GREY, rotation=-1), "`rotation` must be positive"),
        (lambda: parametric.Affine(GREY, rotation=(2, 1)), r"`rotation` .*\(2, 1\)"),
        (lambda: parametric.Affine(GREY, rotation="x"), "`rotation` must be a number"),
        (lambda: parametric.Affine(GREY, scale=1.2), "`scale` .* low above 0"),
        (lambda: parametric.Affine(GREY, shear=0.1, map="cubic"), "`map` .*'cubic'"),
        (lambda: parametric.Affine((None, None, 1), shear=0.1), "know the size"),
        (lambda: parametric.Brightness(GREY, 0), "`shift` must be positive.*shift=0"),
        (lambda: parametric.Brightness(GREY, 0.1, radius=0), "`radius` must be pos"),
        (lambda: parametric.Brightness((12, 15), 0.1), "`image_shape` must be"),
        (lambda: parametric.Brightness((12, 0, 1), 0.1), "`image_shape` must be"),
        (lambda: parametric.Brightness((1, 1, None), 0.1), "channels of `image_shape`"),
        (lambda: parametric.Contrast(GREY, 0.9), "`factor` must be .* above 1.*0.9"),
        (lambda: parametric.ColourJitter(GREY, hue=1), "three channels"),
        (lambda: parametric.ColourJitter(COLOUR), "Give at least one of `brightness`"),
        (lambda: parametric.ColourJitter(COLOUR, contrast=1), "`contrast` must be"),
        (lambda: parametric.GaussianBlur(GREY, -2), "`sigma` must be positive"),
        (lambda: parametric.Translation(GREY, 0), "`distance` must be positive"),
        (lambda: parametric.Translation(GREY, 1, "black"), "`border` .*'black'"),
        (lambda: parametric.L2((None, 2, 1), 0.1), "know the size"),
        (lambda: parametric.Linf(GREY, 0), "`epsilon` must be positive"),
    ],
)
def test_refuses_what_makes_no_set(make, message):
    with pytest.raises(ValueError, match=message):
        make()
