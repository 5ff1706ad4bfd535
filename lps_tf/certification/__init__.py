"""Certificates of a whole data set: made in shards, resumed, merged and reported.

What a certificate says: the smoothed classifier, in exact arithmetic, predicts the
certified class at every latent u of norm at most the radius. With probability at
least 1 - alpha over the noise this holds for each image on its own: among 1,000
images with alpha = 0.001, one wrong certificate is to be expected at most. Of a
segmenter corrected for its pixels ("holm" or "bonferroni") it holds for all certified
pixels of an image at once.

Latents are those of the image that was certified. Of a learned set that has to be the
clean image. In a resolvable set, such as translation or brightness, it may be a
perturbed one, and the certificate holds for the clean image behind it too, if that is
within the radius: see `SmoothedClassifier`. The report says which of the two it is.

What it does not say: anything of perturbations outside of the learned set, or of the
base classifier without its noise. Networks run in floating point, which the bound
does not take into account.
"""

from lps_tf.certification.comparison import Comparison, compare
from lps_tf.certification.coverage import Coverage
from lps_tf.certification.dataset import certify_dataset, merge, parse_shard
from lps_tf.certification.ellipsoids import sigma_of_spread
from lps_tf.certification.failure import FailureBound, probability_of_failure
from lps_tf.certification.report import CertificationReport, certified_curves
from lps_tf.certification.shift import ShiftBound, accuracy_under_shift

__all__ = [
    "CertificationReport",
    "Comparison",
    "Coverage",
    "FailureBound",
    "ShiftBound",
    "accuracy_under_shift",
    "certified_curves",
    "certify_dataset",
    "compare",
    "merge",
    "parse_shard",
    "probability_of_failure",
    "sigma_of_spread",
]
