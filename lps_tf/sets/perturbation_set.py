"""PerturbationSet: a conditional VAE whose latent ball is a set of perturbations."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf

from lps_tf._internal import checks, files, presets
from lps_tf._internal.describing import described
from lps_tf.sets import calibration, latent
from lps_tf.sets.conditional_vae import ConditionalVAE
from lps_tf.sets.pairs import Pairs
from lps_tf.sets.protocol import (
    Conditioned,
    PerturbsByDecoding,
    decode_compiled,
    require_radius,
)


@keras.saving.register_keras_serializable("lps_tf")
class PerturbationSet(ConditionalVAE, PerturbsByDecoding):
    """A perturbation set learned from pairs (x, x_perturbed); paper, sections 1 to 3.

    The set of an image x is S(x) = {perturb(x, u) : ||u|| <= radius}, where u is the
    standardised latent (z - prior mean) / prior standard deviation, one flat vector
    for each example. `fit` learns the networks from pairs, `calibrate` the radius.

    Training minimises, summed over pixels, latents and the batch,

        reconstruction(x_perturbed; z) + beta * KL(posterior || prior),

    with one sample z of the posterior. The reconstruction is the binary
    cross-entropy (Bernoulli), or the plain sum of squared errors without 1/2 and
    constant (Gaussian): the scale to which the paper's beta and learning rates
    belong. The optimal Gaussian needs no beta but 1. The metrics loss,
    reconstruction and kl are means over examples; validation uses the final beta.

    Images are float batches (batch, height, width, channels) in [0, 1].

    Example:
        pset = PerturbationSet.from_network("mnist_stn")
        pset.compile(keras.optimizers.Adam(1e-3), beta=1.0)
        pset.fit(data.train_pairs, validation_data=data.val_pairs, epochs=20)
        pset.calibrate(data.val_pairs, quantile=0.99)

    Args:
        prior: Layer or model of images that returns (mean, log-variance), each
            (batch, latent_dim).
        recognition: Layer or model that returns the same for x and x_perturbed
            concatenated on channels.
        generator: Layer with `condition(x, training)` and
            `decode(features, z, training)`.
        likelihood: Name of the likelihood: "bernoulli", "gaussian" or
            "optimal_gaussian"; see `lps_tf.likelihoods`.
        seed: Seed of all that is random and is given no seed of its own.
        radius: Radius of the ball; usually left to `calibrate`.
        calibration: Statistics that `calibrate` keeps; restored on loading.
        **kwargs: Arguments of `keras.Model`.

    Raises:
        ValueError: If the likelihood is unknown, the generator lacks a method, or the
            radius is not positive.
    """

    def __init__(
        self,
        prior: keras.layers.Layer,
        recognition: keras.layers.Layer,
        generator: keras.layers.Layer,
        likelihood: str = "gaussian",
        seed: int = 0,
        radius: float | None = None,
        calibration: dict | None = None,
        **kwargs: Any,
    ):
        super().__init__(prior, recognition, generator, likelihood, seed, **kwargs)
        self._radius = self.add_weight(
            name="radius",
            shape=(),
            initializer="zeros",
            trainable=False,
            autocast=False,
        )
        self.calibration = calibration
        if radius is not None:
            self.radius = radius

    def __repr__(self) -> str:
        sizes = {"latent_dim": self.latent_dim} if self.built else {}
        return described(self, self.name, **sizes, radius=self.radius)

    # The radius belongs to the learned set and is saved with its weights. Zero is
    # the weight's value before calibration, None the user's.

    @property
    def radius(self) -> float | None:
        """Radius of the latent ball, None before `calibrate`."""
        with tf.init_scope():
            value = float(self._radius.numpy())
        return value or None

    @radius.setter
    def radius(self, value: float) -> None:
        self._radius.assign(checks.positive("radius", value))

    def require_radius(self, radius: float | None = None) -> float:
        """The given radius, checked, or else the set's own.

        Raises:
            ValueError: If neither is there, or the given one is not positive.
        """
        return require_radius(self, radius)

    def encode(self, x: tf.Tensor, x_perturbed: tf.Tensor) -> tf.Tensor:
        """Standardised latent of a pair: its posterior's mean, (batch, latent_dim)."""
        prior = self.prior(x).distribution
        return (self.posterior(x, x_perturbed).mean() - prior.loc) / prior.scale

    def condition(self, x: tf.Tensor) -> Conditioned:
        """Everything that depends on x alone; do it once, `decode` many times."""
        x = self.checked_images("x", x)
        prior = self.prior(x).distribution
        return Conditioned(
            prior.loc, prior.scale, self.generator.condition(x, training=False)
        )

    def decode(self, conditioned: Conditioned, u: tf.Tensor) -> tf.Tensor:
        """g(x, u): images for standardised latents (batch, latent_dim).

        Plain operations; `lps_tf.sets.protocol.decode_compiled` runs them under XLA.
        """
        z = conditioned.mean + conditioned.std * u
        image = self.generator.decode(conditioned.features, z, training=False)
        return tf.cast(image, tf.float32)

    def digest(self) -> str:
        """A hash of what `perturb` depends on, which the radius is not."""
        return files.digest(
            *self.prior_network.get_weights(), *self.generator.get_weights()
        )

    def call(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        """The centre of each set: perturb(x, 0)."""
        prior = self.prior(x, training=training)
        features = self.generator.condition(tf.cast(x, tf.float32), training=training)
        return self.generator.decode(features, prior.mean(), training=training)

    def sample(
        self,
        x: tf.Tensor,
        num_samples: int | None = None,
        radius: float | None = None,
        seed: int | None = None,
    ) -> tf.Tensor:
        """Random members of S(x): u from N(0, I) exactly truncated to the ball.

        Args:
            x: Images, (batch, height, width, channels).
            num_samples: Number of samples an image; None for one, without an axis
                for it.
            radius: Radius of the ball; None for the set's own.
            seed: Seed of the samples; None draws from the set's own, other ones at
                every call.

        Returns:
            Images, (batch, ...) or (num_samples, batch, ...).

        Raises:
            ValueError: If there is no radius, or it is not positive.
        """
        radius = self.require_radius(radius)
        number = 1 if num_samples is None else checks.count("num_samples", num_samples)
        conditioned = self.condition(x)
        keys = latent.split(self.next_key() if seed is None else [0, seed], number)
        shape = (tf.shape(conditioned.mean)[0], self.latent_dim)
        images = []
        for key in tf.unstack(keys):
            u = latent.sample_truncated_normal(shape, radius, key)
            images.append(decode_compiled(self, conditioned, u))
        return images[0] if num_samples is None else tf.stack(images)

    def interpolate(self, x: tf.Tensor, corners: tf.Tensor, size: int = 8) -> tf.Tensor:
        """A grid of perturbations of one image between four latents.

        Args:
            x: One image, (1, height, width, channels).
            corners: Standardised latents, (4, latent_dim): upper left, upper right,
                lower left, lower right.
            size: Side of the grid, at least 2.

        Returns:
            Images, (size, size, height, width, channels).
        """
        x = self.checked_images("x", x)
        corners = tf.convert_to_tensor(corners, tf.float32)
        if x.shape[0] != 1 or tuple(corners.shape) != (4, self.latent_dim):
            raise ValueError(
                f"`interpolate` takes one image and latents (4, {self.latent_dim}). "
                f"Received: shapes {tuple(x.shape)} and {tuple(corners.shape)}"
            )
        t = np.linspace(0, 1, checks.count("size", size, 2), dtype=np.float32)
        down, right = (w.reshape(-1, 1) for w in np.meshgrid(t, t, indexing="ij"))
        a, b, c, d = corners
        u = (1 - down) * ((1 - right) * a + right * b)
        u += down * ((1 - right) * c + right * d)
        images = self.perturb(tf.repeat(x, size * size, 0), u)
        return tf.reshape(images, (size, size, *x.shape[1:]))

    # Calibration.

    def encode_pairs(
        self, pairs: Any, x_perturbed: Any = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The latent of every pair, as `encode`, and which image each belongs to.

        Args:
            pairs: Whatever `fit` takes, such as a tf.data.Dataset of batches
                (x, x_perturbed), or the arrays (x, x_perturbed) in a tuple.
            x_perturbed: Array x_perturbed if `pairs` is the array x.

        Returns:
            Latents (pairs, latent_dim), and indices of images (pairs,): pairs with the
            very same x have the same index.

        Raises:
            ValueError: If there are no pairs or no end of them, or they are not equal
                images of the set's shape.
        """
        latents, contents = [], []
        encode = tf.function(self.encode, autograph=False, reduce_retracing=True)
        for x, perturbed in Pairs(self, pairs, x_perturbed):
            latents.append(encode(x, perturbed).numpy())
            contents += [image.tobytes() for image in x.numpy()]
        index = {image: i for i, image in enumerate(dict.fromkeys(contents))}
        return np.concatenate(latents), np.array([index[image] for image in contents])

    def latent_norms(
        self, pairs: Any, x_perturbed: Any = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """||u_q|| of every pair, and which image each belongs to; see `encode_pairs`.

        Returns:
            Norms (pairs,), and indices of images (pairs,).
        """
        latents, image = self.encode_pairs(pairs, x_perturbed)
        return np.linalg.norm(latents, axis=1), image

    def calibrate(
        self,
        pairs: Any,
        x_perturbed: Any = None,
        *,
        quantile: float | Literal["max"] = "max",
        coverage: float | None = None,
    ) -> float:
        """Chooses the radius from the latent norms ||u_q|| of validation pairs.

        Args:
            pairs: Pairs that were not trained on: whatever `fit` takes, such as a
                tf.data.Dataset of batches (x, x_perturbed), or the arrays
                (x, x_perturbed) in a tuple.
            x_perturbed: Array x_perturbed if `pairs` is the array x.
            quantile: Quantile of the norms: "max" (the paper's choice) or a fraction,
                such as 0.99.
            coverage: Coverage of a conformal radius, instead of a quantile: a new
                image has all of its perturbations inside with at least this
                probability, if it has as many of them and comes from the same source
                as the m images here. The radius is the ceil((m + 1) coverage)-th
                smallest of the largest norms of the images.

        Returns:
            The radius, also set as `radius`. Statistics stay in `calibration`.

        Raises:
            ValueError: If there are no pairs or no end of them, they are not images
                of the set's shape, there are too few images for the coverage, or a
                quantile or coverage is outside (0, 1).
        """
        norms, image = self.latent_norms(pairs, x_perturbed)
        self.calibration = calibration.choose(norms, image, quantile, coverage)
        self.radius = self.calibration["radius"]
        return self.require_radius()

    # Presets.

    @classmethod
    def from_preset(cls, preset: str | Path) -> "PerturbationSet":
        """A learned set out of a folder, as `save_to_preset` writes it.

        Example:
            pset = PerturbationSet.from_preset("mnist_rts")

        Args:
            preset: Folder, a name of saved_models/ in a checkout of the project, or
                "hf://user/name", a repository of the Hugging Face hub.

        Returns:
            The set, not compiled.

        Raises:
            FileNotFoundError: If there is no such folder or name, or a SavedModel
                alone, which `lps_tf.sets.from_saved_model` reads.
            ImportError: If huggingface_hub is needed and is not installed.
            ValueError: If the preset is not of a `PerturbationSet`.
        """
        models, _ = presets.read(preset, "PerturbationSet")
        return models["set"]

    def save_to_preset(
        self, folder: str | Path, card: Mapping[str, Any] | None = None
    ) -> Path:
        """Writes set.keras, preset.json, card.json and README.md into a folder.

        For those who have TensorFlow alone, have `lps_tf.export` write a SavedModel
        into the same folder, and do so first, because it replaces the folder.

        Args:
            folder: Folder to write to; what else is there stays.
            card: Facts for the card beyond what the set knows: the data, results,
                the license.

        Returns:
            The folder.

        Raises:
            ValueError: If the set has not seen an image yet, or Keras cannot save it.
        """
        calibration = self.calibration or {}
        facts = {
            "image_shape": list(self.image_shape),
            "latent_dim": self.latent_dim,
            "parameters": self.count_params(),
            "radius": self.radius,
            "quantiles": calibration.get("quantiles"),
        }
        models = {"set": self}
        return presets.write(folder, "PerturbationSet", models, {}, facts, card)

    def get_config(self) -> dict:
        """The constructor's arguments."""
        more = {"radius": self.radius, "calibration": self.calibration}
        return {**super().get_config(), **more}
