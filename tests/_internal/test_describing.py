"""What objects say of themselves at a prompt, and of names that they do not know."""

import re

import pytest

import lps_tf as lps
from lps_tf._internal.describing import described

SET = r"PerturbationSet\('perturbation_set\w*', latent_dim=4, radius=2\)"


def test_a_description_is_a_call():
    assert described(1, "a", 2.0, b=0.1 + 0.2, c=None) == "int('a', 2, b=0.3, c=None)"


def objects(pset, classifier):
    schedule = lps.schedules.PiecewiseLinear([0, 10], [0.5, 2])
    return {
        lps.LatentPGD(pset, steps=3, restarts=2, seed=5): (
            "radius=2, seed=5, steps=3, restarts=2, relative_step=0.2"
        ),
        lps.LatentAPGD(pset, radius=1.25): "radius=1.25, seed=0, steps=50, restarts=1",
        lps.RandomSearch(pset, num_samples=7): "radius=2, num_samples=7, seed=0",
        lps.LatentAugmentation(pset): "radius=2, seed=0, num_samples=1, latents=None",
        lps.LatentNoise(pset, 0.5): "sigma=0.5, seed=0, num_samples=1",
        lps.RadiusSchedule(lps.LatentAPGD(pset), schedule): None,
        lps.SmoothedClassifier(classifier, pset, 0.5): (
            "sigma=0.5, correction='holm', seed=0"
        ),
    }


def test_attacks_noise_and_smoothed_classifiers(tiny_set, tiny_classifier):
    for instance, facts in objects(tiny_set, tiny_classifier).items():
        text, kind = repr(instance), type(instance).__name__
        if facts is None:
            assert re.fullmatch(
                rf"RadiusSchedule\(LatentAPGD\({SET}, .*\), PiecewiseLinear\(.*\)\)",
                text,
            )
        else:
            name = "'small_cnn', " if kind == "SmoothedClassifier" else ""
            expected = rf"{kind}\({name}{SET}, {re.escape(facts)}\)"
            assert re.fullmatch(expected, text)
        assert "\n" not in text and len(text) < 250


def test_a_number_that_was_set_later_is_told(tiny_set):
    attack = lps.LatentPGD(tiny_set)
    attack.radius = 0.75
    assert "radius=0.75," in repr(attack)
    assert re.search(r"sigma=0.4\b", repr(lps.SmoothedPGD(tiny_set, sigma=0.4)))
    assert repr(lps.WorstOfGroup()) == "WorstOfGroup()"
    assert repr(lps.AugMix(seed=3)) == "AugMix(num_samples=2, seed=3)"


def test_schedules():
    plain = lps.schedules.PiecewiseLinear([0, 10], [0.5, 2])
    assert repr(plain) == "PiecewiseLinear([0.0, 10.0], [0.5, 2.0])"
    rate = lps.schedules.PiecewiseLinear([0], [1e-3], 20)
    assert repr(rate) == "PiecewiseLinear([0.0], [0.001], steps_per_epoch=20)"


def test_a_set_that_is_not_built_says_what_it_knows(tiny_set):
    new = lps.PerturbationSet.from_network("mnist_fc")
    assert repr(new) == f"PerturbationSet({new.name!r}, radius=None)"
    assert re.fullmatch(SET, repr(tiny_set))


def test_data_are_summed_up():
    digits = lps.datasets.mnist5k_rts(batch_size=32, num_samples=2, group_size=3)
    text = repr(digits)
    assert text.startswith("PairData('MNIST, 5,000 images")
    assert "image_shape=(42, 42, 1), num_classes=10" in text
    assert f"'train_pairs': {len(digits.train_pairs)}" in text
    assert f"'test_groups': {len(digits.test_groups)}" in text
    assert "unseen_groups" not in text  # there are none
    assert "TensorSpec" not in text and len(text) < 400


@pytest.mark.parametrize(
    "value, meant",
    [("mnist_stm", "mnist_stn"), ("cifar_residual", "cifar10_residual"), ("xyz", None)],
)
def test_an_unknown_network_is_asked_about(value, meant):
    question = f"Did you mean '{meant}'? "
    for make in (
        lps.PerturbationSet.from_network,
        lambda name: lps.original.from_state_dict({}, name),
    ):
        with pytest.raises(ValueError, match="`network` must be one of") as error:
            make(value)
        assert f"Received: network={value!r}" in str(error.value)
        assert ("Did you mean" in str(error.value)) == (meant is not None)
        assert meant is None or question in str(error.value)


def test_an_unknown_size_is_asked_about():
    message = (
        r"sizes of this network are \[.*'latent_dim'.*Did you mean 'latent_dim'\? "
    )
    message += "Received: latent_dims=3"
    with pytest.raises(ValueError, match=message):
        lps.PerturbationSet.from_network("mnist_stn", latent_dims=3)

    def make(**sizes):
        return lps.networks.mnist_fc(**sizes)

    with pytest.raises(TypeError):  # it takes whatever there is, and says so itself
        lps.PerturbationSet.from_network(make, latent_dims=3)
    assert lps.PerturbationSet.from_network(make, latent_dim=3)
