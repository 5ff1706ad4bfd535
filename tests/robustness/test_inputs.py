"""Labels, images and data of every type and form."""

import numpy as np
import pytest
import tensorflow as tf

import lps_tf as lps
from tests.robustness.pixel_ball import SIZE, linear, pointwise
from tests.robustness.users import (
    FORMS,
    MAPS,
    Batches,
    X,
    Y,
    attack,
    dataset,
    evaluated,
    fitted,
    generator,
    robust,
    shift,
    without_signature,
)

# Keras says so at the end of every generator, of its own models too.
pytestmark = pytest.mark.filterwarnings("ignore:Your input ran out of data")


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


# Evaluations of data without a PairData.


@pytest.mark.slow
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
