"""An evaluation that stops half-way and is called again."""

import numpy as np
import pytest
import tensorflow as tf

from tests.robustness.by_hand import (
    Pixels,
    Remembers,
    data_of,
    eleven_images,
    evaluate,
    label_maps,
)


@pytest.fixture
def longer():
    return eleven_images()


@pytest.fixture(scope="module")
def maps():
    return label_maps()


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
