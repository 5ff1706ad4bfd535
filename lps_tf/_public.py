"""The public names: what `import lps_tf` gives."""

import lps_tf._internal.backend  # noqa: F401  first, because it starts quietly
from lps_tf import certification, corruptions, datasets, networks, plots, robustness
from lps_tf.certification import CertificationReport, certify_dataset
from lps_tf.certification.smoothing import Certificate, SmoothedClassifier
from lps_tf.perturbations import (
    AttackResult,
    LatentAPGD,
    LatentAugmentation,
    LatentNoise,
    LatentPGD,
    RadiusSchedule,
    RandomSearch,
    SmoothedPGD,
    WorstOfGroup,
)
from lps_tf.robustness import (
    RobustnessReport,
    SanityReport,
    evaluate_robustness,
    objectives,
    sanity_checks,
)
from lps_tf.robustness.classifier import RobustClassifier
from lps_tf.serving import original
from lps_tf.serving.export import export
from lps_tf.sets import latent, likelihoods, quality, theory
from lps_tf.sets.perturbation_set import PerturbationSet
from lps_tf.training import schedules
from lps_tf.training.backup import Backup

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
    "RadiusSchedule",
    "RandomSearch",
    "RobustClassifier",
    "RobustnessReport",
    "SanityReport",
    "SmoothedClassifier",
    "SmoothedPGD",
    "WorstOfGroup",
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
