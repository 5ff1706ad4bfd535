"""The worst of a group of true perturbations."""

import numpy as np
import pytest

import lps_tf as lps
from tests.perturbations import attack_reference as reference


@pytest.fixture(scope="module")
def classifier():
    return reference.small_classifier()


def test_the_worst_of_a_group_is_found_for_each_image_alone(classifier):
    random = np.random.RandomState(0)
    group = random.uniform(size=(50, 5, 4, 4, 1)).astype(np.float32)
    y = random.randint(4, size=50)
    loss, wrong = np.array(
        [
            [reference.clean(version, label) for version in versions]
            for versions, label in zip(group, y, strict=True)
        ]
    ).transpose(2, 0, 1)
    result = lps.WorstOfGroup().run(classifier, group, y)
    np.testing.assert_array_equal(result.u, [loss.argmax(1)])
    np.testing.assert_allclose(result.loss, [loss.max(1)], rtol=1e-4)
    np.testing.assert_array_equal(result.success, [wrong.any(1)])
    worst = lps.WorstOfGroup()(classifier, group, y)
    np.testing.assert_array_equal(worst, group[np.arange(50), loss.argmax(1)])
    # Defect 5: the original overwrites the largest loss of every example as soon as
    # one of them has a larger one, and so keeps the last such version.
    running = np.full(50, -np.inf)
    for draw in loss.T:
        if (draw > running).any():
            running = draw
    assert (running < 0.99 * result.loss[0]).mean() > 0.5


def test_groups_of_a_segmenter_count_all_pixels():
    random = np.random.RandomState(0)
    group = random.uniform(size=(20, 3, 4, 4, 2)).astype(np.float32)
    y = random.randint(2, size=(20, 4, 4))
    own = np.take_along_axis(group, y[:, None, ..., None], -1)[..., 0]
    loss = (np.log(np.exp(group).sum(-1)) - own).sum((2, 3))
    result = lps.WorstOfGroup().run(lambda x, training=False: x, group, y)
    np.testing.assert_array_equal(result.u, [loss.argmax(1)])
    np.testing.assert_allclose(result.loss, [loss.max(1)], rtol=1e-4)
    assert not result.success.any()
    flipped = np.where(np.arange(20)[:, None, None] < 5, group[:, 1].argmin(-1), y)
    result = lps.WorstOfGroup().run(lambda x, training=False: x, group, flipped)
    np.testing.assert_array_equal(result.success, [np.arange(20) < 5])


def test_errors_of_groups(classifier):
    group, y = np.zeros((6, 3, 4, 4, 1), np.float32), np.zeros(6, int)
    run = lps.WorstOfGroup().run
    with pytest.raises(ValueError, match=r"`group` must have shape \(batch, versions"):
        run(classifier, group[:, 0], y)
    with pytest.raises(ValueError, match=r"`group` must lie in \[0, 1\]"):
        run(classifier, group + 2, y)
    with pytest.raises(ValueError, match="`group` holds NaN"):
        run(classifier, group * np.nan, y)
    with pytest.raises(ValueError, match="must hold floats"):
        run(classifier, group.astype(int), y)
    with pytest.raises(ValueError, match="Labels must be at least 0"):
        run(classifier, group, y - 1)
    with pytest.raises(ValueError, match="Labels must be at least 0 and below 4"):
        run(classifier, group, y + 4)
