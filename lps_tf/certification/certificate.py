"""What certifying images gives."""

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from lps_tf.certification import ellipsoids
from lps_tf.certification.ellipsoids import Sigma

#: The predicted class where it abstains.
ABSTAIN = -1


class Certificate(NamedTuple):
    """What `SmoothedClassifier.certify` returns, one entry an image.

    For a segmenter, the first three are (images, height, width). Whether it is about
    perturbations of the given image alone, or of the clean one behind it too, depends
    on the set: see `SmoothedClassifier`.

    Attributes:
        prediction: Predicted class, int64, -1 where it abstains.
        radius: Certified radius in the standardised latent, 0 where it abstains. Of
            noise with a standard deviation for each dimension, that of the largest
            ball in the certified ellipsoid.
        p_lower: Lower confidence bound on the predicted class's probability. Toward
            a target radius, the probability that belongs to it, 0 where it abstains.
        samples: Number of noise samples spent on the image, (images,).
        alpha: Probability, over the noise, that a certificate is wrong.
        sigma: Standard deviation of the noise, or of each latent dimension.
    """

    prediction: np.ndarray
    radius: np.ndarray
    p_lower: np.ndarray
    samples: np.ndarray
    alpha: float
    sigma: Sigma = 1.0

    @property
    def semi_axes(self) -> np.ndarray:
        """Semi-axes of the certified ellipsoids: radius * sigma / min(sigma).

        (..., latent_dim), or (..., 1) of one sigma: then it is the ball of the radius.
        """
        return ellipsoids.semi_axes(self.radius, self.sigma)

    @property
    def equivalent_radius(self) -> np.ndarray:
        """Radii of the balls with the certified ellipsoids' volumes."""
        return ellipsoids.equivalent_radius(self.radius, self.sigma)

    def contains(self, u: Any) -> np.ndarray:
        """Whether the prediction is certified at a latent of each image.

        Args:
            u: Standardised latents, (images, latent_dim).

        Returns:
            Booleans of the shape of the predictions.
        """
        norms = ellipsoids.norm(tf.convert_to_tensor(u, tf.float32), self.sigma)
        norms = np.reshape(norms, (-1, *[1] * (self.radius.ndim - 1)))
        return (self.prediction != ABSTAIN) & (norms <= self.radius)
