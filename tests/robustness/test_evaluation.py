import itertools
import json

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
from sklearn.metrics import jaccard_score

import lps_tf as lps
from lps_tf.datasets.base import PairData
from lps_tf.robustness import evaluate_robustness
from lps_tf.robustness.report import wilson_interval
from lps_tf.robustness.scores import mean_iou
from lps_tf.sets.protocol import Conditioned

CLASSES = 3


@keras.saving.register_keras_serializable("tests")
class Pixels(keras.layers.Layer):
    """Answers what the image itself says: its channels are the classes' logits.

    Of images of one pixel it is a classifier, of others a segmenter.
    """

    def __init__(self, segments=False, scale=10.0):
        super().__init__()
        self.segments = segments
        self.scale = self.add_weight(shape=(), initializer="ones")
        self.scale.assign(scale)

    def call(self, x, training=False):
        return self.scale * (x if self.segments else x[:, 0, 0])


def data_of(x, y, groups=None, batch=2, **kwargs):
    """Test data of arrays: images, labels and, by name, groups (n, draws, h, w, c)."""
    pairs = ("train_pairs", "val_pairs", "test_pairs")
    none = dict.fromkeys((*pairs, "train", "val", "train_perturbed", "test_groups"))
    dataset = tf.data.Dataset.from_tensor_slices
    groups = {k: dataset((v, y)).batch(batch) for k, v in (groups or {}).items()}
    test = dataset((x, y)).batch(batch)
    none |= {"name": "made by hand", "image_shape": x.shape[1:], "num_classes": CLASSES}
    return PairData(**{**none, "test": test, **groups, **kwargs})


def says(*answers):
    """Images of one pixel, each of which is a list of logits / 10."""
    return np.array(answers, np.float32).reshape(len(answers), 1, 1, CLASSES)


def evaluate(*args, **kwargs):
    return evaluate_robustness(*args, verbose=False, **kwargs)


# Three versions of four images of class 0. The last version is right everywhere: to
# look only at it, as the original does in effect, would give 100%.
RIGHT, WRONG, BARELY = (1.0, 0, 0), (0, 1.0, 0), (0.5, 0.45, 0)
GROUPS = np.stack(
    [
        says(RIGHT, WRONG, RIGHT, RIGHT),
        says(RIGHT, RIGHT, RIGHT, WRONG),
        says(RIGHT, RIGHT, BARELY, RIGHT),
    ],
    1,
)
LABELS = np.zeros(4, np.int64)


def test_accuracies_of_groups_are_those_worked_out_by_hand():
    data = data_of(
        says(RIGHT, RIGHT, RIGHT, WRONG),
        LABELS,
        {"test_groups": GROUPS, "unseen_groups": GROUPS[:, :2]},
        perturbations=("fog", "snow", "rain"),
    )
    report = evaluate(Pixels(), data)
    assert {name: row.accuracy for name, row in report.rows.items()} == {
        "clean": 0.75,
        "perturbed/fog": 0.75,
        "perturbed/snow": 0.75,
        "perturbed/rain": 1.0,
        "perturbed/mean": pytest.approx(2.5 / 3),
        "perturbed/worst": 0.5,
        "unseen/draw 1": 0.75,
        "unseen/draw 2": 0.75,
        "unseen/mean": 0.75,
        "unseen/worst": 0.5,
    }
    np.testing.assert_array_equal(report.correct["perturbed/worst"], [1, 0, 1, 0])
    assert {row.n for row in report.rows.values()} == {4}
    assert {row.mean_iou for row in report.rows.values()} == {None}


def test_worst_loss_of_a_group_is_the_largest_of_each_image():
    # Defect 5: the original overwrites the running maximum for every image.
    data = data_of(GROUPS[:, 0], LABELS, {"test_groups": GROUPS})
    report = evaluate(Pixels(), data)
    probability = scipy.special.softmax(10 * GROUPS[:, :, 0, 0].astype(float), -1)
    loss = -np.log(probability[..., 0])
    assert report.rows["perturbed/worst"].loss == pytest.approx(loss.max(1).mean())
    assert report.rows["perturbed/mean"].loss == pytest.approx(loss.mean())
    # The defect gives every image the loss of one and the same version.
    assert abs(loss.max(1).mean() - loss.mean(0)).min() > 0.1


def test_a_wrong_version_counts_though_a_right_one_has_a_larger_loss():
    # Right at a probability of 0.34, wrong at one of 0.5.
    unsure, mistaken = (0.102, 0.1, 0.1), (0.5, 0.5001, 0.0)
    group = np.stack([says(unsure), says(mistaken)], 1)
    data = data_of(group[:, 0], np.zeros(1, int), {"test_groups": group})
    report = evaluate(Pixels(), data)
    rows = report.rows
    assert rows["perturbed/draw 1"].accuracy == 1
    assert rows["perturbed/draw 1"].loss > rows["perturbed/draw 2"].loss
    assert rows["perturbed/worst"].accuracy == 0


@pytest.fixture(scope="module")
def maps():
    """Groups of label maps with an answer each: (n, draws, h, w, c) and (n, h, w)."""
    random = np.random.RandomState(0)
    y = random.choice(3, size=(5, 4, 6), p=[0.7, 0.2, 0.1])
    logits = 0.4 * random.rand(5, 3, 4, 6, 3) + 0.3 * np.eye(3)[y][:, None]
    return logits.astype(np.float32), y


def test_iou_is_that_of_scikit_learn_over_the_whole_data_set(maps):
    # Defect 6: the original takes bitwise "and" and "or" of class numbers.
    group, y = maps
    data = data_of(group[:, 0], y, {"test_groups": group})
    rows = evaluate(Pixels(segments=True), data).rows
    answers = group.argmax(-1)
    expected = [
        jaccard_score(y.ravel(), answers[:, i].ravel(), average="macro")
        for i in range(3)
    ]
    assert rows["clean"].mean_iou == pytest.approx(expected[0])
    for i in range(3):
        assert rows[f"perturbed/draw {i + 1}"].mean_iou == pytest.approx(expected[i])
    assert rows["perturbed/mean"].mean_iou == pytest.approx(np.mean(expected))
    assert rows["clean"].accuracy == pytest.approx((answers[:, 0] == y).mean())
    bitwise = (y & answers[:, 0]).sum() / (y | answers[:, 0]).sum()
    per_batch = [
        jaccard_score(
            y[i : i + 2].ravel(), answers[i : i + 2, 0].ravel(), average="macro"
        )
        for i in (0, 2, 4)
    ]
    for wrong in (bitwise, np.mean(per_batch)):
        assert abs(wrong - expected[0]) > 1e-3


def test_of_a_segmenter_the_version_of_largest_loss_counts(maps):
    group, y = maps
    data = data_of(group[:, 0], y, {"test_groups": group})
    row = evaluate(Pixels(segments=True), data).rows["perturbed/worst"]
    probability = scipy.special.softmax(10 * group.astype(float), -1)
    label = np.broadcast_to(y[:, None, ..., None], (*group.shape[:-1], 1))
    loss = -np.log(np.take_along_axis(probability, label, -1)).mean((2, 3, 4))
    chosen = loss.argmax(1)
    assert len(set(chosen)) > 1  # not one and the same version for all
    answers = group.argmax(-1)[np.arange(5), chosen]
    assert row.loss == pytest.approx(loss.max(1).mean(), rel=1e-5)
    assert row.accuracy == pytest.approx((answers == y).mean())
    iou = jaccard_score(y.ravel(), answers.ravel(), average="macro")
    assert row.mean_iou == pytest.approx(iou)


def test_classes_in_neither_label_nor_answer_are_left_out_of_the_iou():
    # Class 0: 2 right of 3; class 2: 1 of 2; class 1 is in neither.
    confusion = np.array([[2, 0, 1], [0, 0, 0], [0, 0, 1]])
    assert mean_iou(confusion) == pytest.approx((2 / 3 + 1 / 2) / 2)
    # Only answered, it counts with 0.
    assert mean_iou(np.array([[2, 1], [0, 0]])) == pytest.approx((2 / 3 + 0) / 2)


@pytest.mark.slow
def test_accuracy_under_attack_is_that_of_the_attack(
    tiny_set, tiny_classifier, images, labels
):
    data = data_of(images, labels, batch=4)
    attack = lps.LatentPGD(tiny_set, radius=2.0, steps=5)
    report = evaluate(tiny_classifier, data, attack, radii=[2.0, 0.5])
    result = attack.run(tiny_classifier, images, labels, radii=[0.5, 2.0])
    for i, radius in enumerate((0.5, 2)):
        row = report.rows[f"attack/{radius:g}"]
        assert row.accuracy == pytest.approx(1 - result.success[i].mean())
        assert row.loss == pytest.approx(result.loss[i].mean(), rel=1e-4)
    one = evaluate(tiny_classifier, data, attack)
    assert list(one.rows) == ["clean", "attack/2"]


class Shifts:
    """A set whose latents are added to the channels of every pixel."""

    def condition(self, x):
        zeros = tf.zeros((tf.shape(x)[0], CLASSES))
        return Conditioned(zeros, zeros + 1, x)

    def decode(self, conditioned, u):
        return tf.clip_by_value(conditioned.features + u[:, None, None], 0, 1)

    def digest(self):
        return "shifts"


def test_segmenters_are_scored_at_the_worst_of_what_the_attack_found():
    x = np.zeros((3, 1, 4, CLASSES), np.float32)
    x[0, 0, :, 0] = 0.5, 0.5, 0.7, 0.9
    x[1, 0, :, 1] = 0.5
    x[2, 0, :, 0] = 0.5
    y = np.array([[[0, 0, 0, 0]], [[1, 1, 1, 1]], [[2, 2, 0, 0]]])
    u = np.zeros((2, 3, CLASSES), np.float32)
    u[0, 0, 1] = 0.6  # two of four pixels turn wrong
    u[1, 0, 1] = 1.0  # all do
    u[:, 1, 0] = 0.4  # stays right
    u[:, 2, 2] = 0.9  # two turn right, two wrong; the loss is less than without

    class Finds:
        """Stands in for an attack that has found these latents."""

        perturbation_set, radius = Shifts(), 1.0

        def stream(self, classifier, batches, radii, ignore_class=None):
            for index, *_ in batches:
                at = u[:, index]
                yield index, lps.AttackResult(at[..., 0], at[..., 0] > 9, at)

    data = data_of(x, y)
    rows = evaluate(Pixels(segments=True), data, Finds(), [0.5, 1.0]).rows
    # Right pixels of each image. Without a perturbation, the last one is worse.
    assert rows["clean"].accuracy == pytest.approx((4 + 4 + 2) / 12)
    assert rows["attack/0.5"].accuracy == pytest.approx((2 + 4 + 2) / 12)
    assert rows["attack/1"].accuracy == pytest.approx((0 + 4 + 2) / 12)
    answers = [1, 1, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0], [1] * 8 + [0] * 4
    for name, answer in zip(("attack/0.5", "attack/1"), answers, strict=True):
        expected = jaccard_score(y.ravel(), answer, average="macro")
        assert rows[name].mean_iou == pytest.approx(expected)


# An evaluation that stops half-way and is called again.


class Remembers:
    """Stands in for an attack; remembers what it is given, and may break off.

    As real ones do, it reads ahead: three batches are taken in before the first one's
    result comes out.
    """

    perturbation_set = Shifts()

    def __init__(self, radius=1.0, breaks_at=None):
        self.radius = radius
        self._breaks_at, self._seen = [breaks_at], []

    def stream(self, classifier, batches, radii, ignore_class=None):
        ready = iter(batches)
        waiting = list(itertools.islice(ready, 3))
        while waiting:
            index, x, _ = waiting.pop(0)
            if self._breaks_at[0] in index:
                raise KeyboardInterrupt
            self._seen.extend(index)
            waiting += itertools.islice(ready, 1)
            loss = np.outer(radii, index + np.mean(x, (1, 2, 3))).astype(np.float32)
            u = np.zeros((*loss.shape, CLASSES), np.float32)
            yield index, lps.AttackResult(loss, loss > 4, u)

    @property
    def seen(self):
        return [int(i) for i in self._seen]


@pytest.fixture
def longer():
    random = np.random.RandomState(0)
    x = random.rand(11, 1, 1, 3).astype(np.float32)
    groups = {"test_groups": random.rand(11, 2, 1, 1, 3).astype(np.float32)}
    return x, np.arange(11) % 3, groups


def same(one, other):
    assert one.to_json() == other.to_json()
    for name, right in one.correct.items():
        np.testing.assert_array_equal(right, other.correct[name])


def test_work_goes_on_where_it_stopped(longer, tmp_path):
    data = data_of(*longer)
    whole = evaluate(Pixels(), data, Remembers(), [0.5, 1])
    attack = Remembers(breaks_at=6)
    with pytest.raises(KeyboardInterrupt):
        evaluate(Pixels(), data, attack, [0.5, 1], directory=tmp_path)
    assert attack.seen == list(range(6))
    again = Remembers()
    report = evaluate(Pixels(), data, again, [0.5, 1], directory=tmp_path)
    assert again.seen == list(range(6, 11))
    same(report, whole)
    # And once more, all from the folder.
    third = Remembers()
    same(evaluate(Pixels(), data, third, [0.5, 1], directory=tmp_path), whole)
    assert third.seen == []
    # What is lost from the middle, or damaged, is made again, in its place.
    (tmp_path / "attack-00002.npz").unlink()
    damaged = tmp_path / "perturbed-00001.npz"
    damaged.write_bytes(damaged.read_bytes()[:200])
    fourth = Remembers()
    same(evaluate(Pixels(), data, fourth, [0.5, 1], directory=tmp_path), whole)
    assert fourth.seen == [4, 5]


def test_finished_batches_are_not_scored_again(longer, tmp_path):
    class Counts(Pixels):
        calls = 0

        def call(self, x, training=False):
            tf.py_function(self.count, [], [])
            return super().call(x)

        def count(self):
            type(self).calls += 1

    data = data_of(*longer)
    first = evaluate(Counts(), data, directory=tmp_path)
    assert Counts.calls == 6 * (1 + 2)  # six batches, alone and in two versions
    same(evaluate(Counts(), data, directory=tmp_path), first)
    assert Counts.calls == 6 * (1 + 2)


def test_segmenters_go_on_too(maps, tmp_path):
    group, y = maps
    data = data_of(group[:, 0], y, {"test_groups": group})
    whole = evaluate(Pixels(segments=True), data)
    evaluate(Pixels(segments=True), data, directory=tmp_path)
    (tmp_path / "perturbed-00000.npz").unlink()
    same(evaluate(Pixels(segments=True), data, directory=tmp_path), whole)


def test_results_of_other_settings_are_refused(longer, tmp_path):
    x, y, groups = longer
    data = data_of(x, y, groups)

    def run(classifier=None, data=data, attack=None, radii=(0.5,), **kwargs):
        attack = attack or Remembers()
        classifier = classifier or Pixels()
        return evaluate(classifier, data, attack, radii, directory=tmp_path, **kwargs)

    run()
    with pytest.raises(ValueError, match="other settings: classifier is"):
        run(classifier=Pixels(scale=10.001))
    with pytest.raises(ValueError, match=r"attack.radius is 1.0 there, 2.0 here"):
        run(attack=Remembers(radius=2.0))
    with pytest.raises(ValueError, match=r"list of radii is \[0.5\] there"):
        run(radii=(0.5, 0.6))
    with pytest.raises(ValueError, match="limit is None there, 4 here"):
        run(limit=4)
    with pytest.raises(ValueError, match=r"list of radii is .* None here"):
        evaluate(Pixels(), data, directory=tmp_path)
    with pytest.raises(ValueError, match=r"data set is .*other"):
        run(data=data_of(x, y, groups, name="other"))
    for other in (
        data_of(x, y, groups, batch=3),
        data_of(x[::-1], y, groups),
        data_of(x, (y + 1) % 3, groups),
    ):
        with pytest.raises(ValueError, match="holds results of other images"):
            run(data=other)
    run()  # and all of it is still there


def test_limit_takes_the_first_images_of_each_data_set(longer):
    x, y, groups = longer
    whole = evaluate(Pixels(), data_of(x, y, groups))
    for limit in (1, 5, 6):
        report = evaluate(Pixels(), data_of(x, y, groups), limit=limit)
        for name, right in report.correct.items():
            np.testing.assert_array_equal(right, whole.correct[name][:limit])
    report = evaluate(Pixels(), data_of(x, y, groups), limit=100)
    assert report.rows["clean"].n == 11


def test_interval_is_wilsons():
    for hits, n in ((0, 5), (3, 7), (990, 1000), (20, 20)):
        expected = scipy.stats.binomtest(hits, n).proportion_ci(method="wilson")
        assert wilson_interval(hits / n, n) == pytest.approx(expected, abs=1e-6)
    # Of numbers between 0 and 1 it covers the mean at least as often as it says.
    random = np.random.RandomState(0)
    intervals = [
        wilson_interval(draw.mean(), 30) for draw in random.beta(4, 1, (2000, 30))
    ]
    low, high = np.transpose(intervals)
    assert ((low <= 0.8) & (high >= 0.8)).mean() > 0.95


def test_report_prints_writes_and_plots(maps, tmp_path):
    group, y = maps
    data = data_of(group[:, 0], y, {"test_groups": group}, name="drawn (stand-in)")
    report = evaluate(Pixels(segments=True), data)
    text = str(report)
    assert "Robustness on drawn (stand-in)" in text
    line = next(
        line for line in text.splitlines() if line.startswith("perturbed/worst")
    )
    row = report.rows["perturbed/worst"]
    assert f"{100 * row.accuracy:.2f}%" in line and f"{row.mean_iou:.3f}" in line
    content = json.loads(report.to_json(tmp_path / "report.json"))
    assert content == json.loads((tmp_path / "report.json").read_text())
    assert content["rows"]["clean"]["n"] == 5
    assert content["data"] == "drawn (stand-in)"
    figure = report.plot(tmp_path)["robustness"]
    assert (tmp_path / "robustness.png").read_bytes().startswith(b"\x89PNG")
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == list(report.rows)
    assert figure.axes[0].get_title() == "drawn (stand-in)"
    assert "mean IoU" not in str(evaluate(Pixels(), data_of(GROUPS[:, 0], LABELS)))


def test_errors(longer):
    x, y, groups = longer
    data = data_of(x, y, groups)
    with pytest.raises(ValueError, match="`limit` must be a whole number"):
        evaluate(Pixels(), data, limit=0)
    with pytest.raises(ValueError, match="`radii` need an `attack`"):
        evaluate(Pixels(), data, radii=[1.0])
    with pytest.raises(ValueError, match="`radii` must be positive"):
        evaluate(Pixels(), data, Remembers(), radii=[0.0])
    with pytest.raises(ValueError, match=r"one version for each name. Received: 2"):
        evaluate(Pixels(), data_of(x, y, groups, perturbations=("fog",)))
    with pytest.raises(ValueError, match="no clean images"):
        evaluate(Pixels(), data_of(x, y, test=data.test.take(0)))
    with pytest.raises(ValueError, match="logits of the 4 classes"):
        evaluate(Pixels(), data_of(x, y, num_classes=4))
    with pytest.raises(ValueError, match="so labels must be integers of this shape"):
        evaluate(Pixels(segments=True), data)
    with pytest.raises(ValueError, match="below 3"):
        evaluate(Pixels(), data_of(x, y + 1))
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
        evaluate(Pixels(), data_of(x * 255, y))
