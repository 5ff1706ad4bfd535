"""Certificates of a whole data set: made in shards, resumed, merged and reported.

What a certificate says: the smoothed classifier, in exact arithmetic, predicts the
certified class at every latent u of norm at most the radius. With probability at
least 1 - alpha over the noise this holds for each image on its own: among 1,000
images with alpha = 0.001, one wrong certificate is to be expected at most. Of a
segmenter corrected for its pixels ("holm" or "bonferroni") it holds for all certified
pixels of an image at once.

What it does not say: anything of perturbations outside of the learned set, or of the
base classifier without its noise. Networks run in floating point, which the bound
does not take into account.
"""

from lps_tf.certification.comparison import Comparison, compare
from lps_tf.certification.coverage import Coverage
from lps_tf.certification.dataset import certify_dataset, merge, parse_shard
from lps_tf.certification.report import CertificationReport, certified_curves

__all__ = [
    "CertificationReport",
    "Comparison",
    "Coverage",
    "certified_curves",
    "certify_dataset",
    "compare",
    "merge",
    "parse_shard",
]
