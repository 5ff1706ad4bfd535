"""Learn what may happen to an image, then attack, augment, smooth and certify."""

import keras as _keras

if _keras.backend.backend() != "tensorflow":
    raise ImportError(
        "lps_tf needs Keras's TensorFlow backend. Received: backend "
        f"{_keras.backend.backend()!r}. Set KERAS_BACKEND=tensorflow and start again."
    )

from lps_tf import (
    certification,
    corruptions,
    datasets,
    latent,
    likelihoods,
    networks,
    objectives,
    original,
    plots,
    quality,
    robustness,
    schedules,
    theory,
)
from lps_tf._version import __version__
from lps_tf.backup import Backup
from lps_tf.certification import CertificationReport, certify_dataset
from lps_tf.export import export
from lps_tf.perturbation_set import PerturbationSet
from lps_tf.perturbations import (
    AttackResult,
    LatentAPGD,
    LatentAugmentation,
    LatentNoise,
    LatentPGD,
    RandomSearch,
    SmoothedPGD,
    WorstOfGroup,
)
from lps_tf.robust_classifier import RobustClassifier
from lps_tf.robustness import (
    RobustnessReport,
    SanityReport,
    evaluate_robustness,
    sanity_checks,
)
from lps_tf.smoothing import Certificate, SmoothedClassifier

__all__ = [
    "AttackResult",
    "Backup",
    "Certificate",
    "CertificationReport",
    "LatentAPGD",
    "LatentAugmentation",
    "LatentNoise",
    "LatentPGD",
    "PerturbationSet",
    "RandomSearch",
    "RobustClassifier",
    "RobustnessReport",
    "SanityReport",
    "SmoothedClassifier",
    "SmoothedPGD",
    "WorstOfGroup",
    "__version__",
    "certification",
    "certify_dataset",
    "corruptions",
    "datasets",
    "evaluate_robustness",
    "export",
    "latent",
    "likelihoods",
    "networks",
    "objectives",
    "original",
    "plots",
    "quality",
    "robustness",
    "sanity_checks",
    "schedules",
    "theory",
]
