"""Many members of one image's set, and the directions in which they differ most."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from lps_tf.sets.protocol import LatentSet, decode_compiled

# Pixels decoded at once, and images at most.
_PIXELS, _IMAGES = 2**18, 128

#: Half the length of the difference that stands for a derivative, in radii.
_STEP = 0.01


class Members:
    """Decodes latents of one image.

    It does so a fixed number at a time, so that nothing is compiled twice.

    Args:
        perturbation_set: Set to decode with.
        image: One image, (height, width, channels).
    """

    def __init__(self, perturbation_set: LatentSet, image: np.ndarray):
        self._set = perturbation_set
        self._batch = max(1, min(_IMAGES, _PIXELS // (image.shape[0] * image.shape[1])))
        self._conditioned = tf.nest.map_structure(
            lambda t: tf.repeat(t, self._batch, 0),
            perturbation_set.condition(image[None]),
        )

    def __call__(self, u: np.ndarray) -> np.ndarray:
        """Images (count, height, width, channels) of latents (count, latent_dim)."""
        images = []
        for start in range(0, len(u), self._batch):
            part = np.asarray(u[start : start + self._batch], np.float32)
            padded = np.pad(part, ((0, self._batch - len(part)), (0, 0)))
            decoded = decode_compiled(self._set, self._conditioned, tf.constant(padded))
            images.append(decoded.numpy()[: len(part)])
        return np.concatenate(images)


class Directions(NamedTuple):
    """Directions of the latent, the one with the greatest effect first.

    Attributes:
        vectors: Orthonormal directions, (count, latent_dim).
        effects: Change of a pixel along a unit of each, at u = 0: the root of the mean
            square over pixels and images, (count,).
    """

    vectors: np.ndarray
    effects: np.ndarray


def principal_directions(
    perturbation_set: LatentSet, images: np.ndarray, radius: float, count: int
) -> Directions:
    """The directions in which the members of the sets of some images change most.

    They are right singular vectors of the Jacobian of perturb(x, u) with respect to u
    at u = 0, the Jacobians of all images stacked: the first one is the direction with
    the greatest mean square of the change, each other one the greatest among those at
    right angles to the ones before. The Jacobian and no response at a distance,
    because a rotation of the latent then rotates the directions, and changes nothing
    else; what lies far from the centre is seen on the page. The sign is such that the
    largest entry of each direction is positive.

    Args:
        perturbation_set: Set to look at.
        images: Images, (count, height, width, channels).
        radius: Radius of the ball: derivatives are differences over 2% of it.
        count: Number of directions, at most the number of latent dimensions.
    """
    dim = perturbation_set.latent_dim
    step = _STEP * radius
    # The squares of singular values, and the vectors, of all rows at once; the rows
    # themselves, one for each pixel of each image, need not be held.
    gram = np.zeros((dim, dim))
    for image in images:
        members = Members(perturbation_set, image)
        ahead, behind = (members(s * step * np.eye(dim)) for s in (1, -1))
        jacobian = (ahead.astype(np.float64) - behind) / (2 * step)
        rows = jacobian.reshape(dim, -1)  # the Jacobian, transposed
        gram += rows @ rows.T / (rows.shape[1] * len(images))
    squares, vectors = np.linalg.eigh(gram)  # ascending, one a column
    vectors = vectors.T[::-1][:count]
    largest = np.abs(vectors).argmax(1)[:, None]
    vectors = vectors * np.sign(np.take_along_axis(vectors, largest, 1))
    return Directions(vectors, np.sqrt(squares[::-1][:count].clip(0)))
