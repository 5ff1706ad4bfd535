"""Classifiers, images, labels and weights as users have them, trained and attacked."""

import copy
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

import lps_tf as lps
from tests.robustness.pixel_ball import SIZE, PixelBall, images, linear, pointwise

# Keras says so at the end of every generator, of its own models too.
pytestmark = pytest.mark.filterwarnings("ignore:Your input ran out of data")

X = images()
Y = np.arange(12) % 3
MAPS = np.random.RandomState(1).randint(0, 3, (12, 4, 4))


def attack(**options):
    return lps.LatentPGD(PixelBall(), **{"steps": 3, **options})


def shift(amount):
    """A perturbation without random numbers."""
    return lambda classifier, x, y: x + amount


def robust(classifier=None, perturbation=None, compile_options=None, **options):
    """A compiled model; without a graph, which takes longer to trace than to run."""
    model = lps.RobustClassifier(classifier or linear(), perturbation, **options)
    optimizer = keras.optimizers.SGD(0.1)
    model.compile(optimizer, **{"run_eagerly": True, **(compile_options or {})})
    return model


GRAPH = {"run_eagerly": False}


def fitted(model, *data, **options):
    """The last values of the logs of a short training."""
    options = {"verbose": 0, "batch_size": 4, "shuffle": False, **options}
    if not isinstance(data[0], np.ndarray):
        del options["batch_size"]
    history = model.fit(*data, **options).history
    return {name: float(values[-1]) for name, values in history.items()}


def evaluated(model, *data, **options):
    return floats(model.evaluate(*data, verbose=0, return_dict=True, **options))


def floats(logs):
    """Logs as numbers: run eagerly, some versions of Keras leave tensors."""
    return {name: float(value) for name, value in logs.items()}


def dataset(*parts):
    return tf.data.Dataset.from_tensor_slices(parts).batch(4)


class Batches(keras.utils.PyDataset):
    """The arrays as a PyDataset."""

    def __init__(self, *parts):
        super().__init__()
        self.parts = parts

    def __len__(self):
        return len(self.parts[0]) // 4

    def __getitem__(self, index):
        return tuple(part[4 * index : 4 * index + 4] for part in self.parts)


def generator(*parts):
    data = Batches(*parts)
    return (data[i] for i in range(len(data)))


def without_signature(*parts):
    """A data set of which TensorFlow knows no shape."""
    types = tuple(tf.as_dtype(part.dtype) for part in parts)
    return tf.data.Dataset.from_generator(lambda: generator(*parts), output_types=types)


FORMS = {
    "data set": dataset,
    "without signature": without_signature,
    "PyDataset": Batches,
    "generator": generator,
}


# Replacing what was given at construction.


def replaced(name, value):
    def change(model):
        setattr(model, name, value)

    return change


def change_of_perturbation(name, value):
    def change(model):
        setattr(model.perturbation, name, value)

    return change


CHANGES = {
    "perturbation": (
        {"perturbation": shift(0.0)},
        replaced("perturbation", shift(0.7)),
    ),
    "objective": (
        {"perturbation": shift(0.7), "objective": lps.objectives.WorstLoss()},
        replaced("objective", lps.objectives.Trades(beta=20.0)),
    ),
    "radius of an attack": (
        {"perturbation": attack(radius=1e-3)},
        change_of_perturbation("radius", 3.0),
    ),
    "sigma of noise": (
        {"perturbation": lps.LatentNoise(PixelBall(), 1e-3)},
        change_of_perturbation("sigma", 3.0),
    ),
    "radius of an augmentation": (
        {"perturbation": lps.LatentAugmentation(PixelBall(), radius=1e-3)},
        change_of_perturbation("radius", 3.0),
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_new_value_counts_at_once(name):
    options, change = CHANGES[name]
    model = robust(linear(), compile_options=GRAPH, **copy.deepcopy(options))
    before = evaluated(model, X, Y, batch_size=12)
    change(model)
    after = evaluated(model, X, Y, batch_size=12)
    assert abs(after["loss"] - before["loss"]) > 1e-3
    fresh = robust(linear(), **copy.deepcopy(options))
    change(fresh)
    expected = evaluated(fresh, X, Y, batch_size=12)
    assert after == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    "name, value", [("clean_fraction", 0.75), ("warmup_epochs", 5)]
)
def test_a_new_share_of_clean_images_counts_at_once(name, value):
    model = robust(linear(), shift(2.0), GRAPH)
    model.optimizer.learning_rate = 0.0
    model.train_on_batch(X, Y)
    setattr(model, name, value)
    model.reset_metrics()  # Keras 3.12 leaves them from one batch to the next
    found = float(model.train_on_batch(X, Y, return_dict=True)["robust_loss"])
    clean = 9 if name == "clean_fraction" else 12  # of the twelve images
    mixed = np.concatenate([X[:clean], X[clean:] + 2.0])
    expected = cross_entropy(linear()(mixed).numpy(), Y).mean()
    assert found == pytest.approx(expected, rel=1e-5)


def test_a_callback_changes_the_perturbation_while_training_goes_on():
    seen = []

    def noting(amount):
        def perturb(classifier, x, y):
            seen.append(amount)  # when it is traced
            return x + amount

        return perturb

    class Change(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.model.perturbation = noting(epoch)

    model = robust(None, noting(-1), GRAPH)
    fitted(model, X, Y, epochs=3, callbacks=[Change()])
    assert [amount for amount in dict.fromkeys(seen) if amount >= 0] == [0, 1, 2]


def test_a_schedule_sets_the_radius_of_each_epoch():
    pgd = attack(radius=0.1)
    schedule = lps.schedules.PiecewiseLinear([0, 2], [0.5, 2.5])
    radii = []
    note = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: radii.append(pgd.radius)
    )
    growing = lps.RadiusSchedule(pgd, schedule)
    fitted(robust(perturbation=pgd), X, Y, epochs=4, callbacks=[growing, note])
    assert radii == [0.5, 1.5, 2.5, 2.5]
    with pytest.raises(ValueError, match="positive at every epoch"):
        lps.RadiusSchedule(pgd, lps.schedules.PiecewiseLinear([0, 2], [0.0, 1.0]))


FIXED = {
    "LatentPGD": (attack, ("perturbation_set", "steps", "relative_step", "restarts")),
    "LatentAPGD": (lambda: lps.LatentAPGD(PixelBall()), ("perturbation_set", "seed")),
    "RandomSearch": (lambda: lps.RandomSearch(PixelBall()), ("restarts", "seed")),
    "SmoothedPGD": (
        lambda: lps.SmoothedPGD(PixelBall(), 0.5),
        ("num_samples", "steps", "seed"),
    ),
    "LatentNoise": (
        lambda: lps.LatentNoise(PixelBall(), 0.5),
        ("num_samples", "perturbation_set"),
    ),
    "LatentAugmentation": (lambda: lps.LatentAugmentation(PixelBall()), ("seed",)),
    "RobustClassifier": (robust, ("classifier", "ignore_class")),
    "Trades": (lps.objectives.Trades, ("beta",)),
    "Consistency": (lps.objectives.Consistency, ("weight", "entropy")),
}


@pytest.mark.parametrize("name", FIXED)
def test_what_cannot_change_says_so(name):
    make, names = FIXED[name]
    for attribute in names:
        with pytest.raises(AttributeError, match=f"Build another {name}"):
            setattr(make(), attribute, 1)


@pytest.mark.parametrize("value", [0.0, -1.0, np.inf, np.nan])
def test_numbers_that_are_none_are_refused(value):
    for make in (
        lambda: lps.LatentNoise(PixelBall(), value),
        lambda: attack(radius=value),
        lambda: lps.LatentAugmentation(PixelBall(), radius=value),
        lambda: setattr(attack(), "radius", value),
    ):
        with pytest.raises(ValueError, match="must be positive and finite"):
            make()


@pytest.mark.parametrize(
    "original",
    [attack(seed=3), lps.LatentNoise(PixelBall(), 0.5, seed=3)],
    ids=["attack", "noise"],
)
def test_a_copy_goes_on_as_the_original_and_shares_the_set(original):
    original(linear(), X, Y)  # so that it has taken a key already
    copied = copy.deepcopy(original)
    assert copied.perturbation_set is original.perturbation_set
    np.testing.assert_array_equal(copied(linear(), X, Y), original(linear(), X, Y))
    name = "radius" if hasattr(original, "radius") else "sigma"
    before = getattr(original, name)
    setattr(copied, name, 7.0)
    assert getattr(original, name) == before


# One logit.


class TwoLogits(keras.Model):
    """What a model of one logit stands for."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def call(self, x, training=False):
        z = self.model(x)
        return tf.concat([tf.zeros_like(z), z], -1)


ONE_LOGIT = {
    "logit": lambda: linear(1),
    "sigmoid": lambda: linear(1, "sigmoid"),
    "segmenter": lambda: pointwise(1),
}


@pytest.mark.parametrize("name", ONE_LOGIT)
def test_one_logit_is_trained_as_a_choice_between_two_classes(name):
    segments = name == "segmenter"
    y = (X[..., 0] > 0.5).astype(np.int64) if segments else Y % 2
    one = ONE_LOGIT[name]()
    plain = pointwise(1) if segments else linear(1)
    logs = fitted(robust(one, attack(seed=1)), X, y, epochs=2)
    expected = fitted(robust(TwoLogits(plain), attack(seed=1)), X, y, epochs=2)
    assert logs == pytest.approx(expected, rel=1e-4)
    np.testing.assert_allclose(one.get_weights()[0], plain.get_weights()[0], atol=1e-5)
    # Keras has labels of one logit with a last axis, as floats, and a loss for them.
    with_axis = y[..., None].astype(np.float32)
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    again = robust(ONE_LOGIT[name](), attack(seed=1), {"loss": loss})
    assert fitted(again, X, with_axis, epochs=2) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", ONE_LOGIT)
def test_one_logit_is_attacked_as_a_choice_between_two_classes(name):
    one = ONE_LOGIT[name]()
    logits = (one.layers[-1].kernel, one.layers[-1].bias)
    y = (one(X).numpy() > (0.5 if name == "sigmoid" else 0))[..., 0].astype(np.uint8)
    if name == "segmenter":
        pgd = attack(radius=3.0, steps=20)
        found, known = pgd.run(one, X, y), pgd.run(TwoLogits(one), X, y)
        np.testing.assert_allclose(found.loss, known.loss, rtol=1e-4)
        assert found.success.sum() > 0 and not attack().run(one, X, y).success.all()
        return
    # The nearest point of a plane is known.
    z = X.reshape(12, -1) @ logits[0].numpy()[:, 0] + logits[1].numpy()[0]
    distance = np.abs(z) / np.linalg.norm(logits[0])
    for radius in np.quantile(distance, [0.3, 0.7]):
        found = attack(steps=20, seed=2).run(one, X, y, [radius])
        np.testing.assert_array_equal(found.success[0], distance < radius)
    report = lps.evaluate_robustness(
        one,
        (X, y[:, None]),
        attack(steps=20),
        [float(np.median(distance))],
        verbose=False,
    )
    assert report.rows["clean"].accuracy == 1
    assert list(report.rows.values())[1].accuracy == pytest.approx(0.5)


# Void pixels.


@pytest.fixture(scope="module")
def void():
    """Label maps of 255 in a third of their pixels, and where they are labels."""
    valid = np.random.RandomState(2).uniform(size=MAPS.shape) > 0.35
    valid[0] = False  # an image without any label
    return np.where(valid, MAPS, 255).astype(np.uint8), valid


def cross_entropy(logits, y):
    logits = logits - logits.max(-1, keepdims=True)
    logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return -np.take_along_axis(logs, np.maximum(y, 0)[..., None], -1)[..., 0]


def test_void_pixels_count_in_no_loss_and_no_metric(void):
    maps, valid = void
    model = robust(
        pointwise(),
        shift(0.3),
        {"metrics": ["accuracy", "mean_iou"]},
        ignore_class=255,
    )
    for name, x in (("clean", X), ("robust", X + 0.3)):
        logits = model.classifier(x).numpy()
        found = evaluated(model, X, maps)
        losses = np.where(valid, cross_entropy(logits, MAPS), 0).sum((1, 2))
        loss = (losses / np.maximum(valid.sum((1, 2)), 1)).mean()
        assert found[f"{name}_loss"] == pytest.approx(loss, rel=1e-5)
        prediction = logits.argmax(-1)
        correct = (prediction == MAPS)[valid].mean()
        assert found[f"{name}_accuracy"] == pytest.approx(correct, rel=1e-5)
        both = [((prediction == k) & (k == MAPS))[valid].sum() for k in range(3)]
        either = [((prediction == k) | (k == MAPS))[valid].sum() for k in range(3)]
        iou = np.mean(np.divide(both, either))
        assert found[f"{name}_mean_iou"] == pytest.approx(iou, rel=1e-5)


@pytest.mark.parametrize("objective", [None, "Trades", "Mart", "PerturbedLoss"])
def test_what_is_under_void_pixels_does_not_matter(void, objective):
    maps, valid = void
    objective = objective and getattr(lps.objectives, objective)()
    weights = []
    for x in (X, np.where(valid[..., None], X, 1 - X)):
        # The segmenter looks at each pixel alone.
        model = robust(pointwise(), shift(0.2), objective=objective, ignore_class=255)
        fitted(model, x, maps, epochs=2)
        weights.append(model.classifier.get_weights()[0])
    np.testing.assert_allclose(*weights, atol=1e-6)
    assert not np.allclose(weights[0], pointwise().get_weights()[0], atol=1e-3)


def test_void_pixels_count_in_no_success_of_an_attack(void):
    maps, valid = void
    segment = pointwise()
    pgd = attack(radius=0.29, steps=5)
    result = pgd.run(segment, X, maps, ignore_class=255)
    assert not result.success[:, 0].any()  # of an image that is void as a whole
    logits = segment(PixelBall().perturb(X, result.u[0])).numpy()
    losses = np.where(valid, cross_entropy(logits, MAPS), 0).sum((1, 2))
    np.testing.assert_allclose(result.loss[0], losses, rtol=1e-4, atol=1e-5)
    wrong = ((logits.argmax(-1) != MAPS) | ~valid).all((1, 2)) & valid.any((1, 2))
    np.testing.assert_array_equal(result.success[0], wrong)
    report = lps.evaluate_robustness(
        segment, (X, maps), pgd, ignore_class=255, verbose=False
    )
    clean = segment(X).numpy().argmax(-1) == MAPS
    share = [clean[i][valid[i]].mean() for i in range(1, 12)]
    assert report.rows["clean"].accuracy == pytest.approx(np.mean(share), rel=1e-5)
    assert report.rows["clean"].n == 11
    checks = lps.sanity_checks(
        segment, PixelBall(), X, maps, radii=[0.3], steps=3, ignore_class=255,
        verbose=False,
    )  # fmt: skip
    assert checks.accuracy["random search"][0] <= np.mean(share) + 1e-6


def test_void_labels_are_refused_where_nobody_named_them(void):
    maps, _ = void
    segment = pointwise()
    group = np.stack([X, X], 1)
    model = robust(segment, attack())
    for use in (
        lambda: fitted(model, X, maps),
        lambda: fitted(model, dataset(X, maps)),
        lambda: fitted(model, X, MAPS, validation_data=(X, maps)),
        lambda: fitted(model, X, MAPS, validation_data=dataset(X, maps)),
        lambda: evaluated(model, X, maps),
        lambda: model.train_on_batch(X, maps),
        lambda: model.test_on_batch(X, maps),
        lambda: attack().run(segment, X, maps),
        lambda: lps.WorstOfGroup().run(segment, group, maps),
        lambda: lps.evaluate_robustness(segment, (X, maps), verbose=False),
        lambda: lps.sanity_checks(
            segment, PixelBall(), X, maps, radii=[1.0], verbose=False
        ),
    ):
        with pytest.raises(ValueError, match="pass it as `ignore_class`"):
            use()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=0)
    with pytest.raises(ValueError, match="pass `ignore_class` to the RobustClassifier"):
        robust(segment, compile_options={"loss": loss})


# Labels and images of every type.


def label_forms(y):
    one_hot = np.eye(3)[y]
    forms = {t: y.astype(t) for t in ("uint8", "int16", "uint16", "int32", "float32")}
    forms |= {"with an axis": y[..., None], "one-hot": one_hot}
    return forms | {"one-hot integers": one_hot.astype(np.int64)}


@pytest.mark.parametrize("segments", [False, True], ids=["classifier", "segmenter"])
def test_labels_of_every_type_and_shape_are_the_same(segments):
    make, y = (pointwise, MAPS) if segments else (linear, Y)
    group = np.stack([X, X[::-1]], 1)
    pgd = attack(seed=1)
    model = robust(make(), pgd)
    model.build((None, *SIZE))
    weights = model.get_weights()

    def results(labels):
        model.set_weights(weights)
        model.reset_metrics()
        logs = model.train_on_batch(X, labels, return_dict=True)
        found = pgd.run(model.classifier, X, labels)
        worst = lps.WorstOfGroup().run(model.classifier, group, labels)
        direct = pgd(model.classifier, X, labels, tf.constant([0, 1])).numpy()
        return [*logs.values(), found.loss, found.success, worst.loss, direct]

    expected = results(y)
    for name, form in label_forms(y).items():
        for value, known in zip(results(form), expected, strict=True):
            # Floats that are one-hot are probabilities in a direct call: an example
            # that is misclassified goes on moving there.
            if name == "one-hot" and np.ndim(known) == 4:
                continue
            np.testing.assert_allclose(value, known, rtol=1e-5, err_msg=name)
    # Eight bits hold 256 classes, but not their number.
    robust(linear(256), attack()).train_on_batch(X, (Y + 253).astype("uint8"))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("labels", ["one-hot", "uint8", "with an axis"])
def test_labels_of_every_form_reach_training_by_every_way(form, labels):
    expected = fitted(robust(), X, Y)
    found = fitted(robust(), FORMS[form](X, label_forms(Y)[labels]))
    assert found == pytest.approx(expected, rel=1e-5)


def test_labels_that_are_none_are_refused():
    for labels, message in (
        (Y / 2, "Labels must be integers"),
        (np.eye(3)[Y] * 0.5, "one-hot"),
        (Y + 1, "below 3"),
        (Y - 1, "at least 0"),
        (np.eye(4)[Y], "integers of this shape"),
        (MAPS, "integers of this shape"),
        (Y.astype(str), "Labels must be integers"),
    ):
        for use in (
            lambda y: robust().train_on_batch(X, y),
            lambda y: fitted(robust(), generator(X, y)),
            lambda y: attack().run(linear(), X, y),
            lambda y: lps.evaluate_robustness(linear(), (X, y), verbose=False),
        ):
            with pytest.raises(ValueError, match=message):
                use(labels)


@pytest.mark.parametrize("form", [*FORMS, "arrays"])
def test_images_that_are_none_are_refused_by_every_way(form):
    make = FORMS.get(form, lambda *parts: parts)
    for bad, message in (
        (255 * X, r"must lie in \[0, 1\]"),
        (np.full_like(X, np.nan), "NaN"),
        ((255 * X).astype(np.uint8), "must hold floats"),
        (np.repeat(X, 3, -1), "must hold images of shape"),
    ):
        for method in (fitted, evaluated):
            data = make(bad, Y)
            data = data if isinstance(data, tuple) else (data,)
            model = robust()
            model.build((None, *SIZE))
            with pytest.raises(ValueError, match=message):
                method(model, *data)


@pytest.mark.parametrize("method", ["train_on_batch", "test_on_batch"])
def test_single_batches_are_checked_too(method):
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
        getattr(robust(), method)(255 * X, Y)


@pytest.mark.parametrize("dtype", [np.float64, np.float16])
def test_images_of_other_precisions_are_cast(dtype):
    options = {"clean_fraction": 0.5, "warmup_epochs": 1}
    x = X.astype(np.float16)
    expected = fitted(
        robust(linear(), shift(0.1), **options), x.astype(np.float32), Y, epochs=2
    )
    for data in ((x.astype(dtype), Y), (dataset(x.astype(dtype), Y),)):
        found = fitted(robust(linear(), shift(0.1), **options), *data, epochs=2)
        assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_data_trains_and_validates_the_same(form):
    make = FORMS[form]
    expected = fitted(robust(), X, Y, validation_data=(X, Y))
    validation = dataset(X, Y) if form == "generator" else make(X, Y)
    found = fitted(robust(), make(X, Y), validation_data=validation)
    assert found == pytest.approx(expected, rel=1e-5)
    if form != "generator":
        two = fitted(robust(), make(X, Y), epochs=2)
        assert two == pytest.approx(fitted(robust(), X, Y, epochs=2), rel=1e-5)


# Weights: what Keras's own `fit` does, without a perturbation.


def keras_alone(model):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1), loss)
    return model


WEIGHTS = np.linspace(0, 2, 12).astype(np.float32)


@pytest.mark.parametrize(
    "options",
    [{"sample_weight": WEIGHTS}, {"class_weight": {0: 3.0, 1: 0.0}}],
    ids=["sample_weight", "class_weight"],
)
def test_weights_are_those_of_keras(options):
    plain, model = keras_alone(linear()), robust()
    expected = fitted(plain, X, Y, epochs=2, **options)
    found = fitted(model, X, Y, epochs=2, **options)
    assert float(found["loss"]) == pytest.approx(float(expected["loss"]), rel=1e-5)
    np.testing.assert_allclose(
        model.classifier.get_weights()[0], plain.get_weights()[0], atol=1e-6
    )
    one = robust().train_on_batch(X, Y, return_dict=True, **options)
    alone = keras_alone(linear()).train_on_batch(X, Y, return_dict=True, **options)
    assert float(one["loss"]) == pytest.approx(float(alone["loss"]), rel=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_weights_come_in_batches_too(form):
    expected = fitted(robust(), X, Y, sample_weight=WEIGHTS)
    found = fitted(robust(), FORMS[form](X, Y, WEIGHTS))
    assert found == pytest.approx(expected, rel=1e-5)
    by_class = {0: 3.0, 1: 0.0}
    expected = fitted(robust(), X, Y, class_weight=by_class)
    found = fitted(robust(), FORMS[form](X, Y), class_weight=by_class)
    assert found == pytest.approx(expected, rel=1e-5)


def test_weights_of_validation_and_evaluation():
    expected = evaluated(robust(), X, Y, sample_weight=WEIGHTS)
    plain = evaluated(keras_alone(linear()), X, Y, sample_weight=WEIGHTS)
    assert float(expected["loss"]) == pytest.approx(plain["loss"], rel=1e-5)
    assert evaluated(robust(), dataset(X, Y, WEIGHTS)) == pytest.approx(expected)
    model = robust()
    model.optimizer.learning_rate = 0.0
    for data in ((X, Y, WEIGHTS), dataset(X, Y, WEIGHTS)):
        found = fitted(model, X, Y, validation_data=data)
        assert found["val_loss"] == pytest.approx(float(expected["loss"]), rel=1e-5)


def test_maps_may_have_weights_by_pixel_and_by_class():
    by_class = {0: 2.0, 2: 0.0}
    weight = np.select([MAPS == 0, MAPS == 2], [2.0, 0.0], 1.0).astype(np.float32)
    model = robust(pointwise())
    losses = cross_entropy(pointwise()(X).numpy(), MAPS)
    expected = (weight * losses).mean()
    for options in ({"class_weight": by_class}, {"sample_weight": weight}):
        model = robust(pointwise())
        found = model.train_on_batch(X, MAPS, return_dict=True, **options)
        assert float(found["loss"]) == pytest.approx(expected, rel=1e-5)
    both = robust(pointwise()).train_on_batch(
        X, MAPS, sample_weight=WEIGHTS, class_weight=by_class, return_dict=True
    )
    expected = (WEIGHTS[:, None, None] * weight * losses).mean()
    assert float(both["loss"]) == pytest.approx(expected, rel=1e-5)


def test_weights_that_are_none_are_refused():
    for options, message in (
        ({"sample_weight": -WEIGHTS}, "at least 0"),
        ({"sample_weight": np.full(12, np.nan)}, "at least 0 and finite"),
        ({"sample_weight": np.ones((12, 4, 4))}, "must have the shape"),
        ({"sample_weight": WEIGHTS[:5]}, "equally many"),
        ({"class_weight": {3: 1.0}}, "classes 0 to 2 as keys"),
    ):
        with pytest.raises(ValueError, match=message):
            robust().train_on_batch(X, Y, **options)
    with pytest.raises(ValueError, match="weights count in losses alone"):
        robust(compile_options={"weighted_metrics": ["accuracy"]})


# Classifiers of every kind.


class Subclassed(keras.Model):
    """A model whose shapes nobody knows before it is called."""

    def __init__(self):
        super().__init__()
        self.model = linear()

    def call(self, x, training=False):
        return self.model(x)


class NoXla(Subclassed):
    """A model with an operation that XLA has no form of."""

    def call(self, x, training=False):
        same = tf.numpy_function(lambda x: x, [x], tf.float32)
        return self.model(tf.ensure_shape(tf.stop_gradient(same - x) + x, x.shape))


@pytest.mark.slow
@pytest.mark.parametrize("make", [Subclassed, NoXla])
def test_any_keras_model_is_trained_and_attacked(make):
    expected = fitted(robust(linear(), attack(seed=1)), X, Y)
    known = attack(seed=1).run(linear(), X, Y)
    model = make()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        options = {"metrics": ["accuracy"], "jit_compile": True, **GRAPH}
        found = fitted(robust(model, attack(seed=1), options), X, Y)
        assert found == pytest.approx(expected, rel=1e-4)
        result = attack(seed=1).run(make(), X, Y)
    np.testing.assert_allclose(result.loss, known.loss, rtol=1e-4)
    told = [w for w in caught if "XLA cannot compile" in str(w.message)]
    assert len(told) == (2 if make is NoXla else 0)  # one for each model
    built = Subclassed()
    built(X)
    fitted(robust(built, compile_options={"metrics": ["accuracy"]}), X, Y)


def outputs_of(kind):
    x = keras.Input(SIZE)
    flat = keras.layers.Flatten()(x)
    one, two = keras.layers.Dense(3)(flat), keras.layers.Dense(3)(flat)
    if kind == "a row":
        return keras.Model(x, keras.layers.Reshape((1, 3))(one)), "must give logits"
    if kind == "a map of one pixel":
        return keras.Model(x, keras.layers.Reshape((1, 1, 3))(one)), "wrap it as"
    if kind == "dict":
        return keras.Model(x, {"a": one, "b": two}), "must have one output"
    return keras.Model(x, [one, two]), "must have one output"


@pytest.mark.parametrize("kind", ["list", "dict", "a row", "a map of one pixel"])
def test_one_message_for_outputs_that_are_no_logits(kind):
    model, message = outputs_of(kind)
    for use in (
        lambda: fitted(robust(model, attack()), X, Y),
        lambda: evaluated(robust(model), X, Y),
        lambda: attack().run(model, X, Y),
        lambda: attack()(model, X, Y),
        lambda: lps.WorstOfGroup().run(model, np.stack([X, X], 1), Y),
        lambda: lps.evaluate_robustness(model, (X, Y), verbose=False),
        lambda: lps.sanity_checks(model, PixelBall(), X, Y, radii=[1.0], verbose=False),
    ):
        with pytest.raises(ValueError, match=message):
            use()


def test_a_classifier_without_trainable_weights_is_evaluated_as_in_keras():
    frozen = linear()
    frozen.trainable = False
    before = frozen.get_weights()
    with pytest.warns(UserWarning, match="no trainable weights"):
        fitted(robust(frozen, attack()), X, Y)
    for one, other in zip(frozen.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)


# Losses, metrics, callbacks.


def test_losses_of_one_hot_labels_smooth_them():
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.3)
    found = evaluated(robust(compile_options={"loss": loss}), X, Y)
    logits = linear()(X).numpy()
    logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    expected = -((0.7 * np.eye(3)[Y] + 0.1) * logs).sum(-1).mean()
    assert found["clean_loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    "metrics, names",
    [
        (None, set()),
        ([], set()),
        ("accuracy", {"clean_accuracy"}),
        (keras.metrics.CategoricalAccuracy(name="one_hot"), {"clean_one_hot"}),
    ],
)
def test_metrics_as_keras_takes_them(metrics, names):
    found = evaluated(robust(compile_options={"metrics": metrics}), X, Y)
    assert found.keys() == {"loss", "clean_loss"} | names
    accuracy = (linear()(X).numpy().argmax(-1) == Y).mean()
    for name in names:
        assert found[name] == pytest.approx(accuracy)


def test_metrics_of_one_probability_are_refused():
    for metric in ("binary_accuracy", keras.metrics.AUC()):
        with pytest.raises(ValueError, match="metrics` must be"):
            robust(compile_options={"metrics": [metric]})


@pytest.mark.parametrize(
    "monitor, mode",
    [
        ("val_robust_accuracy", "max"),
        ("val_clean_accuracy", "max"),
        ("val_robust_loss", "min"),
    ],
)
def test_callbacks_know_the_direction_of_every_metric(monitor, mode, tmp_path):
    stopping = keras.callbacks.EarlyStopping(monitor, patience=1)
    best = keras.callbacks.ModelCheckpoint(
        tmp_path / "best.keras", monitor, save_best_only=True
    )
    model = robust(linear(), shift(0.1))
    fitted(model, X, Y, validation_data=(X, Y), callbacks=[stopping, best])
    assert stopping.mode == best.mode == mode


def test_what_comes_too_early_says_what_to_call_first(tmp_path):
    model = lps.RobustClassifier(linear())
    for use in (
        lambda: model.fit(X, Y),
        lambda: model.evaluate(X, Y),
        lambda: model.train_on_batch(X, Y),
    ):
        with pytest.raises(ValueError, match=r"Call `compile\(\)` before"):
            use()
    with pytest.raises(ValueError, match=r"Call `build\(\(None, height"):
        lps.RobustClassifier(Subclassed()).load_weights(tmp_path / "x.weights.h5")


# Evaluations of data without a PairData.


def test_evaluations_take_what_fit_takes(tmp_path):
    pgd = attack(seed=1)
    rows = {}
    for name, data in {
        "arrays": (X, Y),
        "data set": dataset(X, Y),
        "PyDataset": Batches(X, Y),
        "unknown shapes": without_signature(X, Y),
    }.items():
        found = lps.evaluate_robustness(linear(), data, pgd, [0.2, 0.5], verbose=False)
        rows[name] = found.rows
        assert found.data == "unnamed data"
    known = rows["arrays"]
    accuracy = (linear()(X).numpy().argmax(-1) == Y).mean()
    assert known["clean"].accuracy == pytest.approx(accuracy)
    for found in rows.values():
        for name, row in found.items():
            assert row.accuracy == known[name].accuracy
            assert row.loss == pytest.approx(known[name].loss, rel=1e-5)
    few = lps.evaluate_robustness(linear(), (X, Y), limit=5, verbose=False)
    assert few.rows["clean"].n == 5
    with pytest.raises(ValueError, match="reads the data more than once"):
        lps.evaluate_robustness(linear(), generator(X, Y), verbose=False)
    with pytest.raises(ValueError, match="endless"):
        lps.evaluate_robustness(linear(), dataset(X, Y).repeat(), verbose=False)
