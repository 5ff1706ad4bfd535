"""ConditionalVAE: prior, posterior and likelihood as distributions, and their fit."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from lps_tf._internal import checks
from lps_tf._internal.fixed import Fixed
from lps_tf._internal.probability import tfd
from lps_tf.networks import NETWORKS
from lps_tf.sets import latent
from lps_tf.sets.likelihoods import LIKELIHOODS, OptimalGaussian
from lps_tf.training import replicas
from lps_tf.training.checked_model import CheckedModel, weights_of
from lps_tf.training.schedules import PiecewiseLinear

#: Batches that have to be trained on before XLA saves more than it takes to compile.
_WORTH_COMPILING = 100


class ConditionalVAE(Fixed, CheckedModel):
    """The generative model under a `PerturbationSet`; paper, section 2.

    It is a class by itself because it is all that training needs: distributions of
    latents z, which know nothing of standardised latents, balls or radii.

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
        **kwargs: Arguments of `keras.Model`.

    Raises:
        ValueError: If the likelihood is unknown or the generator lacks a method.
    """

    FIXED = (
        "prior_network",
        "recognition_network",
        "generator",
        "likelihood_name",
        "seed",
    )
    jit_compile: bool  # Keras's

    def __init__(
        self,
        prior: keras.layers.Layer,
        recognition: keras.layers.Layer,
        generator: keras.layers.Layer,
        likelihood: str = "gaussian",
        seed: int = 0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if likelihood not in LIKELIHOODS:
            raise ValueError(
                f"`likelihood` must be one of {sorted(LIKELIHOODS)}. "
                f"Received: likelihood={likelihood!r}"
            )
        if not (hasattr(generator, "condition") and hasattr(generator, "decode")):
            raise ValueError(
                "`generator` must have the methods condition(x, training) and "
                f"decode(features, z, training). Received: {generator}"
            )
        # Layers. The methods `prior`, `posterior` and `likelihood` give distributions.
        self.prior_network = prior
        self.recognition_network = recognition
        self.generator = generator

        # State.
        fixed = {"shape": (), "trainable": False, "autocast": False}
        self._beta = self.add_weight(name="beta", initializer="ones", **fixed)
        if LIKELIHOODS[likelihood].fits_variance:
            # That of the last batches, for what comes after training.
            self._variance = self.add_weight(
                name="variance", initializer="ones", aggregation="mean", **fixed
            )
        # Samples are counted in a weight, not in a keras SeedGenerator: saved with the
        # others, it lets an interrupted run go on with the very same noise.
        fixed |= {"dtype": "int32", "aggregation": "none"}
        self._draws = self.add_weight(name="draws", initializer="zeros", **fixed)
        self._trackers = {
            name: keras.metrics.Mean(name=name)
            for name in ("loss", "reconstruction", "kl")
        }

        # Config.
        self.likelihood_name = likelihood
        self.seed = seed
        self.beta: float | PiecewiseLinear = 1.0

    @classmethod
    def from_network(
        cls,
        network: str | Callable[..., dict],
        likelihood: str | None = None,
        seed: int = 0,
        **sizes: Any,
    ) -> "ConditionalVAE":
        """A model over one of the paper's networks.

        Args:
            network: Name in `lps_tf.networks.NETWORKS`, or such a function.
            likelihood: Name of the likelihood; None for the paper's choice for that
                network.
            seed: Seed of the set.
            **sizes: Sizes of the network; its function documents them.

        Raises:
            ValueError: If the name is unknown, or that of a size.
        """
        if isinstance(network, str):
            checks.known("network", network, NETWORKS)
        make = NETWORKS[network] if isinstance(network, str) else network
        checks.sizes(make, sizes)
        parts = make(**sizes)
        if likelihood is not None:
            parts["likelihood"] = likelihood
        return cls(**parts, seed=seed)

    @property
    def latent_dim(self) -> int:
        """Number of latent dimensions of one example."""
        self._require_built()
        return self._latent_dim

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels); None, None where images of any size will do."""
        self._require_built()
        return self._image_shape

    @property
    def pixel_variance(self) -> float | None:
        """Variance of a pixel around G, by the likelihood; None for Bernoulli."""
        if self.likelihood_name == "bernoulli":
            return None
        fitted = LIKELIHOODS[self.likelihood_name].fits_variance
        return float(self._variance.numpy()) if fitted else 1.0

    def _require_built(self) -> None:
        if not self.built:
            raise ValueError(
                "This model has not seen an image yet. Call `fit`, or "
                "`build((None, height, width, channels))`."
            )

    # The networks as distributions.

    def build(self, input_shape: tuple) -> None:
        """Makes every weight, for images of shape (batch, height, width, channels)."""
        if len(input_shape) != 4:
            raise ValueError(
                "The model is built for images (batch, height, width, "
                f"channels). Received: input_shape={input_shape}"
            )
        image_shape = tuple(input_shape[1:])

        # One eager pass makes the weights of any network, whatever its class; under
        # a graph being traced it still runs outside of it.
        with tf.init_scope():
            x = tf.zeros((1, *image_shape))
            mean, _ = self.prior_network(x)
            self.recognition_network(tf.concat([x, x], -1))
            image = self.generator((x, mean))
        if tuple(image.shape[1:]) != image_shape:
            raise ValueError(
                "The generator must give images of the size it gets. "
                f"Received: {image_shape} in, {tuple(image.shape[1:])} out."
            )
        if getattr(self.generator, "any_size", False):
            image_shape = (None, None, image_shape[-1])
        self._latent_dim, self._image_shape = int(mean.shape[-1]), image_shape
        self.built = True

    @staticmethod
    def _normal(mean: tf.Tensor, log_variance: tf.Tensor) -> tfd.Distribution:
        # float32 even under mixed precision: variances and KL need it.
        mean, log_variance = (tf.cast(t, tf.float32) for t in (mean, log_variance))
        return tfd.Independent(tfd.Normal(mean, tf.exp(0.5 * log_variance)), 1)

    def prior(self, x: tf.Tensor, training: bool = False) -> tfd.Distribution:
        """p(z | x): a normal over latents (batch, latent_dim)."""
        x = self.checked_images("x", x)
        return self._normal(*self.prior_network(x, training=training))

    def posterior(
        self, x: tf.Tensor, x_perturbed: tf.Tensor, training: bool = False
    ) -> tfd.Distribution:
        """q(z | x, x_perturbed): a normal over latents (batch, latent_dim)."""
        x, x_perturbed = (
            self.checked_images("x", x),
            self.checked_images("x_perturbed", x_perturbed),
        )
        checks.same_shape("x", x, "x_perturbed", x_perturbed)
        both = tf.concat([x, x_perturbed], -1)
        return self._normal(*self.recognition_network(both, training=training))

    def likelihood(
        self, x: tf.Tensor, z: tf.Tensor, training: bool = False
    ) -> tfd.Distribution:
        """p(x_perturbed | x, z), for latents z that are not standardised.

        "gaussian" has unit variance; see `lps_tf.likelihoods`.
        """
        x = self.checked_images("x", x)
        features = self.generator.condition(x, training=training)
        image = self.generator.decode(features, z, training=training)
        likelihood = LIKELIHOODS[self.likelihood_name]
        variance = self._variance.value if likelihood.fits_variance else 1.0
        return likelihood.distribution(image, variance)

    def checked_images(self, name: str, x: Any) -> tf.Tensor:
        """A batch of images as float32; builds the model for them if need be.

        Args:
            name: Name of the argument, for the error.
            x: Images, (batch, height, width, channels), of any float dtype.

        Raises:
            ValueError: If they are no images in [0, 1] of the model's shape.
        """
        x = checks.images(name, x)
        if not self.built:
            self.build(tuple(x.shape))
        if not x.shape[1:].is_compatible_with(self._image_shape):
            raise ValueError(
                f"`{name}` must hold images of shape {self._image_shape}. "
                f"Received: shape {tuple(x.shape)}"
            )
        return x

    # Training.

    def compile(
        self,
        optimizer: Any = "adam",
        beta: float | PiecewiseLinear = 1.0,
        jit_compile: bool | str = "auto",
        **kwargs: Any,
    ) -> None:
        """Prepares `fit`.

        Args:
            optimizer: Keras optimizer; its learning rate may be a
                `PiecewiseLinear` with `steps_per_epoch`, which counts batches. With
                `gradient_accumulation_steps=k`, k batches make a step along the mean
                of their objectives, and not the sum: plain SGD needs k times the
                learning rate of one large batch, Adam the same.
            beta: Weight of the KL term, a number or a schedule over epochs,
                evaluated at the start of each.
            jit_compile: Whether to use XLA; "auto" does, except under a
                distribution strategy and in a `fit` of less than a hundred batches,
                which is over before it is compiled. On a CPU too, it is worth more
                than Keras's own "auto" assumes.
            **kwargs: Arguments of `keras.Model.compile`; the loss is the model's own.
        """
        if kwargs.get("loss") is not None:
            raise ValueError(
                "A PerturbationSet has its own loss; choose it by `likelihood`. "
                f"Received: loss={kwargs['loss']}"
            )
        self.beta = beta if isinstance(beta, PiecewiseLinear) else float(beta)
        self._jit_choice = jit_compile
        alone = not tf.distribute.has_strategy()
        self._chooses_jit = jit_compile == "auto" and alone
        if jit_compile == "auto":
            jit_compile = alone
        super().compile(optimizer=optimizer, jit_compile=jit_compile, **kwargs)

    def get_compile_config(self) -> dict:
        """The arguments of `compile`, so that a saved set reloads compiled."""
        config = super().get_compile_config()
        if not config:  # never compiled
            return config
        return {
            **config,
            "beta": keras.saving.serialize_keras_object(self.beta),
            "jit_compile": self._jit_choice,
        }

    @property
    def metrics(self) -> list:
        """Means over examples of loss, reconstruction and kl."""
        return list(self._trackers.values())

    def elbo_terms(
        self,
        x: tf.Tensor,
        x_perturbed: tf.Tensor,
        training: bool = False,
        weight: tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The two terms of the objective at one posterior sample, each (batch,).

        Args:
            x: Images, (batch, height, width, channels).
            x_perturbed: Perturbed images, of the same shape.
            training: Whether batch statistics and a fitted variance are those of the
                batch, and are kept.
            weight: Weights of the pairs, (batch,), in a variance that is fitted; the
                terms themselves are not weighted.
        """
        prior = self.prior(x, training=training)
        posterior = self.posterior(x, x_perturbed, training=training)
        z = latent.draw(posterior, self.next_key())
        features = self.generator.condition(tf.cast(x, tf.float32), training=training)
        image = self.generator.decode(features, z, training=training)
        target = tf.cast(x_perturbed, tf.float32)
        reconstruction = self._reconstruction(image, target, training, weight)
        return reconstruction, tfd.kl_divergence(posterior, prior)

    def _reconstruction(
        self,
        image: tf.Tensor,
        target: tf.Tensor,
        training: bool,
        weight: tf.Tensor | None = None,
    ) -> tf.Tensor:
        likelihood = LIKELIHOODS[self.likelihood_name]
        if not likelihood.fits_variance:
            return likelihood.reconstruction(image, target)
        variance = self._variance.value
        if training:
            count = tf.shape(target)[0] if weight is None else tf.reduce_sum(weight)
            variance = OptimalGaussian.variance(image, target, weight)
            variance = replicas.mean(variance, count)
            self._variance.assign(0.9 * self._variance + 0.1 * variance)
        return likelihood.reconstruction(image, target, variance)

    def next_key(self) -> tf.Tensor:
        """A fresh key of the set's own, two int32."""
        self._draws.assign_add(1)
        return latent.replica_key(tf.stack([self.seed, self._draws.value]))

    def _track(
        self,
        beta: Any,
        reconstruction: tf.Tensor,
        kl: tf.Tensor,
        weight: tf.Tensor | None,
    ) -> dict:
        values = {
            "loss": reconstruction + beta * kl,
            "reconstruction": reconstruction,
            "kl": kl,
        }
        for name, tracker in self._trackers.items():
            tracker.update_state(values[name], sample_weight=weight)
        return self.get_metrics_result()

    def train_step(self, data: tuple) -> dict:
        """One step of the optimizer on the objective summed over the batch."""
        x, x_perturbed, weight = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            reconstruction, kl = self.elbo_terms(x, x_perturbed, True, weight)
            losses = reconstruction + self._beta * kl
            loss = tf.reduce_sum(losses if weight is None else weight * losses)
            scaled = self.optimizer.scale_loss(loss)
        variables = self.trainable_variables
        self.optimizer.apply_gradients(
            zip(tape.gradient(scaled, variables), variables, strict=True)
        )
        return self._track(self._beta, reconstruction, kl, weight)

    def test_step(self, data: tuple) -> dict:
        """The objective with the final beta."""
        beta = self.beta.final if isinstance(self.beta, PiecewiseLinear) else self.beta
        x, x_perturbed, weight = keras.utils.unpack_x_y_sample_weight(data)
        return self._track(beta, *self.elbo_terms(x, x_perturbed), weight)

    def convert(
        self, x: Any, y: Any, weight: Any, class_weight: dict[int, float] | None = None
    ) -> tuple[Any, Any, Any]:
        """Pairs (x, x_perturbed) of equal float images in [0, 1], as float32.

        Networks that say `any_size`, such as mi_unet, go on from the weights that
        they have when the images change in size: train small, then large.
        """
        if class_weight:
            raise ValueError(
                "Pairs have no classes; `sample_weight` weighs them. "
                f"Received: class_weight={class_weight}"
            )
        checks.same_shape("x", x, "x_perturbed", y)
        x = checks.batch("x", x, self._image_shape)
        y = checks.batch("x_perturbed", y, self._image_shape)
        weight = weights_of(weight, y)
        if weight is not None and weight.shape.rank != 1:
            raise ValueError(
                "Weights of pairs must have the shape (batch,). "
                f"Received: shape {tuple(weight.shape)}"
            )
        return x, y, weight

    def begin_fit(self, batches: float) -> None:
        """Chooses whether to use XLA, if that is left to us."""
        if self._chooses_jit and self.jit_compile != (batches >= _WORTH_COMPILING):
            self.jit_compile = not self.jit_compile
            self.train_function = self.test_function = None

    def begin_epoch(self, epoch: int) -> None:
        """Assigns beta: a variable, so nothing is retraced."""
        beta = self.beta
        self._beta.assign(beta.at(epoch) if isinstance(beta, PiecewiseLinear) else beta)

    def get_config(self) -> dict:
        """The constructor's arguments."""
        networks = {
            "prior": self.prior_network,
            "recognition": self.recognition_network,
            "generator": self.generator,
        }
        return {
            **{k: keras.saving.serialize_keras_object(v) for k, v in networks.items()},
            "likelihood": self.likelihood_name,
            "seed": self.seed,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict) -> "ConditionalVAE":
        """The inverse of `get_config`."""
        config = dict(config)
        for name in ("prior", "recognition", "generator"):
            config[name] = keras.saving.deserialize_keras_object(config[name])
        return cls(**config)
