"""The worst of the true perturbations of an image."""

from typing import Any

import keras
import tensorflow as tf

from lps_tf._internal import checks
from lps_tf.perturbations.losses import all_wrong, cross_entropy, over_image
from lps_tf.perturbations.scheduler import AttackResult


class WorstOfGroup:
    """The version of an image, out of several true ones, with the largest loss.

    Where a latent attack searches a learned set, this one looks at what was measured:
    `PairData.test_groups` holds such groups.
    """

    adversarial = True

    def __call__(
        self, classifier: keras.layers.Layer, group: tf.Tensor, y: tf.Tensor
    ) -> tf.Tensor:
        """The worst version of each image.

        Args:
            classifier: maps images to logits.
            group: versions of images, (batch, draws, height, width, channels).
            y: integer labels, (batch,) or (batch, height, width).

        Returns:
            (batch, height, width, channels).
        """
        loss, _ = _losses(classifier, group, y)
        return tf.gather(group, tf.argmax(loss, 1), batch_dims=1)

    def run(self, classifier: keras.layers.Layer, group: Any, y: Any) -> AttackResult:
        """What became of each image; see `__call__` for the arguments.

        Returns:
            An `AttackResult` of one "radius": the largest loss, whether *any* version
            is misclassified, and as `u` the number of the version of largest loss,
            int64 (1, batch).

        Raises:
            ValueError: for groups of another rank or out of [0, 1], or labels that the
                classifier does not have.
        """
        group = tf.convert_to_tensor(group)
        if group.shape.rank != 5:
            raise ValueError(
                "`group` must have shape (batch, draws, height, width, channels). "
                f"Received: shape {tuple(group.shape)}"
            )
        checks.images("group", tf.reshape(group, (-1, *group.shape[2:])))
        loss, wrong = _losses(classifier, group, y)
        loss, wrong = loss.numpy(), wrong.numpy()
        worst = loss.argmax(1)
        return AttackResult(loss.max(1)[None], wrong.any(1)[None], worst[None])


def _losses(
    classifier: keras.layers.Layer, group: tf.Tensor, y: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Cross-entropy of each version, and whether it is misclassified; (batch, draws).

    One version at a time: all at once would hold all of a group's activations.
    """
    loss, wrong = [], []
    for images in tf.unstack(group, axis=1):
        logits = tf.cast(classifier(images, training=False), tf.float32)
        y = checks.labels(y, logits.shape[-1])
        loss.append(over_image(cross_entropy(logits, y)))
        wrong.append(all_wrong(logits, y))
    return tf.stack(loss, 1), tf.stack(wrong, 1)
