"""Half precision, XLA, accumulated gradients, several steps an execution."""

import contextlib
import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

import lps_tf as lps
from lps_tf.networks.classifiers import Unet, small_cnn
from tests import halves

IMAGES, PERTURBED, LABELS = (
    halves.IMAGES[:16],
    halves.PERTURBED[:16],
    halves.LABELS[:16],
)


@contextlib.contextmanager
def policy(name):
    before = keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.mixed_precision.set_dtype_policy(before)


def batches(*arrays, size=8):
    return tf.data.Dataset.from_tensor_slices(arrays).batch(size)


def new_set(**kwargs):
    keras.utils.set_random_seed(0)
    pset = lps.PerturbationSet.from_network("mnist_fc", latent_dim=4, units=8, **kwargs)
    pset.build((None, 12, 12, 1))
    return pset


def new_classifier(attacked=False):
    keras.utils.set_random_seed(0)
    pset = halves.a_set() if attacked else None
    keras.utils.set_random_seed(0)
    classifier = small_cnn((12, 12, 1), 3, filters=(4,), units=8)
    return lps.RobustClassifier(
        classifier, lps.LatentPGD(pset, steps=2) if attacked else None
    )


def new_segmenter():
    keras.utils.set_random_seed(0)
    segmenter = Unet(3, (4, 6, 8))
    segmenter.build((None, 16, 16, 1))
    return lps.RobustClassifier(segmenter)


def train(kind, scale=None, **options):
    """(model, trained weights before, history) of four steps."""
    if kind == "set":
        model, data, rate = new_set(), (IMAGES, PERTURBED), 1e-3
    elif kind == "segmenter":
        images = np.pad(IMAGES, ((0, 0), (2, 2), (2, 2), (0, 0)))
        maps = np.int32(images[..., 0] * 2.99)
        model, data, rate = new_segmenter(), (images, maps), 0.1
    else:
        model, data, rate = new_classifier(kind == "attacked"), (IMAGES, LABELS), 0.1
    optimizer = keras.optimizers.SGD(rate)
    if scale:
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=scale)
    model.compile(optimizer, **{"jit_compile": False, **options})
    model.prepare(batches(*data))
    before = [v.numpy() for v in model.trainable_variables]
    history = model.fit(batches(*data), epochs=2, verbose=0).history
    return model, before, history


@functools.cache
def in_float32(kind):
    return train(kind)


def moved(model, before):
    return [
        v.numpy() - b for v, b in zip(model.trainable_variables, before, strict=True)
    ]


def assert_same_way(found, expected, share):
    """Weights went the same way: the difference is at most a share of the way."""
    found, expected = (
        np.concatenate([d.ravel() for d in w]) for w in (found, expected)
    )
    assert np.linalg.norm(expected) > 1e-4
    assert np.linalg.norm(found - expected) <= share * np.linalg.norm(expected)


# Half precision.


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["set", "plain", "attacked", "segmenter"])
@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_trains_like_float32(kind, precision):
    full, start, expected = in_float32(kind)
    with policy(precision):
        # Of Keras's own scale, 2^15, the first steps would be too many: it skips them.
        scale = 256 if precision == "mixed_float16" else None
        half, same_start, history = train(kind, scale)
    for a, b in zip(start, same_start, strict=True):
        np.testing.assert_array_equal(a, b)
    for name, values in history.items():
        assert np.isfinite(values).all()
        if "accuracy" not in name:
            np.testing.assert_allclose(values, expected[name], rtol=0.02, atol=0.005)
    # If the loss were not scaled, or gradients stayed so, weights would go 256 times
    # too far or hardly anywhere. Batch norm of a few pixels magnifies rounding.
    assert_same_way(moved(half, start), moved(full, start), share=0.7)
    assert {v.dtype for v in half.trainable_variables} == {"float32"}
    difference = np.subtract(history["loss"], expected["loss"])
    assert np.abs(difference).max() > 0  # it did compute in half precision


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["set", "plain"])
def test_float16_scales_its_loss_until_gradients_are_finite(kind):
    with policy("mixed_float16"):
        model, start, history = train(kind, scale=2.0**40)
        default = train(kind)[0].optimizer
    assert np.isfinite(history["loss"]).all()
    # All four steps overflowed: they are skipped, and each halves the scale.
    assert float(model.optimizer.dynamic_scale.numpy()) == 2.0**36
    for step in moved(model, start):
        np.testing.assert_array_equal(step, 0)
    assert isinstance(default, keras.optimizers.LossScaleOptimizer)


@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16"])
def test_losses_are_float32_whatever_the_classifier_gives(precision):
    with policy(precision):
        # A user's classifier, whose logits are not float32, and large.
        keras.utils.set_random_seed(0)
        layers = [keras.Input((12, 12, 1)), keras.layers.Flatten()]
        classifier = keras.Sequential([*layers, keras.layers.Dense(3)])
        classifier.set_weights([100 * w for w in classifier.get_weights()])
        robust = lps.RobustClassifier(classifier)
        robust.compile()
        logs = robust.evaluate(batches(IMAGES, LABELS), verbose=0, return_dict=True)
    logits = classifier(IMAGES)
    assert logits.dtype == precision.removeprefix("mixed_")
    logits = tf.cast(logits, tf.float64).numpy()
    shifted = logits - logits.max(1, keepdims=True)
    losses = np.log(np.exp(shifted).sum(1)) - shifted[np.arange(16), LABELS]
    assert logs["loss"] == pytest.approx(losses.mean(), rel=1e-5)


# XLA.


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["set", "plain", "attacked"])
def test_xla_trains_alike(kind):
    plain, start, expected = in_float32(kind)
    compiled, _, history = train(kind, jit_compile=True)
    for name, values in expected.items():
        np.testing.assert_allclose(history[name], values, rtol=1e-4, atol=1e-6)
    # Where a step of an attack turns, rounding may turn it another way.
    assert_same_way(moved(compiled, start), moved(plain, start), share=0.02)


# Accumulated gradients.


def accumulate(model, data, steps, size, rate):
    model.prepare(batches(*data))
    accumulation = {"gradient_accumulation_steps": steps} if steps > 1 else {}
    model.compile(keras.optimizers.SGD(rate, **accumulation), jit_compile=False)
    before = [v.numpy() for v in model.trainable_variables]
    model.fit(batches(*data, size=size), epochs=2, verbose=0)
    return moved(model, before)


def test_accumulated_batches_are_one_batch_of_a_classifier():
    of_parts, of_whole = (
        accumulate(new_classifier(), (IMAGES, LABELS), steps, 16 // steps, 0.5)
        for steps in (4, 1)
    )
    assert_same_way(of_parts, of_whole, share=1e-4)


@pytest.mark.slow
def test_accumulated_batches_of_a_set_take_a_rate_as_many_times_as_large(monkeypatch):
    # The objective is a sum over the batch, of which Keras takes the mean. Without
    # noise, because draws belong to batches.
    monkeypatch.setattr(
        lps.latent, "draw", lambda distribution, seed: distribution.mean()
    )
    of_parts, of_whole = (
        accumulate(new_set(), (IMAGES, PERTURBED), steps, 16 // steps, steps * 1e-3)
        for steps in (4, 1)
    )
    assert_same_way(of_parts, of_whole, share=1e-4)


# Several steps an execution.


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["set", "attacked"])
def test_several_steps_in_one_execution_are_the_same_steps(kind):
    one, start, expected = in_float32(kind)
    several, _, history = train(kind, steps_per_execution=2)
    for name, values in expected.items():
        np.testing.assert_allclose(history[name], values, rtol=1e-5, atol=1e-6)
    assert_same_way(moved(several, start), moved(one, start), share=1e-4)
