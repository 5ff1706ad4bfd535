"""A conditional VAE in plain PyTorch: its objective and its training step.

See torch_networks.py.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn


class PerturbationSet(nn.Module):
    """Prior, recognition and generator, trained together as a conditional VAE."""

    def __init__(self, prior, recognition, generator, likelihood):
        super().__init__()
        self.prior = prior
        self.recognition = recognition
        self.generator = generator
        self.likelihood = likelihood

    def posterior(self, x, x_perturbed):
        """Mean and log-variance of the latent, each (batch, latent), or a map."""
        return self.recognition(torch.cat([x, x_perturbed], 1))

    def forward(self, x, x_perturbed, noise=None):
        """Reconstruction and KL at one posterior draw, each (batch,).

        The noise of the draw is standard normal unless it is given.
        """
        prior_mean, prior_logvar = self.prior(x)
        mean, logvar = self.posterior(x, x_perturbed)
        if noise is None:
            noise = torch.randn_like(mean)
        image = self.generator(x, mean + torch.exp(0.5 * logvar) * noise)
        kl = 0.5 * (
            prior_logvar
            - logvar
            + (torch.exp(logvar) + (mean - prior_mean) ** 2) / torch.exp(prior_logvar)
            - 1
        )
        return self.reconstruction(image, x_perturbed), kl.flatten(1).sum(1)

    def reconstruction(self, image, target):
        """Cross-entropy or squared error, summed over pixels, (batch,)."""
        if self.likelihood == "bernoulli":
            error = F.binary_cross_entropy(image, target, reduction="none")
        else:
            error = (image - target) ** 2
        return error.sum((1, 2, 3))


def training_step(model, optimizer, x, x_perturbed, beta):
    """One step on the objective summed over the batch, which it returns.

    `model` is a PerturbationSet, or what torch.compile made of it.
    """
    optimizer.zero_grad()
    reconstruction, kl = model(x, x_perturbed)
    loss = (reconstruction + beta * kl).sum()
    loss.backward()
    optimizer.step()
    return loss.item()


def scaled_tanh(x):
    """Bounds a log-variance to between log(1e-3) and log(10), falling with x."""
    low, high = math.log(1e-3), math.log(10)
    return (low + high) / 2 + (low - high) / 2 * torch.tanh(x)
