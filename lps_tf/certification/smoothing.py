"""SmoothedClassifier: predictions that no perturbation within a radius changes."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from lps_tf._internal import checks, inputs, outputs, presets
from lps_tf._internal.describing import described
from lps_tf._internal.fixed import Fixed
from lps_tf._internal.progress import progress
from lps_tf.certification import statistics
from lps_tf.certification.certificate import ABSTAIN, Certificate
from lps_tf.certification.ellipsoids import Sigma
from lps_tf.certification.sampler import NoiseSampler, Source, own_uniform
from lps_tf.certification.stopping import Prior, StoppingRule, rule_of
from lps_tf.certification.task import ESTIMATION, SELECTION, CertificationTask
from lps_tf.sets.protocol import Conditioned, LatentSet, Resolvable


class SmoothedClassifier(Fixed):
    """Randomised smoothing in the latent of a perturbation set (paper, section 5).

    The smoothed classifier predicts the class that the base classifier predicts most
    often on g(x, sigma * n), n from N(0, I); a smoothed segmenter does so for every
    pixel.

    What is certified: with probability at least 1 - alpha over the noise, `certify`
    returns for an image either -1 or a class and a radius R such that the smoothed
    classifier predicts this class at every latent u of norm at most R: no
    perturbation g(x, u) in that part of the *learned* set, smoothed around its u,
    changes the prediction. For a segmenter, this holds for all pixels of the image at
    once, unless the correction is "none": then it holds for each pixel by itself, and
    many of an image's ten thousands of certificates may be wrong.

    What is not: perturbations outside of the learned set, the base classifier's
    predictions, whether the class is correct, all images of a data set at once, and
    arithmetic: the bound is that of exact real numbers, networks and noise are
    float32.

    Which image to give. What is certified is about perturbations of the image that is
    given. Of a learned set, and of most others, the perturbations of an image that is
    perturbed already are not those of the clean one: certify clean images, as an
    evaluation does. In a `resolvable` set (`lps_tf.sets.protocol.Resolvable`, such as
    translation or brightness) perturbing twice is perturbing once, by the sum of the
    latents: certify images as they come, as in deployment. If what came is
    perturb(x, a) and the set resolves x and a, a certificate of radius R holds for the
    clean x as well: at every latent b of x with ||b - a|| <= R the smoothed classifier
    predicts the certified class, and so it does on x itself if ||a|| <= R.

    Images are conditioned once, batch_size / 20 at a time, and their samples share
    batches. At no time are there more than batch_size samples and twice as many
    conditioned images as were conditioned at a time.

    All arguments are fixed: to change one, build another.

    Args:
        classifier: Keras model from images to logits (batch, classes), or (batch,
            height, width, classes) for a segmenter; one logit z stands for [0, z].
            Samples with a NaN count for no class.
        perturbation_set: Learned set, or any other; its radius is not needed.
        sigma: Standard deviation of the noise, in standardised latent units, or one
            for each latent dimension, (latent_dim,), such as those of
            `certification.sigma_of_spread`. Then an ellipsoid is certified,
            ||u / sigma|| <= R / min(sigma), of which R is the radius of the largest
            ball in it; see `Certificate` and `lps_tf.certification.ellipsoids`.
        batch_size: The most samples evaluated at once; bounds the memory, whatever n.
        correction: For the pixels of a segmenter: "holm", "bonferroni" or "none".
            "bonferroni" divides alpha by the number of pixels. "holm" holds just as
            well and certifies more where the question is yes or no, `predict` and
            a target radius; for radii it has no better bounds, and is the same.
        seed: Seed of the noise. That of an image depends on it and the image's index
            alone.

    Raises:
        ValueError: If batch_size is not positive, sigma is not positive and finite,
            nor one such number for each dimension, or for an unknown correction.
    """

    FIXED = (
        "classifier",
        "perturbation_set",
        "sigma",
        "batch_size",
        "correction",
        "seed",
        "sampler",
    )

    def __init__(
        self,
        classifier: outputs.Classifier,
        perturbation_set: LatentSet,
        sigma: Sigma,
        *,
        batch_size: int = 256,
        correction: str = "holm",
        seed: int = 0,
    ):
        self.classifier = outputs.required(classifier)
        self.perturbation_set = perturbation_set
        dim = perturbation_set.latent_dim if np.ndim(sigma) else 1
        self.sigma = checks.positive_or_each("sigma", sigma, dim)
        self.batch_size = checks.count("batch_size", batch_size)
        if correction not in statistics.CORRECTIONS:
            raise ValueError(
                f"`correction` must be one of {', '.join(statistics.CORRECTIONS)}. "
                f"Received: correction={correction!r}"
            )
        self.correction = correction
        self.seed = seed
        self.sampler = NoiseSampler(
            classifier, perturbation_set, self.sigma, self.batch_size
        )

    @classmethod
    def from_preset(cls, preset: str | Path) -> "SmoothedClassifier":
        """A smoothed classifier out of a folder, as `save_to_preset` writes it.

        Example:
            smooth = SmoothedClassifier.from_preset("mnist_rts_classifier-smooth_adv")

        Args:
            preset: Folder, name or address; see `PerturbationSet.from_preset`.

        Returns:
            The smoothed classifier, of the same noise.

        Raises:
            FileNotFoundError: If there is no such folder or name.
            ImportError: If huggingface_hub is needed and is not installed.
            ValueError: If the preset is not of a `SmoothedClassifier`.
        """
        models, arguments = presets.read(preset, "SmoothedClassifier")
        return cls(models["classifier"], models["set"], **arguments)

    def save_to_preset(
        self, folder: str | Path, card: Mapping[str, Any] | None = None
    ) -> Path:
        """Writes classifier.keras, set.keras, preset.json and a card into a folder.

        As of a set, a SavedModel in the same folder is exported first.

        Args:
            folder: Folder to write to; what else is there stays.
            card: Facts for the card: the data, `class_names`, the license, and what
                was certified, with n0, n and alpha, on how many images.

        Returns:
            The folder.

        Raises:
            ValueError: If Keras cannot save the classifier or the set.
        """
        facts = outputs.facts(self.classifier)
        names = ("sigma", "batch_size", "correction", "seed")
        return presets.write(
            folder,
            "SmoothedClassifier",
            {"classifier": self.classifier, "set": self.perturbation_set},
            {name: getattr(self, name) for name in names},
            {**facts, "sigma": self.sigma, "correction": self.correction},
            card,
        )

    @property
    def resolvable(self) -> bool:
        """Whether images may be perturbed already when they are certified.

        Then a certificate holds for the clean image too; see the class.
        """
        return isinstance(self.perturbation_set, Resolvable)

    @property
    def smallest_sigma(self) -> float:
        """The smallest standard deviation: radii are those of balls in an ellipsoid."""
        return float(np.min(self.sigma))

    def __repr__(self) -> str:
        name = getattr(self.classifier, "name", None) or type(self.classifier).__name__
        facts = {"sigma": self.sigma, "correction": self.correction, "seed": self.seed}
        return described(self, name, self.perturbation_set, **facts)

    def predict(
        self,
        images: Any,
        n: int = 1000,
        alpha: float = 1e-3,
        *,
        index: Any = None,
        verbose: bool = True,
    ) -> np.ndarray:
        """Predicts with the smoothed classifier.

        A prediction differs from the smoothed classifier's with probability at most
        alpha, any prediction of a segmenter for an image likewise: a two-sided
        binomial test of the top two counts, corrected for the number of pixels.

        Args:
            images: Images in [0, 1], (batch, height, width, channels), or a data set;
                see `certify`.
            n: Number of noise samples for an image.
            alpha: Error probability.
            index: Indices of the images in their data set, default 0, 1, ...
            verbose: Whether to show progress.

        Returns:
            Classes, int64 (batch,) or (batch, height, width), -1 where it abstains.

        Raises:
            ValueError: For a number out of its range or images out of [0, 1].
        """
        n, alpha = checks.count("n", n), checks.probability("alpha", alpha)

        def enough(n: int, pixels: int) -> bool:
            level = statistics.share_of_alpha(alpha, pixels, self.correction)
            return bool(statistics.binomial_test(n, 0) <= level)

        def finish(task: CertificationTask) -> np.ndarray:
            return self.prediction(tf.constant(task.counts), alpha).numpy()

        predictions = self._run("predict", images, index, n, None, finish, verbose)
        _warn_unless(enough, n, predictions[0])
        return np.stack(predictions)

    def certify(
        self,
        images: Any,
        n0: int = 100,
        n: int = 10_000,
        alpha: float = 1e-3,
        *,
        target_radius: float | None = None,
        share: float | None = None,
        index: Any = None,
        verbose: bool = True,
    ) -> Certificate:
        """Predicts, with the radius within which predictions are sure not to change.

        The class is chosen on n0 samples; its probability is bounded from below on
        fresh ones. p_lower <= 1/2 abstains, otherwise the radius is
        sigma * Phi^-1(p_lower), with the smallest sigma of several. See the class for
        the guarantee. Three ways:

        * The paper's: n samples, and the bound of Clopper and Pearson, randomised by
          one number of each image's own, which is drawn from the seed as its noise is:
          the level is alpha exactly, and no radius is smaller than the paper's. See
          `statistics.randomised_clopper_pearson_lower`.
        * `target_radius=r`, yes or no: is the class certain up to r? It stops as soon
          as it is, or most likely will not be, and at n. The radius is r or 0.
        * `share=s`: radii again, but it stops as soon as samples up to n would, at the
          rate of successes so far, add less than this share of the radius. For a
          segmenter, the sum of its radii counts.

        The latter two rest on `evidence.log_evidence`, which holds at any stopping
        time; toward a target, on `evidence.informed_log_evidence`, in which the
        samples of selection say what to look for.

        Args:
            images: Images in [0, 1], (batch, height, width, channels); or a
                tf.data.Dataset of batches of them; labels beside them are not used.
            n0: Number of samples that choose the class.
            n: Number of samples that estimate its probability, or the most of them.
            alpha: Probability that a certificate is wrong.
            target_radius: Radius in the standardised latent.
            share: In (0, 1), such as 0.1.
            index: Indices of the images in their data set, default 0, 1, ...: an image
                has the same noise under its index whatever the other images, the
                order or the part of the data set.
            verbose: Whether to show progress.

        Returns:
            A `Certificate`.

        Raises:
            ValueError: For a number out of its range, images out of [0, 1], or both
                target_radius and share.
        """
        n0 = checks.count("n0", n0)
        rule = rule_of(
            self.smallest_sigma, n, alpha, self.correction, target_radius, share
        )

        def finish(task: CertificationTask) -> tuple:
            estimate = task.estimate
            assert estimate is not None, "the task is not done"
            radius = estimate.radius
            # The class was chosen on the first n0 samples, independent of the estimate.
            prediction = np.where(radius > 0, task.counts.argmax(-1), ABSTAIN)
            return prediction, radius, estimate.p_lower, n0 + int(estimate.num_samples)

        rows = self._run("certify", images, index, n0, rule, finish, verbose)
        _warn_unless(lambda n, pixels: rule.enough(n, n0, pixels), rule.n, rows[0][0])
        prediction, radius, p_lower, samples = map(np.stack, zip(*rows, strict=True))
        return Certificate(prediction, radius, p_lower, samples, rule.alpha, self.sigma)

    def noisy_accuracy(
        self,
        images: Any,
        labels: Any,
        n: int = 100,
        *,
        index: Any = None,
        verbose: bool = True,
    ) -> np.ndarray:
        """How often the base classifier is right on noisy versions of each image.

        That is not how often the smoothed classifier, the majority of them, is right.
        The mean over images of a data set is what `accuracy_under_shift` starts from.

        Args:
            images: Images in [0, 1], (images, height, width, channels).
            labels: True classes, in any form that Keras takes.
            n: Number of noise samples for an image.
            index: Indices of the images in their data set, default 0, 1, ...
            verbose: Whether to show progress.

        Returns:
            Shares of correct predictions, of a segmenter over all of its pixels,
            float64 (images,).

        Raises:
            ValueError: For a number out of its range, images out of [0, 1], or labels
                that do not suit.
        """
        n, x = checks.count("n", n), checks.images("images", images)
        shape = outputs.logits(self.classifier, x[:1]).shape
        y = checks.labels_like(labels, shape).numpy()
        if len(y) != len(x):
            raise ValueError(
                "`images` and `labels` must be equally long. "
                f"Received: lengths {len(x)} and {len(y)}"
            )
        counts = self._run(
            "noisy accuracy", x, index, n, None, lambda task: task.counts, verbose
        )
        correct = np.take_along_axis(np.stack(counts), y[..., None], -1)
        return correct.reshape(len(x), -1).mean(-1) / n

    def _run(
        self,
        what: str,
        images: Any,
        index: Any,
        n0: int,
        rule: StoppingRule | None,
        finish: Callable[[CertificationTask], Any],
        verbose: bool,
    ) -> list:
        """`finish` of every image's task, when it is done; in the images' order."""
        batches, total = _batches(images)
        index = None if index is None else _checked_index(index, total)

        def tasks() -> Iterator[tuple[int, CertificationTask]]:
            start = 0
            for batch in batches:
                end = start + len(batch)
                # The noise depends on an image's index, not on its batch.
                numbers = np.arange(start, end) if index is None else index[start:end]
                _checked_index(numbers, len(batch))
                for task in self.sampler.run(batch, numbers, self.seed, n0, rule):
                    yield start + task.row, task
                start = end

        bar = progress(tasks(), what, verbose, total)
        results = {row: finish(task) for row, task in bar}
        if not results:
            raise ValueError("There are no images: the data set is empty.")
        return [results[row] for row in range(len(results))]

    # Graph code; exported SavedModels run it.

    def prediction(self, counts: tf.Tensor, alpha: Any) -> tf.Tensor:
        """Predictions for counts (..., classes) of an image, int64; see `predict`."""
        # The best two of (..., classes), each (..., 2): do they differ beyond chance?
        counts, top_classes = tf.math.top_k(counts, 2)
        p_values = statistics.binomial_test(counts[..., 0], counts[..., 1])
        sure = statistics.reject_by_p(p_values, alpha, self.correction)
        return tf.where(sure, tf.cast(top_classes[..., 0], tf.int64), ABSTAIN)

    def predict_one(
        self, image: tf.Tensor, n: Any, alpha: Any, seed: Any, index: Any
    ) -> tf.Tensor:
        """The prediction for one image (1, height, width, channels); see `predict`."""
        conditioned = self._condition_one(image)
        counts = self.sampler.count(conditioned, n, Source(seed, index, SELECTION))
        return self.prediction(counts, alpha)

    def certify_one(
        self, image: tf.Tensor, n0: Any, rule: StoppingRule, seed: Any, index: Any
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        """Prediction, radius, p_lower and samples of one image; see `certify`."""
        conditioned = self._condition_one(image)
        counts = self.sampler.count(conditioned, n0, Source(seed, index, SELECTION))
        # Fresh noise: what chose the class would be too good for it.
        chosen = tf.argmax(counts, -1)
        prior = Prior(tf.reduce_max(counts, -1), n0, own_uniform(seed, index))
        estimate = self.sampler.estimate(
            conditioned, chosen, prior, rule, Source(seed, index, ESTIMATION)
        )
        prediction = tf.where(estimate.radius > 0, chosen, ABSTAIN)
        return prediction, estimate.radius, estimate.p_lower, n0 + estimate.num_samples

    def _condition_one(self, image: tf.Tensor) -> Conditioned:
        """An image as the set conditions it, once for each block of a batch."""
        conditioned = self.perturbation_set.condition(image)
        return tf.nest.map_structure(
            lambda t: tf.repeat(t, self.sampler.num_blocks, 0), conditioned
        )


def _batches(images: Any) -> tuple[Iterator[tf.Tensor], int | None]:
    """Checked batches of images, and how many images there are, if that is known."""
    if not isinstance(images, tf.data.Dataset):
        images = images[0] if isinstance(images, tuple) else images
        images = checks.images("images", images)
        return iter([images]), len(images)
    inputs.require_an_end(images)
    first = (batch[0] if isinstance(batch, tuple) else batch for batch in images)
    return (checks.images("images", batch) for batch in first), None


def _checked_index(index: Any, total: int | None) -> np.ndarray:
    index = np.asarray(index)
    whole = index.ndim == 1 and np.issubdtype(index.dtype, np.integer)
    whole = whole and total in (None, len(index))
    if not whole or index.min() < 0 or index.max() >= 2**31:
        raise ValueError(
            f"`index` must be {total or 'as many'} whole numbers from 0 to 2^31 - 1, "
            f"one for each image. Received: index={index}"
        )
    return index


def _warn_unless(
    enough: Callable[[int, int], bool], n: int, prediction: np.ndarray
) -> None:
    if enough(n, prediction.size):
        return
    least = statistics.least_samples(lambda n: enough(n, prediction.size))
    warnings.warn(
        f"{n} samples are too few to be sure of anything, even if all of them agree: "
        f"expect predictions of {ABSTAIN}. Use n of at least {least}, or a larger "
        "alpha.",
        stacklevel=3,
    )
