"""The networks of perturbation sets, and classifiers.

Each file gives a function of sizes that returns the arguments of a
`PerturbationSet`: prior, recognition, generator and likelihood.

A prior maps images (batch, height, width, channels) to the mean and log-variance of
the latent, each (batch, latent_dim); a recognition network does it for x and
x_perturbed stacked on channels. A generator is two calls, so that attacks and
certificates pay for x once: `features = generator.condition(x)` and
`image = generator.decode(features, z)`.
"""

from lps_tf.networks import classifiers
from lps_tf.networks.mnist_stn import mnist_stn

#: The networks that `PerturbationSet.from_network` knows by name.
NETWORKS = {"mnist_stn": mnist_stn}

__all__ = ["NETWORKS", "classifiers", "mnist_stn"]
