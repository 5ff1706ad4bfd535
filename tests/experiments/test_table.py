"""The table of experiments against the paper's."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

import lps_tf as lps
from lps_tf import experiments
from lps_tf.experiments import EXPERIMENTS, changed, classifiers
from lps_tf.experiments.classifier_table import DEMO
from lps_tf.experiments.settings import TRAININGS

# The paper's numbers, typed from its tables.
RTS = ("mnist_stn", "bernoulli", 100, 128, [0, 40, 100], [0, 8e-4, 0])
RTS += ([0, 10, 50, 100], [0, 0.01, 1, 1], 14)
CIFAR = ("cifar10_residual", "gaussian", 1000, 128, [0, 400, 1000], [0, 1e-3, 0])
SLOW = ([0, 400, 1000], [0, 0.01, 0.01])
PAPER_SETS = {
    "mnist_linf_fc": (
        *("mnist_linf", {}, "mnist_fc", "bernoulli", 20, 128),
        *([0, 10, 15, 20], [0, 0.001, 0.0005, 0.0001], [0, 5, 20], [0, 0.001, 0.01]),
        28,
    ),
    "mnist_linf_conv": (
        *("mnist_linf", {}, "mnist_conv", "bernoulli", 20, 128),
        *([0, 10, 15, 20], [1e-3, 1e-3, 5e-4, 1e-4], [0, 5, 20], [0, 0.001, 0.01]),
        29,
    ),
    "mnist_rts": ("mnist_rts", {}, *RTS),
    "mnist_rts_limited/k1": ("mnist_rts", {"limited": 1}, *RTS),
    "mnist_rts_limited/k5": ("mnist_rts", {"limited": 5}, *RTS),
    "cifar10c_from_original": (
        *("cifar10_corrupted", {"pairing": "from_original"}, *CIFAR),
        *([0, 40, 100], [0, 0.01, 0.01], 28),
    ),
    "cifar10c_with_original": (
        *("cifar10_corrupted", {"pairing": "with_original"}, *CIFAR, *SLOW, 34),
    ),
    "cifar10c_among_perturbed": (
        *("cifar10_corrupted", {"pairing": "among_perturbed"}, *CIFAR, *SLOW, 34),
    ),
    "mi_mip5": (
        *("multi_illumination", {"mip": 5}, "mi_unet", "gaussian", 1000, 64),
        *([0, 400, 1000], [0.0001, 0.001, 0], [0, 400, 1000], [0, 1, 1], 17),
    ),
    "mi_mip4": (
        *("multi_illumination", {"mip": 4}, "mi_unet", "gaussian", 100, 32),
        *([0, 40, 100], [2.5e-5, 2.5e-4, 0], [0], [1], 25),
    ),
    "mi_mip3": (
        *("multi_illumination", {"mip": 3}, "mi_unet", "gaussian", 25, 16),
        *([0, 10, 25], [2e-6, 2e-5, 0], [0], [10], 21),
    ),
}
PAPER_CLASSIFIERS = {  # training, its radius, sigma
    "cifar10c_classifier/plain": ("plain", None, None),
    "cifar10c_classifier/perturbed": ("perturbed", None, None),
    "cifar10c_classifier/augmentation": ("augmentation", 28, None),
    "cifar10c_classifier/adversarial": ("adversarial", 28, None),
    # Not the paper's, but with its settings.
    "cifar10c_classifier/encoded": ("encoded", 28, None),
    "cifar10c_classifier/mixture": ("mixture", 28, None),
    "cifar10c_classifier/augmix": ("augmix", None, None),
    "cifar10c_classifier/prime": ("prime", None, None),
    "cifar10c_classifier/smoothing_25": ("smoothing", None, 0.84),
    "cifar10c_classifier/smoothing_50": ("smoothing", None, 1.22),
    "cifar10c_classifier/smoothing_75": ("smoothing", None, 3.19),
    "mi_segmentation/first_light": ("plain", None, None),
    "mi_segmentation/all_lights": ("perturbed", None, None),
    "mi_segmentation/augmentation": ("augmentation", 17, None),
    "mi_segmentation/adversarial": ("adversarial", 17, None),
    "mi_segmentation/smoothing": ("smoothing", None, 6.9),
}
STAND_INS = {
    "mnist_linf": "mnist5k_linf",
    "mnist_rts": "mnist5k_rts",
    "cifar10_corrupted": "photos",
    "multi_illumination": "scenes",
}

FASHION = {
    "fashion_linf_fc",
    "fashion_linf_conv",
    "fashion_rts",
    "fashion_rts_limited/k1",
    "fashion_rts_limited/k5",
}

CORRUPTED = [
    f"fashion_corrupted_classifier/{training}"
    for training in (
        "augmentation",
        "augmix",
        "encoded",
        "hybrid",
        "perturbed",
        "plain",
        "prime",
        "smooth_adv",
    )
]

RTS_CLASSIFIERS = [
    (data, f"rts_classifier/{training}")
    for data in ("mnist", "fashion")
    for training in sorted(set(TRAININGS) - {"mixture", "augmix", "prime", "encoded"})
]


def points(schedule):
    return [list(part) for part in schedule]


# The table.


def test_there_is_a_row_for_each_of_the_papers():
    ours = set(DEMO) | FASHION | {f"{data}_{name}" for data, name in RTS_CLASSIFIERS}
    ours |= {"fashion_corrupted", *CORRUPTED}
    assert set(EXPERIMENTS) - ours == {*PAPER_SETS, *PAPER_CLASSIFIERS}


@pytest.mark.parametrize("name", PAPER_SETS)
def test_sets_have_the_papers_settings(name):
    s = EXPERIMENTS[name].settings("paper")
    (data, options, network, likelihood, epochs, batch) = PAPER_SETS[name][:6]
    (rate_epochs, rates, beta_epochs, betas, radius) = PAPER_SETS[name][6:]
    assert (s.data, s.options, s.network, s.sizes) == (data, options, network, {})
    assert (s.likelihood, s.epochs, s.batch_size) == (likelihood, epochs, batch)
    assert points(s.learning_rate) == [rate_epochs, rates]
    assert points(s.beta) == [beta_epochs, betas]
    assert (s.radius, s.steps) == (radius, 50)
    assert s.weight_decay == (5e-7 if name == "mi_mip5" else 0)
    before = {"mi_mip4": "mi_mip5", "mi_mip3": "mi_mip4"}
    assert s.start == s.predecessor == before.get(name)


@pytest.mark.parametrize("name", sorted(FASHION))
def test_fashion_has_the_settings_of_mnist(name):
    digits = EXPERIMENTS[name.replace("fashion", "mnist")]
    data = digits.paper.data.replace("mnist", "fashion")
    ours = EXPERIMENTS[name].settings("paper")
    assert ours == changed(digits.paper, data=data, radius=None)
    ours, theirs = (e.settings("laptop") for e in (EXPERIMENTS[name], digits))
    assert ours.data == data and ours.sizes == theirs.sizes
    # Many more images, in fewer epochs: the schedules keep their form.
    assert 1 <= ours.epochs < theirs.epochs
    for schedule in ("learning_rate", "beta"):
        (epochs, values), (other, same) = (getattr(s, schedule) for s in (ours, theirs))
        assert values == same
        assert epochs[-1] / ours.epochs == pytest.approx(other[-1] / theirs.epochs)


@pytest.mark.parametrize("data, name", RTS_CLASSIFIERS)
def test_classifiers_of_transformed_images_differ_in_their_training_alone(data, name):
    row = EXPERIMENTS[f"{data}_{name}"]
    plain = EXPERIMENTS[f"{data}_rts_classifier/plain"]
    for scale, source in (("paper", f"{data}_rts"), ("laptop", "mnist5k_rts")):
        ours, theirs = row.settings(scale), plain.settings(scale)
        assert ours.training == name.rsplit("/", 1)[1]
        assert ours.data == (source if data == "mnist" else "fashion_rts")
        assert ours.perturbation_set == ours.predecessor == f"{data}_rts"
        same = ("data", "network", "sizes", "optimizer", "batch_size", "seed", "limit")
        same += ("radii", "attack", "steps", "n0", "alpha")
        for setting in same:
            assert getattr(ours, setting) == getattr(theirs, setting)
        assert ours.radii[:4] == (0.5, 1.0, 1.5, 2.0)
        assert ours.limit == (2000 if data == "fashion" else None)


def test_corrupted_clothes_have_the_settings_of_photographs_at_the_papers_scale():
    photographs = EXPERIMENTS["cifar10c_from_original"].paper
    ours = EXPERIMENTS["fashion_corrupted"]
    assert ours.paper == changed(photographs, data="fashion_corrupted", radius=None)
    laptop = ours.settings("laptop")
    assert laptop.options == {"pairing": "from_original", "augment": False}
    pset = lps.PerturbationSet.from_network(laptop.network, **laptop.sizes)
    assert pset.generator.neighbours % 2 == 1


@pytest.mark.parametrize("name", CORRUPTED)
def test_classifiers_of_corrupted_clothes_differ_in_their_training_alone(name):
    for scale in ("paper", "laptop"):
        ours = EXPERIMENTS[name].settings(scale)
        theirs = EXPERIMENTS["fashion_corrupted_classifier/plain"].settings(scale)
        assert ours.training == name.rsplit("/", 1)[1]
        assert ours.predecessor == "fashion_corrupted"
        same = ("data", "options", "network", "sizes", "optimizer", "batch_size")
        same += ("epochs", "learning_rate", "radii", "attack", "steps", "limit")
        for setting in same:
            assert getattr(ours, setting) == getattr(theirs, setting)


@pytest.mark.parametrize("name", PAPER_CLASSIFIERS)
def test_classifiers_have_the_papers_settings(name):
    s = EXPERIMENTS[name].settings("paper")
    assert (s.training, s.radius, s.sigma) == PAPER_CLASSIFIERS[name]
    assert (s.attack_steps, s.steps, s.batch_size) == (7, 50, 128)
    assert s.attack == "pgd"
    assert (s.n0, s.alpha, s.limit) == (100, 0.001, None)
    assert s.predecessor == s.perturbation_set
    if name.startswith("cifar10c"):
        assert s.perturbation_set == "cifar10c_from_original"
        assert (s.data, s.network) == ("cifar10_corrupted", "wide_resnet")
        assert s.sizes == {"depth": 28, "width": 10} and s.optimizer == "sgd"
        assert s.epochs == 100
        assert points(s.learning_rate) == [[0, 40, 100], [0, 0.2, 0]]
        assert (s.radii, s.n) == ((2.7, 3.9, 10.2), 10_000)
    else:
        assert s.perturbation_set == "mi_mip5"
        assert (s.data, s.options) == ("multi_illumination", {"mip": 5})
        assert (s.network, s.sizes) == ("Unet", {})
        assert s.epochs == 400
        assert points(s.learning_rate) == [[0, 160, 400], [0, 0.01, 0]]
        assert (s.radii, s.n) == ((7.35, 8.81, 17), 1000)


@pytest.mark.parametrize("name", [*PAPER_SETS, *PAPER_CLASSIFIERS])
def test_a_laptop_does_the_same_on_data_that_need_no_download(name):
    row = EXPERIMENTS[name]
    paper, laptop = row.settings("paper"), row.settings("laptop")
    assert laptop.data == STAND_INS[paper.data]
    same = ["perturbation_set", "training", "start", "likelihood", "alpha", "n0"]
    for setting in same:
        assert getattr(laptop, setting, None) == getattr(paper, setting, None)
    for option in ("pairing", "limited"):
        assert laptop.options.get(option) == paper.options.get(option)
    # Schedules of one form, over the whole training.
    schedules = {"learning_rate", "beta"} & set(vars(paper))
    for schedule in schedules - ({"beta"} if laptop.data == "photos" else set()):
        (epochs, values), (short, ours) = (
            getattr(s, schedule) for s in (paper, laptop)
        )
        np.testing.assert_allclose(
            np.array(short) / laptop.epochs, np.array(epochs) / paper.epochs
        )
        np.testing.assert_array_equal(np.array(ours) > 0, np.array(values) > 0)
    if name in PAPER_SETS:
        assert laptop.network == paper.network and laptop.radius is None
        return
    # Radii are quantiles of the set's own norms: those that the paper's are.
    quantiles = {2.7: "25%", 3.9: "50%", 10.2: "75%", 28: "max"}
    quantiles |= {7.35: "50%", 8.81: "75%", 17: "max", None: None}
    assert laptop.radii == tuple(quantiles[r] for r in paper.radii)
    # Within minutes, nothing is learned of scenes through the whole set.
    half = {"mi_segmentation/adversarial", "mi_segmentation/smoothing"} & {name}
    quantiles |= {17: "50%"} if half else {}
    assert laptop.radius == quantiles[paper.radius]
    attacked = {"cifar10c_classifier/adversarial", "cifar10c_classifier/mixture"}
    weaker = name in attacked
    assert (laptop.attack_steps * laptop.attack_relative_step < 0.2) == weaker
    assert laptop.attack == "apgd"
    sigmas = {0.84: "25%", 1.22: "50%", 3.19: "75%", None: None}
    sigmas |= {6.9: "50%" if half else "max"}
    assert laptop.sigma == sigmas[paper.sigma]


@pytest.mark.slow
def test_every_network_and_size_is_one_that_there_is():
    image_shapes = {"mnist5k_linf": (28, 28, 1), "mnist5k_rts": (42, 42, 1)}
    image_shapes |= {"photos": (32, 32, 3), "scenes": (62, 93, 3)}
    for name in PAPER_SETS:
        s = EXPERIMENTS[name].settings("laptop")
        pset = lps.PerturbationSet.from_network(s.network, **s.sizes)
        pset.build((None, *image_shapes[s.data]))
        assert pset.likelihood_name == s.likelihood
    for name in ("cifar10c_classifier/plain", "mi_segmentation/first_light"):
        s = EXPERIMENTS[name].settings("laptop")
        data = lps.datasets.PairData(
            "", image_shapes[s.data], 5, *[tf.data.Dataset.range(1)] * 8
        )
        assert classifiers.network(s, data).output_shape[-1] == 5


def test_the_list_names_everything():
    text = experiments.list_experiments()
    for name, experiment in EXPERIMENTS.items():
        assert f"\n{name}: {experiment.about}\n" in f"\n{text}\n"
    assert "paper   mnist_rts(limited=5), mnist_stn, 100 epochs" in text
    assert "laptop  mnist5k_rts(limited=5), mnist_stn" in text


# Settings.


def test_schedules_keep_their_form_when_epochs_change():
    s = changed(EXPERIMENTS["mnist_rts"].paper, epochs=20)
    assert points(s.learning_rate) == [[0, 8, 20], [0, 8e-4, 0]]
    assert points(s.beta) == [[0, 2, 10, 20], [0, 0.01, 1, 1]]
    s = changed(s, epochs=10, beta=((0,), (1,)))
    assert points(s.learning_rate)[0] == [0, 4, 10] and s.beta == ((0,), (1,))


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"epoch": 3}, r"no settings \['epoch'\].*'epochs'"),
        ({"epochs": 0}, "`epochs` must be .* at least 1.*epochs=0"),
        ({"epochs": 0.5}, "`epochs` must be a whole number.*epochs=0.5"),
        ({"training": "both"}, "`training` must be one of .*'plain'.*training=both"),
        ({"optimizer": "lion"}, "`optimizer` must be one of .*optimizer=lion"),
    ],
)
def test_bad_changes_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        changed(EXPERIMENTS["cifar10c_classifier/plain"].paper, **changes)


def test_unknown_names_and_scales_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"'mnist_rts'\? Received: name='mnist'"):
        experiments.run("mnist", "laptop", tmp_path)
    other = {"perturbation_set": "mnist"}
    with pytest.raises(ValueError, match=r"'mi_mip5', .*Received: name='mnist'"):
        experiments.run("mi_segmentation/smoothing", "paper", tmp_path, changes=other)
    with pytest.raises(ValueError, match=r"`scale` must be one of .*scale='full'"):
        experiments.run("mnist_rts", "full", tmp_path)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    "radius, n, sigma",
    [(2.7, 10_000, 0.84), (3.9, 10_000, 1.22), (10.2, 10_000, 3.19), (17, 1000, 6.9)],
)
def test_a_quantile_gives_the_papers_sigma(tiny_set, radius, n, sigma):
    # It is the radius that n draws, all for one class, can just certify.
    s = EXPERIMENTS["cifar10c_classifier/smoothing_50"].settings("paper")
    pset = FakeSet({"50%": radius})
    found = classifiers.sigma(changed(s, sigma="50%", n=n), pset)
    assert found == pytest.approx(sigma, abs=0.006)
    bound = scipy.stats.beta.ppf(s.alpha, n, 1)
    assert found * scipy.stats.norm.ppf(bound) == pytest.approx(radius)


class FakeSet:
    def __init__(self, quantiles):
        self.calibration = {"quantiles": quantiles}


# What classifiers are trained on.


def no_data():
    raise AssertionError("This training needs no data to make its perturbation.")


@pytest.mark.parametrize(
    "name", ["augmentation", "adversarial", "mixture", "smoothing_50"]
)
def test_the_perturbation_is_the_tables(tiny_set, monkeypatch, name):
    quantiles = {"25%": 0.5, "50%": 1.0, "75%": 1.5, "max": 2.0}
    monkeypatch.setattr(tiny_set, "calibration", {"quantiles": quantiles})
    row = EXPERIMENTS[f"cifar10c_classifier/{name}"]
    paper, laptop = (
        classifiers.perturbation(row.settings(scale), tiny_set, no_data)
        for scale in ("paper", "laptop")
    )
    if name == "smoothing_50":
        assert isinstance(paper, lps.LatentNoise) and paper.sigma == 1.22
        assert laptop.sigma == pytest.approx(1 / scipy.stats.norm.ppf(0.001**0.001))
        return
    assert (paper.radius, laptop.radius) == (28, 2)
    if name in ("adversarial", "mixture"):
        assert paper.radius * paper.relative_step == pytest.approx(5.6)
        assert paper.steps == 7
    else:
        assert isinstance(paper, lps.LatentAugmentation)


@pytest.mark.parametrize("data", ["cifar10c", "fashion_corrupted"])
def test_encoded_draws_the_latents_of_training_pairs(tiny_set, monkeypatch, data):
    monkeypatch.setattr(tiny_set, "calibration", {"quantiles": {"max": 2.0}})
    x = np.random.RandomState(0).rand(5, 12, 12, 1).astype(np.float32)
    pairs = tf.data.Dataset.from_tensor_slices((x, x[::-1])).batch(2)
    s = EXPERIMENTS[f"{data}_classifier/encoded"].settings("laptop")
    assert s.data in classifiers.CORRUPTED
    found = classifiers.perturbation(
        s, tiny_set, lambda: SimpleNamespace(train_pairs=pairs)
    )
    assert type(found) is lps.LatentAugmentation and found.radius == 2
    np.testing.assert_allclose(found.latents, tiny_set.encode(x, x[::-1]), atol=1e-5)


@pytest.mark.parametrize("data", ["cifar10c", "fashion_corrupted"])
@pytest.mark.parametrize("name, kind", [("augmix", lps.AugMix), ("prime", lps.Prime)])
def test_baselines_are_trained_as_their_papers_say(tiny_set, data, name, kind):
    for scale in experiments.SCALES:
        s = EXPERIMENTS[f"{data}_classifier/{name}"].settings(scale)
        plain = EXPERIMENTS[f"{data}_classifier/plain"].settings(scale)
        assert s == changed(plain, training=name)
        augmentation = classifiers.perturbation(s, tiny_set, no_data)
        assert type(augmentation) is kind and augmentation.num_samples == 2
        objective = classifiers.objective(s)
        assert isinstance(objective, lps.objectives.JensenShannon)
        assert objective.weight == 12
        assert classifiers.objective(plain) is None
        assert s.data in classifiers.CORRUPTED


def test_smooth_adv_takes_one_step_around_a_noise(tiny_set):
    s = EXPERIMENTS["mnist_rts_classifier/smooth_adv"].settings("laptop")
    attack = classifiers.perturbation(s, tiny_set, no_data)
    assert isinstance(attack, lps.SmoothedPGD) and attack.perturbation_set is tiny_set
    assert (attack.sigma, attack.radius) == (1.0, 1.5)
    assert (attack.steps, attack.relative_step, attack.num_samples) == (1, 1.0, 1)


def test_a_hybrid_begins_with_true_perturbations():
    s = EXPERIMENTS["mnist_rts_classifier/hybrid"].settings("laptop")
    data = SimpleNamespace(
        train=tf.data.Dataset.from_tensors((tf.zeros((5, 2)), tf.range(5))),
        train_perturbed=tf.data.Dataset.from_tensors((tf.ones((5, 2)), -tf.range(5))),
    )
    ((x, y),) = classifiers.training_images(s, data)
    np.testing.assert_array_equal(x[:, 0], [1, 1, 0, 0, 0])
    np.testing.assert_array_equal(y, [0, -1, 2, 3, 4])
    assert classifiers.training_images(changed(s, training="perturbed"), data) is (
        data.train_perturbed
    )
    assert classifiers.training_images(changed(s, training="plain"), data) is data.train


def test_both_optimizers_are_offered():
    s = EXPERIMENTS["cifar10c_classifier/plain"].settings("paper")
    sgd = classifiers.optimizer(s)(0.2)
    assert isinstance(sgd, keras.optimizers.SGD) and sgd.momentum == 0.9
    adam = classifiers.optimizer(changed(s, optimizer="adam"))(0.2)
    assert isinstance(adam, keras.optimizers.Adam)
