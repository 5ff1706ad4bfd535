"""The page to explore a set: directions, members, answers, and what it refuses."""

import base64
import io
import json
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import lps_tf as lps
from lps_tf.__main__ import main
from lps_tf.plots import page
from lps_tf.plots.members import Members, principal_directions
from tests.plots.linear_set import LinearSet


def linear(dim=5, shape=(6, 4, 1), radius=2.0, scale=0.05):
    rng = np.random.default_rng(0)
    matrix = (
        rng.normal(size=(dim, *shape))
        * scale
        / np.arange(1, dim + 1)[:, None, None, None]
    )
    return LinearSet(matrix.astype(np.float32), radius)


def grey(count=3, shape=(6, 4, 1)):
    return (
        np.random.default_rng(1).uniform(0.4, 0.6, (count, *shape)).astype(np.float32)
    )


def data_of(path):
    text = path.read_text()
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text)
    return json.loads(found[1])


def tiles_of(data, number):
    """The tiles of an image's sprite, (tiles, height, width, channels), in [0, 1]."""
    content = base64.b64decode(data["sets"][number]["sprite"])
    sprite = np.asarray(Image.open(io.BytesIO(content))) / 255
    height, width = data["height"], data["width"]
    grid = sprite.reshape(
        -1, height, data["columns"], width, sprite.size // np.prod(sprite.shape[:2])
    )
    return grid.transpose(0, 2, 1, 3, 4).reshape(-1, height, width, grid.shape[-1])


# Directions.


def test_directions_of_a_linear_set_are_numpys_singular_vectors():
    pset = linear()
    found = principal_directions(pset, grey(), pset.radius, 4)
    jacobian = np.float64(pset.matrix).reshape(5, -1).T  # (pixels, latent_dim)
    _, values, vectors = np.linalg.svd(jacobian, full_matrices=False)
    np.testing.assert_allclose(
        found.effects, values[:4] / np.sqrt(len(jacobian)), rtol=1e-4
    )
    agree = np.abs((found.vectors * vectors[:4]).sum(1))
    np.testing.assert_allclose(agree, 1, atol=1e-4)
    largest = np.abs(found.vectors).argmax(1)
    assert (found.vectors[np.arange(4), largest] > 0).all()


def test_directions_are_those_of_the_exact_jacobian(tiny_set, images):
    found = principal_directions(tiny_set, images, tiny_set.radius, 3)
    conditioned = tiny_set.condition(images)
    columns = []
    for axis in np.eye(4, dtype=np.float32):
        u, along = tf.zeros((len(images), 4)), np.tile(axis, (len(images), 1))
        with tf.autodiff.ForwardAccumulator(u, tf.constant(along)) as forward:
            decoded = tiny_set.decode(conditioned, u)
        columns.append(forward.jvp(decoded).numpy().astype(np.float64).ravel())
    jacobian = np.stack(columns, 1)  # (pixels of all images, latent_dim)
    _, values, vectors = np.linalg.svd(jacobian, full_matrices=False)
    # The warp is piecewise smooth: a difference and a derivative are not quite equal.
    np.testing.assert_allclose(
        found.effects,
        values[:3] / np.sqrt(len(jacobian)),
        rtol=0.02,
    )
    np.testing.assert_allclose(
        np.abs((found.vectors * vectors[:3]).sum(1)), 1, atol=0.02
    )


def test_directions_turn_with_the_latent():
    pset = linear()
    turn = np.linalg.qr(np.random.default_rng(2).normal(size=(5, 5)))[0]
    turned = LinearSet(np.tensordot(turn, pset.matrix.numpy(), 1), pset.radius)
    one = principal_directions(pset, grey(), 2.0, 3)
    other = principal_directions(turned, grey(), 2.0, 3)
    np.testing.assert_allclose(one.effects, other.effects, rtol=1e-4)
    back = other.vectors @ turn
    np.testing.assert_allclose(np.abs((back * one.vectors).sum(1)), 1, atol=1e-4)


def test_members_are_what_perturb_gives_however_many(tiny_set, images):
    u = np.random.default_rng(0).normal(size=(150, 4)).astype(np.float32)
    expected = tiny_set.perturb(np.repeat(images[:1], 150, 0), u)
    np.testing.assert_allclose(Members(tiny_set, images[0])(u), expected, atol=1e-5)


# What the page holds.


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    pset = linear()
    path = tmp_path_factory.mktemp("page") / "page.html"
    assert lps.plots.explorer(pset, grey(), path, directions=4, verbose=False) == path
    return pset, path


def test_every_tile_is_the_member_at_its_place(written):
    pset, path = written
    data = data_of(path)
    vectors = principal_directions(pset, grey(), pset.radius, 4).vectors
    values = np.linspace(-2, 2, 15)
    np.testing.assert_allclose(data["values"], values, atol=1e-4)
    for number, image in enumerate(grey()):
        tiles = tiles_of(data, number)
        np.testing.assert_allclose(tiles[0], image, atol=0.6 / 255)
        inside = 0
        for i in range(15):
            for j in range(15):
                tile = data["grid"][i][j]
                norm = np.hypot(values[i], values[j])
                assert (tile >= 0) == (norm <= 2 + 1e-9)
                if tile >= 0:
                    u = values[i] * vectors[0] + values[j] * vectors[1]
                    expected = image + np.tensordot(u, pset.matrix, 1)
                    np.testing.assert_allclose(
                        tiles[1 + tile], expected, atol=0.6 / 255
                    )
                    inside += 1
        assert inside == data["members"]
        for k in (2, 3):
            for step, value in enumerate(np.delete(values, 7)):
                tile = 1 + inside + (k - 2) * 14 + step
                expected = image + np.tensordot(value * vectors[k], pset.matrix, 1)
                np.testing.assert_allclose(tiles[tile], expected, atol=0.6 / 255)


def test_a_page_needs_nothing_else(written):
    text = written[1].read_text()
    assert "default-src 'none'" in text
    addresses = set(re.findall(r"https?://[^\s\"'<>]+", text))
    assert addresses == {"http://www.w3.org/2000/svg"}  # a name, which nobody fetches
    assert not re.search(r"""(src|href)=["'](?!data:)""", text)


def test_a_heading_and_names_are_escaped(tmp_path):
    path = lps.plots.explorer(
        linear(), grey(1), tmp_path / "a.html", title="</title><b>&", verbose=False
    )
    assert "<title>&lt;/title&gt;&lt;b&gt;&amp;</title>" in path.read_text()


@pytest.mark.slow
def test_answers_are_the_classifiers(tmp_path):
    pset, images = linear(), grey(2)
    model = keras.Sequential(
        [keras.Input((6, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(3)]
    )
    # Sensitive enough to change its answer within the ball, whatever the image.
    weights = np.random.default_rng(3).normal(size=(24, 3)).astype(np.float32)
    model.set_weights([weights, -images.reshape(2, -1).mean(0) @ weights])
    path = lps.plots.explorer(
        pset,
        images,
        tmp_path / "a.html",
        classifier=model,
        labels=[0, 2],
        class_names=("cat", "</script>", "dog"),
        verbose=False,
    )
    data = data_of(path)
    vectors = principal_directions(pset, images, 2.0, 5).vectors
    values = np.linspace(-2, 2, 43)  # three cells from one tile to the next
    several = set()
    for image, facts in zip(images, data["sets"], strict=True):
        cells = np.reshape(facts["cells"], (43, 43))
        for i, j in np.ndindex(43, 43):
            if np.hypot(values[i], values[j]) <= 2:
                u = values[i] * vectors[0] + values[j] * vectors[1]
                member = image + np.tensordot(u, pset.matrix, 1)
                logits = (
                    member.ravel() @ model.get_weights()[0] + model.get_weights()[1]
                )
                best, second = np.sort(logits)[::-1][:2]
                assert cells[i, j] == logits.argmax() or best - second < 1e-3
        assert cells[0, 0] == -1
        several |= set(facts["answers"])
        worst = facts["worst"]
        assert np.hypot(*worst["at"]) ** 2 + worst["off"] ** 2 == pytest.approx(
            worst["norm"] ** 2, abs=1e-6
        )
        assert worst["norm"] <= 2 + 1e-4
        assert facts["misclassified"] and worst["answer"] != facts["label"]
    assert [s["label"] for s in data["sets"]] == [0, 2]
    assert len(several) > 1
    assert set(data["classes"].values()) <= {"cat", "</script>", "dog"}


@pytest.mark.slow
def test_a_smoothed_classifier_has_its_certificate_drawn(
    tiny_set, tiny_classifier, images, tmp_path
):
    smoothed = lps.SmoothedClassifier(tiny_classifier, tiny_set, 0.3)
    x = images[:2]
    path = lps.plots.explorer(
        tiny_set,
        x,
        tmp_path / "a.html",
        classifier=smoothed,
        pairs=(images, images[::-1]),
        verbose=False,
    )
    data = data_of(path)
    certificate = smoothed.certify(x, 100, 1000, 1e-3, verbose=False)
    for i, facts in enumerate(data["sets"]):
        assert facts["certified"] == [
            certificate.prediction[i],
            pytest.approx(certificate.radius[i]),
        ]
        centre = facts["answers"][data["grid"][7][7]]
        assert centre == facts["cells"][7 * 15 + 7]
        if facts["certified"][0] >= 0:
            assert centre == facts["certified"][0]
    assert data["judged"]["sigma"] == 0.3
    vectors = principal_directions(tiny_set, x, 2.0, 2).vectors
    at = tiny_set.encode(images, images[::-1]).numpy() @ vectors.T
    found = np.array(data["points"])
    assert sorted(found[:, 2]) == [-1, -1, -1, -1, 0, 1]
    for number in (0, 1):  # also those of the chosen images are found
        np.testing.assert_allclose(
            found[found[:, 2] == number, :2][0], at[number], atol=1e-3
        )
    other = lps.SmoothedClassifier(tiny_classifier, linear(4, (12, 12, 1)), 0.3)
    with pytest.raises(ValueError, match="SmoothedClassifier of another set"):
        lps.plots.explorer(
            tiny_set, x, tmp_path / "b.html", classifier=other, verbose=False
        )


# Its size.


def test_noisy_images_get_a_coarser_grid_and_a_page_below_the_limit(tmp_path):
    shape = (80, 80, 3)
    noise = np.random.default_rng(0).normal(size=(2, *shape)) * 0.05
    pset = LinearSet(noise, 1.0)
    images = np.random.default_rng(1).uniform(size=(3, *shape)).astype(np.float32)
    path = lps.plots.explorer(pset, images[:1], tmp_path / "a.html", verbose=False)
    data = data_of(path)
    # Noise cannot be compressed: a size more, and it would not have had room.
    finer = page.SIZES[page.SIZES.index(len(data["values"])) - 1]
    members = page._Layout.of(finer, 1.0, 2).plane
    assert len(data["values"]) < 15
    assert path.stat().st_size < page.LARGEST_PAGE
    assert 0.96 * np.prod(shape) * len(members) * 4 / 3 > page.LARGEST_PAGE - 300_000
    with pytest.raises(ValueError, match=r"show fewer images.*\(24, 80, 80, 3\)"):
        lps.plots.explorer(
            pset, np.repeat(images, 8, 0), tmp_path / "b.html", verbose=False
        )
    assert not (tmp_path / "b.html").exists()


# What it refuses.

REFUSED = {
    "no image": ({"images": grey(0)}, "`images` is empty"),
    "25 images": ({"images": grey(25)}, "at most 24 images with 1 or 3 channels"),
    "two channels": ({"images": grey(1, (6, 4, 2))}, "with 1 or 3 channels"),
    "one direction": ({"directions": 1}, "`directions` must be .* 2"),
    "one dimension": ({"pset": linear(1)}, "at least two latent dimensions"),
    "no radius": ({"pset": linear(radius=None)}, "no radius yet"),
    "a radius of 0": ({"radius": 0}, "`radius` must be positive"),
    "pairs": ({"pairs": (grey(), grey())}, "a set of type LinearSet"),
    "a segmenter": (
        {"classifier": lambda x, training=False: tf.ones((1, 6, 4, 3))},
        "one class an image",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_named(case, tmp_path):
    changes, message = REFUSED[case]
    arguments = {"pset": linear(), "images": grey(), "verbose": False, **changes}
    with pytest.raises(ValueError, match=message):
        lps.plots.explorer(
            arguments.pop("pset"),
            arguments.pop("images"),
            tmp_path / "a.html",
            **arguments,
        )
    assert not (tmp_path / "a.html").exists()


# The command.


def test_images_are_chosen_of_each_class_in_turn():
    digits = lps.datasets.mnist5k_rts(batch_size=32, num_samples=2, group_size=3)
    images, labels = page.chosen_images(digits, 12)
    assert len(images) == 12 and set(labels[:10]) == set(range(10))
    test = next(digits.test.unbatch().batch(500).as_numpy_iterator())
    for image, label in zip(images, labels, strict=True):
        first = [x for x, y in zip(*test, strict=True) if y == label][:2]
        assert any(np.array_equal(image, x) for x in first)
    assert len(page.chosen_images(digits)[0]) == 12
    with pytest.raises(ValueError, match="`images` must be"):
        page.chosen_images(digits, 0)


@pytest.mark.slow
def test_the_command_writes_a_page(tmp_path, capsys):
    pset = lps.PerturbationSet.from_network(
        "mnist_stn", latent_dim=3, transformers=1, localisation=(8, 4)
    )
    pset.build((None, 42, 42, 1))
    pset.save(tmp_path / "set.keras")
    output = tmp_path / "pages" / "page.html"
    command = [
        "explore",
        str(tmp_path / "set.keras"),
        "--data",
        "mnist5k_rts",
        "--output",
        str(output),
    ]
    assert main(command) == 2
    assert "no radius yet" in capsys.readouterr().err
    command += ["--radius", "1.5", "--images", "3", "--option", "num_samples=1"]
    assert main([*command, "--sigma", "1"]) == 2
    assert "pass --classifier too" in capsys.readouterr().err
    classifier = lps.networks.classifiers.small_cnn((42, 42, 1), 10, (4,), 8)
    classifier.save(tmp_path / "classifier.keras")
    assert main([*command, "--classifier", str(tmp_path / "classifier.keras")]) == 0
    assert f"wrote {output}" in capsys.readouterr().out
    data = data_of(output)
    assert len(data["sets"]) == 3 and data["radius"] == 1.5
    assert len(data["points"]) > 3 and {p[2] for p in data["points"]} >= {0, 1, 2}
    assert "MNIST, 5,000 images" in output.read_text()
