"""Sets of known formula: rotations, colours, balls of pixels, and one after another.

They are perturbation sets as a learned one is: attack, augment, train, smooth and
certify in them alike. None has a weight, each is differentiable in its standardised
latent u, and u = 0 is the middle of its ranges, which changes nothing where they are
symmetric. `parameters(u)` says what latents stand for.

What the ball of radius r covers depends on how u becomes the parameters:

* Linear, which is all but `Linf` and `Affine(map="uniform")`: a parameter of range
  middle +- half is middle + half * u. The ball of radius 1 is the range; of several
  parameters it is the ellipsoid in the box of their ranges, which one parameter at a
  time reaches the end of. Gaussian u beyond the ball goes beyond the range. A sigma of
  noise, and a certified radius, are in halves of ranges.
* Uniform: a parameter is low + (high - low) * Phi(u), Phi the distribution function of
  N(0, 1), so that u from N(0, I) gives uniform parameters, independent of each other:
  `LatentNoise(pset, sigma=1.0)` is plain random augmentation. No u leaves the range.
  A ball of radius r in d dimensions holds the box of the inner 2 Phi(r / sqrt(d)) - 1
  of every range, and of one parameter alone, the others in their middle, the inner
  2 Phi(r) - 1. By default it holds 99% of N(0, I): of four ranges, as in the paper's
  rotations, translations and scalings, r is 3.64, the box is of the inner 93%, and one
  parameter alone comes to within 0.03% of its end.

`L2` is the pixel ball of its own radius. `Compose` takes any two sets, learned ones
too. Two sets side by side, one or the other, are no ball: which of the two it is would
have to be a number that moves from one to the other without a jump. Attack each, and
count the worst.
"""

from lps_tf.sets.parametric.affine import Affine
from lps_tf.sets.parametric.blur import GaussianBlur
from lps_tf.sets.parametric.colours import Brightness, ColourJitter, Contrast
from lps_tf.sets.parametric.compose import Compose
from lps_tf.sets.parametric.pixel_balls import L2, Linf
from lps_tf.sets.parametric.translation import Translation

__all__ = [
    "L2",
    "Affine",
    "Brightness",
    "ColourJitter",
    "Compose",
    "Contrast",
    "GaussianBlur",
    "Linf",
    "Translation",
]
