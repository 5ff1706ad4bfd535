"""A set and a classifier of digits that are small and not trained."""

from pathlib import Path

import keras

import lps_tf as lps


def save(folder: Path) -> list[str]:
    """Writes classifier.keras and set.keras; their paths in this order."""
    shape = lps.datasets.mnist5k_rts().image_shape
    pset = lps.PerturbationSet.from_network(
        "mnist_stn", latent_dim=4, transformers=1, localisation=(8, 4)
    )
    pset.build((None, *shape))
    pset.save(folder / "set.keras")
    keras.utils.set_random_seed(1)
    classifier = lps.networks.classifiers.small_cnn(shape, 10, filters=(4,), units=8)
    classifier.save(folder / "classifier.keras")
    return [str(folder / "classifier.keras"), str(folder / "set.keras")]
