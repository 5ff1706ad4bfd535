"""The worst of the true perturbations of an image."""

from typing import Any

import numpy as np
import tensorflow as tf

from lps_tf._internal import checks, outputs
from lps_tf._internal.describing import described
from lps_tf._internal.outputs import Classifier
from lps_tf.perturbations.losses import all_wrong, cross_entropy, over_image
from lps_tf.perturbations.protocol import AttackResult


class WorstOfGroup:
    """The version of an image, out of several true ones, with the largest loss.

    Where a latent attack searches a learned set, this one looks at what was measured:
    `PairData.test_groups` holds such groups.
    """

    adversarial = True
    num_samples = 1

    def __repr__(self) -> str:
        return described(self)

    def __call__(
        self,
        classifier: Classifier,
        group: tf.Tensor,
        y: tf.Tensor,
        key: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """The worst version of each image.

        Args:
            classifier: Classifier or segmenter.
            group: Versions of images, (batch, versions, height, width, channels).
            y: Labels, (batch,) or (batch, height, width), -1 where void.
            key: Not used: nothing here is random.

        Returns:
            (batch, height, width, channels).
        """
        loss, _ = _losses(classifier, group, y, checks.VOID)
        return tf.gather(group, tf.argmax(loss, 1), batch_dims=1)

    def run(
        self,
        classifier: Classifier,
        group: Any,
        y: Any,
        ignore_class: int | None = None,
    ) -> AttackResult:
        """What became of each image; see `__call__` for the arguments.

        Args:
            classifier: Classifier or segmenter.
            group: Versions of images, (batch, versions, height, width, channels).
            y: Labels, (batch,) or (batch, height, width), or one-hot.
            ignore_class: Label of void pixels, such as 255; None if there are none.

        Returns:
            An `AttackResult` of one "radius": the largest loss, whether *any* version
            is misclassified, and as `u` the index of the version of largest loss,
            int64 (1, batch).

        Raises:
            ValueError: If groups are of another rank or out of [0, 1], or the
                classifier does not have a label.
        """
        group = tf.convert_to_tensor(group)
        if group.shape.rank != 5:
            raise ValueError(
                "`group` must have shape (batch, versions, height, width, channels). "
                f"Received: shape {tuple(group.shape)}"
            )
        # (batch, versions, ...) -> (batch * versions, ...), to check them as images.
        flat = checks.images("group", tf.reshape(group, (-1, *group.shape[2:])))
        group = tf.reshape(flat, group.shape)
        loss, wrong = _losses(classifier, group, y, ignore_class)
        loss, wrong = loss.numpy(), wrong.numpy()
        worst = loss.argmax(1)
        # What is wrong was found among the versions.
        found_by = np.where(wrong.any(1), "version", "")[None]
        success = wrong.any(1)[None]
        return AttackResult(loss.max(1)[None], success, worst[None], found_by)


def _losses(
    classifier: Classifier, group: tf.Tensor, y: Any, ignore_class: int | None
) -> tuple[tf.Tensor, tf.Tensor]:
    """Cross-entropies and whether they are misclassified, each (batch, versions).

    One version at a time: all at once would hold all of a group's activations.
    """
    loss, wrong, target = [], [], None
    for images in tf.unstack(group, axis=1):
        logits = outputs.logits(classifier, images)
        if target is None:
            target = checks.labels_like(y, logits.shape, ignore_class)
        loss.append(over_image(cross_entropy(logits, target)))
        wrong.append(all_wrong(logits, target))
    return tf.stack(loss, 1), tf.stack(wrong, 1)
