"""The public names: what `import lps_tf` gives."""

import lps_tf._internal.backend  # noqa: F401  first, because it starts quietly
from lps_tf import (
    certification,
    corruptions,
    datasets,
    networks,
    plots,
    robustness,
    sets,
)
from lps_tf.certification import CertificationReport, certify_dataset
from lps_tf.certification.certificate import Certificate
from lps_tf.certification.smoothing import SmoothedClassifier
from lps_tf.perturbations import (
    AttackResult,
    AugMix,
    LatentAPGD,
    LatentAugmentation,
    LatentAutoAttack,
    LatentNoise,
    LatentPGD,
    Prime,
    RadiusSchedule,
    RandomSearch,
    SmoothedPGD,
    WorstOfGroup,
)
from lps_tf.robustness import (
    CorruptionReport,
    RobustnessReport,
    SanityReport,
    corruption_errors,
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
    "AugMix",
    "Backup",
    "Certificate",
    "CertificationReport",
    "CorruptionReport",
    "LatentAPGD",
    "LatentAugmentation",
    "LatentAutoAttack",
    "LatentNoise",
    "LatentPGD",
    "PerturbationSet",
    "Prime",
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
    "corruption_errors",
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
    "sets",
    "theory",
]
