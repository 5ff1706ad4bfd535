"""What single networks promise: U-Nets any size, mixing generators true pixels."""

import keras
import numpy as np
import pytest
import scipy.ndimage
import tensorflow as tf

import lps_tf as lps
from lps_tf.networks import classifiers
from tests.contracts.models import (
    CLASSIFIERS,
    SETS,
    UNET,
    new_classifier,
    new_set,
    pairs_of,
    pictures,
    policy,
    slow,
)


@pytest.mark.parametrize(
    "size", [(71, 16), *(slow(size) for size in ((33, 47), (66, 94), (40, 17)))]
)
def test_unet_set_takes_any_size_odd_ones_too(size):
    pset = new_set("mi_unet")
    weights = pset.get_weights()
    x, x_perturbed = pairs_of((*size, 3))
    u = pset.encode(x, x_perturbed)
    assert u.shape == (4, sum(UNET["latents"]))
    images = pset.perturb(x, u)
    assert images.shape == x.shape and np.isfinite(images).all()
    # Each latent reaches the image at this size as well.
    for i in range(u.shape[1]):
        moved = pset.perturb(x, u + 3 * tf.one_hot(i, u.shape[1]))
        assert np.abs(moved - images).max() > 1e-6
    for before, after in zip(weights, pset.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("name", [*SETS, *(f"classifier_{n}" for n in CLASSIFIERS)])
def test_no_strides_that_are_larger_than_a_kernel_of_few_channels(name):
    # The gradient of such a convolution corrupts memory in TensorFlow 2.21 (oneDNN).
    if name in SETS:
        pset = new_set(name)
        x = tf.zeros((2, *SETS[name][1]))
        arguments = (x,)
        function = tf.function(lambda x: pset.perturb(x, pset.encode(x, x)))
    else:
        model, shape = new_classifier(name.removeprefix("classifier_"))
        function, arguments = tf.function(lambda x: model(x)), (tf.zeros((2, *shape)),)
    graph = function.get_concrete_function(*arguments).graph
    found = [op for op in graph.get_operations() if op.type == "Conv2D"]
    for op in found:
        side, _, channels, _ = op.inputs[1].shape
        step = op.get_attr("strides")[1]
        assert step <= side or channels % 16 == 0, (op.name, step, side, channels)
    assert found or name in ("mnist_fc", "mnist_stn")  # which have none


@pytest.mark.slow
def test_unet_set_goes_on_at_a_larger_size_from_the_smaller_ones_weights(tmp_path):
    def data(size):
        x, x_perturbed = pairs_of((*size, 3), 8)
        return tf.data.Dataset.from_tensor_slices((x, x_perturbed)).batch(4)

    pset = new_set("mi_unet")
    pset.compile(keras.optimizers.Adam(3e-3), beta=0.1, jit_compile=False)
    before = pset.evaluate(data((66, 94)), return_dict=True, verbose=0)
    pset.fit(data((33, 47)), epochs=25, verbose=0)
    start = pset.evaluate(data((66, 94)), return_dict=True, verbose=0)
    # What was learned on small images holds on large ones, and training goes on.
    assert start["reconstruction"] < 0.75 * before["reconstruction"]
    history = pset.fit(data((66, 94)), epochs=8, verbose=0).history
    assert history["reconstruction"][-1] < history["reconstruction"][0]
    # Files take any size as well, SavedModels among them.
    pset.save(tmp_path / "set.keras")
    again = keras.models.load_model(tmp_path / "set.keras")
    x, x_perturbed = pairs_of((66, 94, 3))
    np.testing.assert_allclose(
        again.encode(x, x_perturbed), pset.encode(x, x_perturbed), atol=1e-5
    )
    lps.export(again, tmp_path / "set")
    loaded = tf.saved_model.load(tmp_path / "set")
    for size in ((66, 94), (35, 40)):
        x, x_perturbed = pairs_of((*size, 3))
        u = pset.encode(x, x_perturbed)
        np.testing.assert_allclose(loaded.encode(x, x_perturbed), u, atol=1e-4)
        np.testing.assert_allclose(loaded.perturb(x, u), pset.perturb(x, u), atol=1e-5)
    # A set of the small size's weights alone starts a large one.
    pset.save_weights(tmp_path / "small.weights.h5")
    large = new_set("mi_unet")
    large.build((None, 66, 94, 3))
    large.load_weights(tmp_path / "small.weights.h5")
    np.testing.assert_allclose(
        large.encode(x, x_perturbed), pset.encode(x, x_perturbed), atol=1e-5
    )


def test_pairs_of_two_sizes_and_too_small_images_are_named():
    pset = new_set("mi_unet")
    x, _ = pairs_of((33, 47, 3))
    with pytest.raises(ValueError, match="must have the same shape"):
        pset.encode(x, x[:, :-1])
    with pytest.raises(ValueError, match=r"at least 4. Received: height=3, width=47"):
        pset.encode(x[:, :3], x[:, :3])
    with pytest.raises(ValueError, match="must hold images of shape"):
        pset.encode(x[..., :1], x[..., :1])


@pytest.mark.parametrize("levels", [2, slow(5)])
def test_unets_have_as_many_levels_as_they_are_given(levels):
    sizes = {"channels": (4,) * levels, "latents": (2,) * levels}
    sizes["pool"] = ((3, 3),) * levels
    pset = lps.PerturbationSet.from_network("mi_unet", **sizes)
    segmenter = classifiers.Unet(3, sizes["channels"])
    smallest = 2 ** (levels - 1)
    x = pictures(2, (smallest, smallest + 1, 3))
    u = pset.encode(x, x)
    assert u.shape == (2, 2 * levels) and pset.perturb(x, u).shape == x.shape
    assert segmenter(x).shape == (*x.shape[:3], 3)
    assert classifiers.Unet(1, sizes["channels"])(x).shape == (*x.shape[:3], 1)
    with pytest.raises(ValueError, match=f"halves its images {levels - 1} times"):
        segmenter(x[:, 1:])


def test_unets_without_matching_levels_are_refused():
    with pytest.raises(ValueError, match=r"one entry per level.*latents"):
        lps.PerturbationSet.from_network("mi_unet", **{**UNET, "latents": (3, 2)})
    with pytest.raises(ValueError, match=r"at least two levels.*\(4,\)"):
        classifiers.Unet(3, (4,))


@pytest.mark.parametrize("size", [(33, 47), slow((40, 17))])
def test_the_segmenter_takes_any_size_and_exports(size, tmp_path):
    model, _ = new_classifier("unet")
    weights = model.get_weights()
    x = pictures(2, (*size, 3))
    logits = model(x, training=False)
    assert logits.shape == (2, *size, 3)
    for before, after in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    lps.export(model, tmp_path / "segmenter")
    loaded = tf.saved_model.load(tmp_path / "segmenter")
    np.testing.assert_allclose(loaded.serve(x), logits, atol=1e-5)


RESIDUAL = {"latent_dim": 4, "blocks": 1, "wide": 6, "narrow": 3}


@pytest.mark.parametrize("side, channels", [(1, 1), (3, 3), (5, 1)])
def test_equal_shares_of_the_neighbours_are_a_box_blur(side, channels):
    pset = lps.PerturbationSet.from_network(
        "cifar10_residual", **RESIDUAL, neighbours=side
    )
    x = pictures(3, (9, 12, channels))
    u = pset.encode(x, x)
    last = pset.generator.last.conv.kernel
    last.assign(tf.zeros_like(last))
    # All shares alike: those of the neighbours, and the one of what is drawn, 1/2.
    share = 1 / (side**2 + 1)
    blurred = scipy.ndimage.uniform_filter(x, (0, side, side, 0), mode="reflect")
    expected = (1 - share) * blurred + share / 2
    np.testing.assert_allclose(pset.perturb(x, u), expected, atol=1e-6)


def test_a_set_that_mixes_neighbours_reloads_with_them(tmp_path):
    pset = lps.PerturbationSet.from_network(
        "cifar10_residual", **RESIDUAL, neighbours=3
    )
    x, x_perturbed = pairs_of((9, 12, 3))
    u = pset.encode(x, x_perturbed)
    images = pset.perturb(x, u)
    pset.save(tmp_path / "set.keras")
    again = keras.models.load_model(tmp_path / "set.keras")
    assert again.generator.neighbours == 3
    np.testing.assert_array_equal(again.perturb(x, u), images)
    # The latent decides the shares.
    assert np.abs(pset.perturb(x, u + 3) - images).max() > 1e-3


def test_neighbours_are_mixed_in_float32_whatever_the_precision():
    with policy("mixed_bfloat16"):
        pset = lps.PerturbationSet.from_network(
            "cifar10_residual", **RESIDUAL, neighbours=1
        )
        pset.build((None, 9, 12, 3))
    # Half precision would tell few shades apart: 1/256 is one of 8 bits.
    x = pictures(2, (9, 12, 3))
    _, windows = pset.generator.condition(tf.constant(x))
    np.testing.assert_array_equal(windows[..., 0, :], x)
    assert pset.perturb(x, tf.zeros((2, 4))).dtype == tf.float32


@pytest.mark.parametrize("neighbours", [2, -1, 1.5])
def test_neighbours_without_a_middle_are_refused(neighbours):
    with pytest.raises(ValueError, match=f"`neighbours`.*neighbours={neighbours}"):
        lps.PerturbationSet.from_network("cifar10_residual", neighbours=neighbours)
