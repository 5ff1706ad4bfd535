"""Networks of perturbation sets, and classifiers.

Each file has a function that maps sizes to the arguments of a
`PerturbationSet`: prior, recognition, generator and likelihood.

A prior maps images (batch, height, width, channels) to the mean and log-variance of
the latent, each (batch, latent_dim); a recognition network does it for x and
x_perturbed stacked on channels. A generator has two methods, so that attacks and
certificates process x once: `features = generator.condition(x, training)`
and `image = generator.decode(features, z, training)`.
"""

from collections.abc import Callable

from lps_tf.networks import classifiers
from lps_tf.networks.cifar10_residual import cifar10_residual
from lps_tf.networks.mi_unet import mi_unet
from lps_tf.networks.mnist_conv import mnist_conv
from lps_tf.networks.mnist_fc import mnist_fc
from lps_tf.networks.mnist_stn import mnist_stn

#: The networks that `PerturbationSet.from_network` knows by name.
NETWORKS: dict[str, Callable[..., dict]] = {
    "cifar10_residual": cifar10_residual,
    "mi_unet": mi_unet,
    "mnist_conv": mnist_conv,
    "mnist_fc": mnist_fc,
    "mnist_stn": mnist_stn,
}

__all__ = [
    "NETWORKS",
    "cifar10_residual",
    "classifiers",
    "mi_unet",
    "mnist_conv",
    "mnist_fc",
    "mnist_stn",
]
