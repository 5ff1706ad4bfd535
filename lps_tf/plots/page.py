"""A page to explore a perturbation set in a browser, with nothing but itself."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from PIL import Image

from lps_tf._internal import checks, files, outputs
from lps_tf._internal.drawing import COLOURS
from lps_tf._internal.progress import progress
from lps_tf._internal.templates import base64_of, environment
from lps_tf._version import __version__
from lps_tf.certification.smoothing import SmoothedClassifier
from lps_tf.datasets import PairData
from lps_tf.perturbations import LatentAPGD
from lps_tf.plots.answers import Answers
from lps_tf.plots.members import Directions, Members, principal_directions
from lps_tf.sets.pairs import Pairs
from lps_tf.sets.perturbation_set import PerturbationSet
from lps_tf.sets.protocol import LatentSet, require_radius

#: The page is to be smaller, in bytes.
LARGEST_PAGE = 3_000_000
#: Sides of the grid over the plane: the first one with which the page is small enough.
SIZES = (15, 13, 11, 9, 7, 5)
#: The most images, pairs that are read, and points that are drawn.
MOST_IMAGES, MOST_PAIRS, MOST_POINTS = 24, 2000, 400

# What there may be beside the sprites, in bytes: maps of 24 images have 250,000.
_REST = 300_000
# Columns of tiles in a sprite.
_COLUMNS = 16


def explorer(
    perturbation_set: LatentSet,
    images: Any,
    path: str | Path,
    *,
    classifier: outputs.Classifier | SmoothedClassifier | None = None,
    labels: Any = None,
    pairs: Any = None,
    class_names: Sequence[str] = (),
    radius: float | None = None,
    directions: int = 6,
    title: str = "A perturbation set",
    seed: int = 0,
    verbose: bool = True,
) -> Path:
    """Writes a page of HTML on which a reader moves through the sets of some images.

    The page needs no network and no other file. It shows members of the set, each one
    decoded here: on the disc in which the ball meets the plane of the two directions
    with the greatest effect, and along each further direction by itself. A browser
    cannot decode, so that only these members are shown, the nearest one, and nothing
    in between.

    The directions are right singular vectors of the Jacobian of perturb(x, u) with
    respect to u at u = 0, over all of the images. The Jacobian, because it has no
    preference for the axes of the latent, as the response at a distance along them
    would have.

    With a classifier, the disc is coloured by its answers, and the worst member that
    `LatentAPGD` finds in the whole ball is shown. Of a `SmoothedClassifier`, answers
    are those of most of 64 noises, the certified radius is drawn as a circle, and the
    attack is one on the classifier without noise.

    The grid over the plane is 15 x 15, or less where the page would come to 3 MB: then
    13 x 13, and so on to 5 x 5. Twelve grey images of 42 x 42 have the full grid.

    Args:
        perturbation_set: Trained set of at least two latent dimensions.
        images: At most 24 images, (count, height, width, 1 or 3).
        path: File to write.
        classifier: Classifier of such images, smoothed or not; None for none.
        labels: Their classes, (count,), which the attack is to move answers away
            from; None takes the classifier's own answers.
        pairs: Pairs whose encoded latents are drawn as points, as `fit` takes them: of
            the first 2,000 those of the images, and others up to 400 in all.
        class_names: Names of the classes; empty for their numbers.
        radius: Radius of the ball; None for the set's own.
        directions: Number of directions, at least 2; fewer where the latent has fewer
            dimensions.
        title: Heading of the page.
        seed: Seed of the attack's starts.
        verbose: Whether to show progress.

    Returns:
        The path.

    Raises:
        ValueError: For more than 24 images or none, images that are neither grey nor
            coloured or too large for a page, a latent of one dimension, a set without
            a radius, a segmenter, or pairs for a set that does not encode them.
    """
    radius = require_radius(perturbation_set, radius)
    images = _checked_images(images)
    # The set is built with the first of them, if it has not seen any.
    perturbation_set.condition(tf.constant(images[:1]))
    count = min(checks.count("directions", directions, 2), perturbation_set.latent_dim)
    if count < 2:
        raise ValueError(
            "`perturbation_set` must have at least two latent dimensions: the page "
            f"shows a plane. Received: latent_dim={perturbation_set.latent_dim}"
        )
    found = principal_directions(perturbation_set, images, radius, count)
    answers = (
        None if classifier is None else Answers(classifier, perturbation_set, images)
    )
    facts = {
        "radius": radius,
        "effects": found.effects.tolist(),
        "latentDim": perturbation_set.latent_dim,
        "points": _points(perturbation_set, images, pairs, found.vectors[:2]),
        "judged": None if answers is None else answers.facts(),
    }
    judged: list[dict] = [{} for _ in images]
    worst: Sequence[np.ndarray | None] = [None] * len(images)
    if answers is not None:
        attack = LatentAPGD(perturbation_set, radius=radius, seed=seed)
        judged, worst = answers.of_images(attack, images, labels)

    scene, sprites = _that_fit(perturbation_set, found, radius, images, worst, verbose)
    for i in progress(range(len(images)), "answers", verbose and answers is not None):
        judged[i]["sprite"] = base64_of(sprites[i])
        judged[i] |= scene.answers(images[i], answers, worst[i])
    page = _render(title, scene.layout, facts, judged, class_names, images.shape)
    return files.write_text(path, page)


def chosen_images(
    data: PairData, number: int | None = None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Test images to explore, and their labels: of each class in turn.

    Args:
        data: Data to choose from; the first 500 test images.
        number: Number of images; None for as many as a page has room for, 2 to 12.

    Returns:
        Images (number, height, width, channels), or fewer where there are no more, and
        classes (number,); None for maps of classes.
    """
    if number is None:
        number = int(np.clip(25_000 // np.prod(data.image_shape), 2, 12))
    number = checks.count("images", number)
    first = data.test.unbatch().batch(500).take(1)
    images, labels = next(first.as_numpy_iterator())
    if labels.ndim > 1:
        return images[:number], None
    # How many of its class come before each image.
    rank = (np.tril(labels[:, None] == labels, -1)).sum(1)
    chosen = np.argsort(rank, kind="stable")[:number]
    return images[chosen], labels[chosen]


def _checked_images(images: Any) -> np.ndarray:
    images = checks.images("images", images).numpy()
    if len(images) > MOST_IMAGES or images.shape[-1] not in (1, 3):
        raise ValueError(
            f"`images` must be at most {MOST_IMAGES} images with 1 or 3 channels. "
            f"Received: images of shape {images.shape}"
        )
    return images


class _Layout(NamedTuple):
    """Which latents are decoded, in coordinates along the directions.

    Attributes:
        size: Side of the grid over the plane, and number of steps along a direction.
        values: Coordinates of the grid, from -radius to radius, (size,).
        plane: Coordinates of the members of the plane, (members, directions).
        sweeps: Those of the members along each further direction but the centre,
            (directions - 2, size - 1, directions).
        cells: The number of each member of the plane by column and row, -1 outside of
            the circle, (size, size).
    """

    size: int
    values: np.ndarray
    plane: np.ndarray
    sweeps: np.ndarray
    cells: np.ndarray

    @classmethod
    def of(cls, size: int, radius: float, count: int) -> "_Layout":
        values = np.linspace(-radius, radius, size)
        across, up = np.meshgrid(values, values, indexing="ij")
        inside = np.hypot(across, up) <= radius * (1 + 1e-6)
        cells = np.where(inside, np.cumsum(inside).reshape(size, size) - 1, -1)
        plane = np.zeros((inside.sum(), count))
        plane[:, 0], plane[:, 1] = across[inside], up[inside]
        off_centre = np.delete(values, size // 2)
        axes = np.eye(count)[2:, None]  # (directions - 2, 1, directions)
        return cls(size, values, plane, off_centre[:, None] * axes, cells)


def _disc(side: int, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Cells of a map of answers that the disc touches, and where to ask for each.

    Returns:
        Booleans (side, side), and coordinates (cells, 2): the middle of a cell or, if
        that is outside, the nearest point of the disc.
    """
    values = np.linspace(-radius, radius, side)
    across, up = np.meshgrid(values, values, indexing="ij")
    distance = np.hypot(across, up)
    touched = distance <= radius * (1 + 1.5 / (side - 1))  # and half a diagonal
    shrink = np.minimum(1, radius / np.maximum(distance, 1e-12))
    return touched, np.stack([across * shrink, up * shrink], -1)[touched]


@dataclass(frozen=True)
class _Scene:
    """What the page shows of each image's set.

    Attributes:
        perturbation_set: Set to decode with.
        vectors: Directions of the coordinates, (directions, latent_dim).
        layout: Which coordinates.
    """

    perturbation_set: LatentSet
    vectors: np.ndarray
    layout: _Layout

    @property
    def u(self) -> np.ndarray:
        """Latents of the members, those of the plane first, (members, latent_dim)."""
        sweeps = self.layout.sweeps.reshape(-1, len(self.vectors))
        return np.concatenate([self.layout.plane, sweeps]) @ self.vectors

    def sprite(self, image: np.ndarray, worst: np.ndarray | None) -> bytes:
        """The image (height, width, channels), the members, and the worst, as a PNG."""
        members = Members(self.perturbation_set, image)
        tiles = [image[None], members(self.u)]
        if worst is not None:
            tiles.append(members(worst[None]))
        return _sprite(np.concatenate(tiles))

    def answers(
        self, image: np.ndarray, answers: "Answers | None", worst: np.ndarray | None
    ) -> dict[str, Any]:
        """The classes of an image's members, and where the worst one is."""
        if answers is None or worst is None:
            return {}
        members = Members(self.perturbation_set, image)
        side = answers.side(self.layout.size)
        touched, middles = _disc(side, self.layout.values[-1])
        cells = np.full((side, side), -1)
        cells[touched] = answers(members, middles @ self.vectors[:2])
        # Each member of the plane is in the middle of a cell.
        every = (side - 1) // (self.layout.size - 1)
        found = cells[::every, ::every][self.layout.cells >= 0]
        sweeps = self.u[len(found) :]
        if len(sweeps):
            found = np.concatenate([found, answers(members, sweeps)])
        along = self.vectors[:2] @ worst
        return {
            "cells": cells.ravel().tolist(),
            "answers": found.tolist(),
            "worst": {
                "at": along.tolist(),
                "norm": float(np.linalg.norm(worst)),
                "off": float(np.linalg.norm(worst - along @ self.vectors[:2])),
                "answer": int(answers.without_noise(members, worst[None])[0]),
            },
        }


def _that_fit(
    perturbation_set: LatentSet,
    found: Directions,
    radius: float,
    images: np.ndarray,
    worst: Sequence[np.ndarray | None],
    verbose: bool,
) -> tuple[_Scene, list[bytes]]:
    """The finest grid whose sprites a page has room for, and they.

    Raises:
        ValueError: If there is none.
    """
    vectors = found.vectors
    for size in SIZES:
        layout = _Layout.of(size, radius, len(vectors))
        scene = _Scene(perturbation_set, vectors, layout)
        sprites: list[bytes] = []
        for i in progress(range(len(images)), f"members, {size} x {size}", verbose):
            sprites.append(scene.sprite(images[i], worst[i]))
            if sum(map(len, sprites)) * 4 // 3 > LARGEST_PAGE - _REST:  # in base64
                break
        else:
            return scene, sprites
    raise ValueError(
        f"The page would have more than {LARGEST_PAGE / 1e6:g} MB: show fewer images, "
        "fewer `directions`, or smaller images. "
        f"Received: images of shape {images.shape}, directions={len(vectors)}"
    )


def _sprite(tiles: np.ndarray) -> bytes:
    """Images in [0, 1] as the tiles of one PNG, row by row."""
    count, height, width, channels = tiles.shape
    rows = -(-count // _COLUMNS)
    tiles = np.pad(tiles, ((0, rows * _COLUMNS - count), (0, 0), (0, 0), (0, 0)))
    grid = tiles.reshape(rows, _COLUMNS, height, width, channels)
    grid = grid.transpose(0, 2, 1, 3, 4).reshape(rows * height, -1, channels)
    pixels = np.rint(grid.clip(0, 1) * 255).astype(np.uint8)
    buffer = io.BytesIO()
    picture = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
    picture.save(buffer, "png", optimize=True)
    return buffer.getvalue()


def _points(
    perturbation_set: LatentSet, images: np.ndarray, pairs: Any, plane: np.ndarray
) -> list[list[float]]:
    """The latents of pairs on the plane, [x, y, number of the image or -1] of each."""
    if pairs is None:
        return []
    if not isinstance(perturbation_set, PerturbationSet):
        raise ValueError(
            "`pairs` need a set that encodes them, a PerturbationSet; leave them out. "
            f"Received: a set of type {type(perturbation_set).__name__}"
        )
    numbers = {image.tobytes(): i for i, image in enumerate(images)}
    points: list[list[float]] = []
    for x, x_perturbed in Pairs(perturbation_set, pairs):
        at = perturbation_set.encode(x, x_perturbed).numpy() @ plane.T
        for (across, up), image in zip(at, x.numpy(), strict=True):
            number = numbers.get(image.tobytes(), -1)
            points.append([round(float(across), 3), round(float(up), 3), number])
        if len(points) >= MOST_PAIRS:
            break
    points.sort(key=lambda point: point[2] < 0)  # those of the images first
    return points[:MOST_POINTS]


def _render(
    title: str,
    layout: _Layout,
    facts: dict[str, Any],
    sets: list[dict],
    class_names: Sequence[str],
    shape: tuple[int, ...],
) -> str:
    """The page."""
    classes = sorted({c for found in sets for c in _classes(found)} - {-1})
    names = {c: str(class_names[c]) if class_names else str(c) for c in classes}
    data = {
        **facts,
        "columns": _COLUMNS,
        "height": shape[1],
        "width": shape[2],
        "values": [round(float(v), 4) for v in layout.values],
        "grid": layout.cells.tolist(),
        "members": len(layout.plane),
        "classes": names,
        "colours": COLOURS[:6],
        "highlights": any(number >= 0 for _, _, number in facts["points"]),
        "sets": sets,
    }
    pages = environment("lps_tf.plots", autoescape=True)
    template = pages.get_template("explorer.html")
    return template.render(title=title, data=data, version=__version__)


def _classes(facts: dict) -> Iterator[int]:
    """Classes of which the page speaks for one image; -1 among them is none."""
    if "worst" in facts:
        yield from (*facts["cells"], *facts["answers"])
        yield from (facts["answer"], facts["worst"]["answer"])
        yield -1 if facts["label"] is None else facts["label"]
        yield facts.get("certified", [-1])[0]
