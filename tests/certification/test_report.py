"""What is reported of certificates, and compared; their mean IoU."""

import json

import numpy as np
import pytest
from scipy.optimize import minimize

from lps_tf import certification
from lps_tf.certification import CertificationReport, Comparison, compare


def report(labels, prediction, radius, data="a", samples=None, **settings):
    """A report of given certificates."""
    labels = np.array(labels)
    samples = np.full(len(labels), 10) if samples is None else np.array(samples)
    settings = {"images": 9, "sigma": 0.5, "alpha": 0.01, "data": data, **settings}
    return CertificationReport(
        settings,
        np.arange(len(labels)),
        labels,
        np.array(prediction),
        np.array(radius, float),
        samples,
    )


def test_the_figures_are_those_of_a_hand_counted_table(tmp_path):
    found = report(
        labels=[0, 0, 1, 1, 2, 2],
        prediction=[0, 0, 1, 0, -1, 2],
        radius=[1.0, 0.5, 0.25, 2.0, 0.0, 0.5],
        samples=[10, 20, 30, 40, 50, 60],
    )
    # Right: the images 0, 1, 2 and 5. Image 3 is wrong and 4 abstains.
    assert found.accuracy == pytest.approx(4 / 6)
    assert found.abstained == pytest.approx(1 / 6)
    assert found.acr == pytest.approx((1.0 + 0.5 + 0.25 + 0.5) / 6)
    assert found.mean_samples == 35
    at = [0, 0.25, 0.26, 0.5, 0.75, 1.0, 1.01, 2.0]
    np.testing.assert_allclose(
        found.certified_accuracy(at) * 6, [4, 4, 3, 3, 1, 1, 0, 0]
    )
    np.testing.assert_allclose(found.radii, np.arange(11) / 10)
    table = str(found)
    assert "6 of 9" in table and "0.6667" in table and "0.1667" in table
    assert table.splitlines()[-1].split() == ["1.000", "0.1667"]
    assert " ".join(found.summary().split()) == (
        "Of 6 images, 66.7% are classified correctly by the smoothed model, and 50.0% "
        "are certain to stay so within latent radius 0.5."
    )
    assert table.startswith("Of 6 images, 66.7% are classified correctly")
    written = json.loads(found.to_json(tmp_path / "report.json"))
    assert written == json.loads((tmp_path / "report.json").read_text())
    assert written["radii"] == list(found.radii)
    np.testing.assert_allclose(
        np.array(written["certified_accuracy"]) * 6, [4, 4, 4, 3, 3, 3, 1, 1, 1, 1, 1]
    )
    assert found.to_dict(radii=[0.5])["certified_accuracy"] == [0.5]
    assert written["average_certified_radius"] == found.acr
    again = CertificationReport.load(tmp_path / "report.json")
    assert str(again) == table and again.settings == found.settings
    np.testing.assert_array_equal(again.radius, found.radius)
    with pytest.raises(ValueError, match="mean IoU needs labels that are maps"):
        found.certified_mean_iou()


def test_a_notebook_shows_what_print_shows():
    found = report([0, 1], [0, 0], [1.0, 0.5])
    rates, curve = found._repr_html_().split("</table>")[:2]
    summary, _, printed = str(found).partition("\n\n")
    assert " ".join(summary.split()) in rates
    printed = printed.splitlines()
    empty = printed.index("")
    assert rates.count("<tr>") == 1 + empty
    assert ">correct, rate of images</td>" in rates and ">0.5000</td>" in rates
    assert curve.count("<tr>") == len(printed) - empty - 1
    for line in printed[empty + 2 :]:
        radius, accuracy = line.split()
        assert f">{radius}</td>" in curve and f">{accuracy}</td>" in curve


def test_nothing_certified_is_a_report_too():
    nothing = report([0, 1], [-1, 0], [0.0, 1.5])
    assert nothing.acr == nothing.accuracy == 0
    assert list(nothing.radii) == [0] and list(nothing.certified_accuracy()) == [0]
    nothing.plot()


def maps(seed=0, images=3, size=4, num_classes=3):
    """Maps of labels, and certificates that are right more often than not."""
    random = np.random.default_rng(seed)
    shape = (images, size, size)
    labels = random.integers(0, num_classes, shape)
    prediction = np.where(random.random(shape) < 0.7, labels, 0)
    prediction = np.where(random.random(shape) < 0.2, -1, prediction)
    radius = np.where(prediction < 0, 0, random.uniform(0, 1, shape))
    return labels, prediction, radius


def mean_iou(labels, prediction, num_classes):
    """By its definition, over the classes that have labels."""
    values = []
    for c in range(num_classes):
        union = ((labels == c) | (prediction == c)).sum()
        if (labels == c).any():
            values.append(((labels == c) & (prediction == c)).sum() / union)
    return np.mean(values)


def test_the_mean_iou_is_the_plain_one_where_all_is_certified():
    labels, prediction, radius = maps()
    sure = report(labels, np.maximum(prediction, 0), radius + 1)
    expected = mean_iou(labels, np.maximum(prediction, 0), 3)
    np.testing.assert_allclose(sure.certified_mean_iou([0.0, 1.0]), expected)
    # Classes without labels are not in the mean, and are no place to hide.
    more = report(labels * 2, np.maximum(prediction, 0) * 2, radius + 1)
    np.testing.assert_allclose(more.certified_mean_iou([1.0]), expected)


def test_no_filling_of_uncertified_pixels_is_below_the_certified_mean_iou():
    labels, prediction, radius = maps()
    bound = report(labels, prediction, radius).certified_mean_iou([0.3])[0]
    kept = (prediction >= 0) & (radius >= 0.3)
    random = np.random.default_rng(1)
    fillings = random.integers(0, 3, (2000, *labels.shape))
    # Besides: always a wrong class, and all of them one class.
    wrong = (labels + random.integers(1, 3, (2000, *labels.shape))) % 3
    same = [np.full(labels.shape, c) for c in range(3)]
    values = [
        mean_iou(labels, np.where(kept, prediction, filling), 3)
        for filling in [*fillings, *wrong, *same]
    ]
    assert 0 < bound <= min(values) < 1.3 * bound


@pytest.mark.parametrize("seed", range(5))
def test_the_certified_mean_iou_is_the_least_one_of_all_shares(seed):
    # Against a general optimiser, on classes of very different sizes.
    random = np.random.default_rng(seed)
    counts = random.integers(1, 60, 4) ** 2
    labels = np.repeat(np.arange(4), counts)[None, :, None]
    sure = random.random(labels.shape) < [0.95, 0.5, 0.9, 0.7, 0.99][seed]
    right = random.random(labels.shape) < 0.8
    prediction = np.where(sure, np.where(right, labels, (labels + 1) % 4), -1)
    found = report(labels, prediction, sure).certified_mean_iou([1.0])[0]
    kept = np.array([(sure & right & (labels == c)).sum() for c in range(4)])
    other = np.array([(sure & ~right & (prediction == c)).sum() for c in range(4)])
    free = (~sure).sum()

    def value(extra):
        return (kept / (counts + other + extra * free)).mean()

    best = minimize(
        value,
        np.full(4, 0.25),
        bounds=[(0, 1)] * 4,
        constraints={"type": "eq", "fun": lambda extra: extra.sum() - 1},
        options={"ftol": 1e-14, "maxiter": 1000},
    )
    assert found == pytest.approx(best.fun, rel=1e-5)
    assert found <= best.fun * (1 + 1e-9)


def test_comparison_names_the_best_of_each_radius(tmp_path):
    labels = [0, 1, 2, 0]
    near = report(labels, labels, [0.2, 0.3, 0.4, 0.5])
    far = report(labels, [0, 1, 2, -1], [1.0, 1.0, 0.1, 0.0])
    found = compare({"sigma 0.25": near, "sigma 1": far}, radii=[0, 0.4, 0.5, 1, 2])
    assert found.best == [
        ("sigma 0.25",),
        ("sigma 0.25", "sigma 1"),
        ("sigma 1",),
        ("sigma 1",),
        (),
    ]
    np.testing.assert_allclose(found.accuracy["sigma 0.25"], [1, 0.5, 0.25, 0, 0])
    np.testing.assert_allclose(found.accuracy["sigma 1"], [0.75, 0.5, 0.5, 0.5, 0])
    lines = str(found).splitlines()
    assert lines[2].split("  ")[-1] == "sigma 0.25, sigma 1"
    assert lines[-1].split() == ["ACR", "0.3500", "0.5250"]
    np.testing.assert_allclose(
        compare({"a": near, "b": far}).radii, np.linspace(0, 1, 11)
    )
    drawn = found.plot(tmp_path)["certified"].axes[0].lines
    assert (tmp_path / "certified.png").exists()
    found.to_json(tmp_path / "comparison.json")
    again = Comparison.load(tmp_path / "comparison.json")
    assert again.best == found.best and str(again) == str(found)
    assert [line.get_label() for line in drawn] == ["sigma 0.25", "sigma 1"]
    for line, single in zip(drawn, (near, far), strict=True):
        np.testing.assert_array_equal(
            line.get_ydata(), single.certified_accuracy(line.get_xdata())
        )


def test_lines_differ_in_colour_and_in_style():
    lines = {f"sigma {i}": [1, 0] for i in range(7)}
    drawn = certification.certified_curves([0, 1], lines).axes[0].lines
    assert len({line.get_color() for line in drawn}) == 7
    # The public style of any dash pattern is "--", so that its lengths must tell.
    assert len({str(line._unscaled_dash_pattern) for line in drawn}) == 7


def test_only_reports_of_the_same_images_are_compared():
    one = report([0, 1], [0, 1], [1, 1])
    with pytest.raises(ValueError, match="'b' has other images than 'a'"):
        compare({"a": one, "b": report([0, 1], [0, 1], [1, 1], data="b")})
    with pytest.raises(ValueError, match="'b' has other images than 'a'"):
        compare({"a": one, "b": report([0], [0], [1])})
    with pytest.raises(ValueError, match="nothing to compare"):
        compare({})
