"""Data sets and arrays of pairs mean the same to everything that measures a set."""

import operator

import numpy as np
import pytest
import tensorflow as tf

import lps_tf as lps
from lps_tf.sets.pairs import Pairs

OPTIONS = {"steps": 2, "num_samples": 1, "radius": 1.0, "verbose": False}


@pytest.fixture(scope="module")
def pair():
    """Numbers of 8 bits: every float dtype holds them up to its rounding."""
    x = np.random.RandomState(0).randint(0, 2, (6, 12, 12, 1))
    return x.astype(np.float32), np.roll(x, 1, 2).astype(np.float32)


def as_dataset(x, x_perturbed):
    return tf.data.Dataset.from_tensor_slices((x, x_perturbed)).batch(6)


MEASUREMENTS = {
    "calibrate": lambda pset, pairs: pset.calibrate(pairs),
    "latent_norms": lambda pset, pairs: pset.latent_norms(pairs),
    "encode_pairs": lambda pset, pairs: pset.encode_pairs(pairs)[0],
    "quality": lambda pset, pairs: lps.quality.evaluate(pset, pairs, **OPTIONS),
    "theory": lambda pset, pairs: lps.theory.bounds(
        pset, pairs, num_samples=1, verbose=False
    ),
}


def figures(result):
    """A result as an array."""
    if isinstance(result, lps.quality.QualityReport):
        return [result.pgd_ae, result.oae, result.kl, result.pair_mse]
    if isinstance(result, lps.theory.Bounds):
        return [result.kl, result.distortion]
    return result


@pytest.mark.slow
@pytest.mark.parametrize("name", MEASUREMENTS)
def test_arrays_of_doubles_give_what_a_data_set_gives(tiny_set, pair, name):
    measure = MEASUREMENTS[name]
    expected = figures(measure(tiny_set, as_dataset(*pair)))
    found = figures(measure(tiny_set, tuple(np.float64(v) for v in pair)))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_batches_are_float32_whatever_the_data_are(tiny_set, pair, dtype):
    x, x_perturbed = (v.astype(dtype) for v in pair)
    for pairs in ((x, x_perturbed), as_dataset(x, x_perturbed)):
        (batch,) = Pairs(tiny_set, pairs)
        assert batch[0].dtype == batch[1].dtype == tf.float32
        np.testing.assert_array_equal(batch, pair)


def test_a_tuple_is_the_same_as_two_arrays(tiny_set, pair):
    np.testing.assert_array_equal(
        tiny_set.latent_norms(*pair), tiny_set.latent_norms(pair)
    )
    assert tiny_set.calibrate(*pair) == tiny_set.calibrate(pair)


@pytest.mark.parametrize("name", MEASUREMENTS)
@pytest.mark.parametrize(
    "change, message",
    [
        (lambda x, p: as_dataset(x, p).repeat(), "endless"),
        (lambda x, p: as_dataset(x, p).take(0), "empty"),
        (lambda x, p: (x[:0], p[:0]), "There are no pairs"),
        (lambda x, p: x, "must be a target for each image|x_perturbed"),
        (lambda x, p: 3, "The data must be arrays.*Received: int"),
        (lambda x, p: (x, p[:5]), "equally many"),
        (lambda x, p: (x, p[:, :-1]), r"shape \(12, 12, 1\).*\(6, 11, 12, 1\)"),
        (lambda x, p: (np.repeat(x, 3, 3), p), r"`x` must hold.*\(6, 12, 12, 3\)"),
        (
            lambda x, p: as_dataset(x, np.repeat(p, 3, 3)),
            r"`x_perturbed` must hold.*\(6, 12, 12, 3\)",
        ),
        (lambda x, p: (np.uint8(x), np.uint8(p)), "Received dtype uint8"),
    ],
)
def test_what_is_wrong_with_pairs_is_said(tiny_set, pair, name, change, message):
    with pytest.raises(ValueError, match=message):
        MEASUREMENTS[name](tiny_set, change(*pair))


@pytest.mark.parametrize("method", ["condition", "sample", "prior"])
def test_colour_is_refused_by_a_set_of_grey_images(tiny_set, pair, method):
    colour = np.repeat(pair[0], 3, 3)
    message = r"`x` must hold images of shape \(12, 12, 1\).*\(6, 12, 12, 3\)"
    with pytest.raises(ValueError, match=message):
        getattr(tiny_set, method)(colour)
    with pytest.raises(ValueError, match=message):
        tiny_set.encode(colour, colour)


def test_the_number_of_batches_is_known_where_it_can_be(tiny_set, pair):
    def generator():
        yield pair

    x = np.repeat(pair[0], 7, 0)  # 42 images
    for pairs, number in (
        (((x, x),), 2),
        ((x, x), 2),
        ((as_dataset(*pair),), 1),
        ((as_dataset(*pair).repeat(),), 0),  # not known
        ((generator(),), 0),
    ):
        assert operator.length_hint(Pairs(tiny_set, *pairs)) == number
    assert len(list(Pairs(tiny_set, x, x))) == 2
    assert len(list(Pairs(tiny_set, generator()))) == 1


def test_weights_need_a_built_set(tiny_set, tmp_path):
    path = tmp_path / "set.weights.h5"
    tiny_set.save_weights(path)
    fresh = lps.PerturbationSet.from_config(tiny_set.get_config())
    with pytest.raises(ValueError, match=r"build\(\(None, h"):
        fresh.load_weights(path)
