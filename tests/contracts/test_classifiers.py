"""What any classifier does: any batch, half precision, XLA, files."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import lps_tf as lps
from tests.contracts.models import (
    CLASSIFIERS,
    PRECISIONS,
    new_classifier,
    pictures,
    policy,
)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_classifier_gives_the_same_logits_in_any_batch_and_under_xla(name):
    model, shape = new_classifier(name)
    x = pictures(5, shape)
    logits = model(x, training=False)
    assert logits.shape.is_compatible_with(model.output_shape)
    assert len(logits) == 5 and model.output_shape[-1] == 3
    np.testing.assert_allclose(model(x[:2], training=False), logits[:2], atol=1e-5)
    compiled = tf.function(model, jit_compile=True, autograph=False)
    np.testing.assert_allclose(compiled(x, training=False), logits, atol=1e-4)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_classifiers_logits_are_float32_in_half_precision(name, precision):
    full, shape = new_classifier(name)
    with policy(precision):
        half, _ = new_classifier(name)
    half.set_weights(full.get_weights())
    x = pictures(5, shape)
    logits = full(x, training=False).numpy()
    found = half(x, training=False)
    assert found.dtype == tf.float32
    np.testing.assert_allclose(found, logits, atol=0.1 * np.abs(logits).max())
    assert np.abs(found - logits).max() > 0  # it did compute in half precision


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_classifier_reloads_from_its_file(name, tmp_path):
    model, shape = new_classifier(name)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    x = pictures(5, shape)
    np.testing.assert_array_equal(model(x, training=False), again(x, training=False))
    assert again.output_shape == model.output_shape


@pytest.mark.parametrize("name", sorted(set(CLASSIFIERS) - {"unet"}))
def test_an_exported_classifier_gives_the_same_logits(name, tmp_path):
    model, shape = new_classifier(name)
    lps.export(model, tmp_path / "model")
    loaded = tf.saved_model.load(tmp_path / "model")
    x = pictures(5, shape)
    for n in (5, 2):
        logits = model(x[:n], training=False)
        np.testing.assert_allclose(loaded.serve(x[:n]), logits, atol=1e-4)
