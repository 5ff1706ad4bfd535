"""How robust a classifier is, and whether the attacks that say so can be trusted."""

from lps_tf.robustness.corruption_report import CorruptionReport
from lps_tf.robustness.evaluation import corruption_errors, evaluate_robustness
from lps_tf.robustness.report import Check, RobustnessReport, Row, SanityReport
from lps_tf.robustness.sanity import sanity_checks

__all__ = [
    "Check",
    "CorruptionReport",
    "RobustnessReport",
    "Row",
    "SanityReport",
    "corruption_errors",
    "evaluate_robustness",
    "sanity_checks",
]
