import json

import numpy as np
import pytest
import scipy.stats
from sklearn.metrics import jaccard_score

import lps_tf as lps
from lps_tf.robustness.report import wilson_interval
from lps_tf.robustness.scores import mean_iou
from tests.robustness.by_hand import (
    CLASSES,
    Pixels,
    Remembers,
    Shifts,
    data_of,
    eleven_images,
    evaluate,
    label_maps,
    says,
)

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


@pytest.fixture
def longer():
    return eleven_images()


@pytest.fixture(scope="module")
def maps():
    return label_maps()


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


def test_a_grid_counts_in_the_mean_and_at_its_worst_point_alone():
    data = data_of(GROUPS[:, 0], LABELS, {"test_groups": GROUPS, "grid_groups": GROUPS})
    report = evaluate(Pixels(), data)
    for which in ("mean", "worst"):
        assert report.rows[f"grid/{which}"] == report.rows[f"perturbed/{which}"]
    assert [name for name in report.rows if "grid" in name] == [
        "grid/mean",
        "grid/worst",
    ]
    np.testing.assert_array_equal(report.correct["grid/worst"], [1, 0, 1, 0])


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


def expected_error(probabilities, y):
    """The expected calibration error, bin by bin and prediction by prediction."""
    confidence, answers = probabilities.max(-1).ravel(), probabilities.argmax(-1)
    right, total = (answers == y).ravel(), 0
    for k in range(15):
        inside = (confidence > k / 15) & (confidence <= (k + 1) / 15)
        if inside.any():
            gap = abs(confidence[inside].mean() - right[inside].mean())
            total += gap * inside.mean()
    return total


def test_the_calibration_error_is_that_of_its_definition():
    random = np.random.RandomState(0)
    groups = 0.3 * random.rand(60, 3, 1, 1, CLASSES).astype(np.float32)
    y = random.randint(0, CLASSES, 60)
    data = data_of(groups[:, 0], y, {"test_groups": groups}, batch=7)
    rows = evaluate(Pixels(), data).rows
    probabilities = scipy.special.softmax(10 * groups[:, :, 0, 0].astype(float), -1)
    for name, part in {
        "clean": probabilities[:, 0],
        "perturbed/draw 2": probabilities[:, 1],
        "perturbed/mean": probabilities,
    }.items():
        labels = y if part.ndim == 2 else np.repeat(y[:, None], 3, 1)
        expected = expected_error(part, labels)
        assert rows[name].calibration_error == pytest.approx(expected, rel=1e-5)
    # Of the worst of several predictions only the accuracy is known.
    assert rows["perturbed/worst"].calibration_error is None
    # Always as sure as right has no error, always sure and mostly wrong has much.
    even = np.zeros((60, 1, 1, CLASSES), np.float32)
    y = np.repeat([0, 1, 2], 20)
    assert evaluate(Pixels(), data_of(even, y)).rows["clean"].calibration_error < 1e-6
    sure = evaluate(Pixels(), data_of(says(*[RIGHT] * 60), y)).rows["clean"]
    assert sure.calibration_error == pytest.approx(2 / 3, abs=1e-3)
    assert "0.667" in str(evaluate(Pixels(), data_of(says(*[RIGHT] * 60), y)))


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
    probabilities = scipy.special.softmax(10 * group[:, 0].astype(float), -1)
    expected_of_pixels = expected_error(probabilities, y)
    assert rows["clean"].calibration_error == pytest.approx(expected_of_pixels, 1e-5)
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
                by = np.full(at.shape[:2], "fake")
                yield index, lps.AttackResult(at[..., 0], at[..., 0] > 9, at, by)

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
    clean = report.rows["clean"].accuracy
    assert f"Of 5 images, {clean:.1%} of pixels are classified correctly" in text
    line = next(
        line for line in text.splitlines() if line.startswith("perturbed/worst")
    )
    name, row = "perturbed/worst", report.rows["perturbed/worst"]
    assert f"{100 * row.accuracy:.2f}%" in line and f"{row.mean_iou:.3f}" in line
    table = report._repr_html_()  # the same figures, in a notebook's table
    shown = [name, f"{100 * row.accuracy:.2f}%", f"{row.mean_iou:.3f}", str(row.n)]
    found = next(r for r in table.split("<tr>") if name in r)
    assert all(f">{cell}<" in found for cell in shown) and found.count("<td") == 7
    assert table.split("</tr>")[0].count("<th") == 7
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
