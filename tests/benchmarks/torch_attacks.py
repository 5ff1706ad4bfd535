"""The attack in the latent ball and training against it, in plain PyTorch.

The loops that the paper describes, as its released code runs them: the prior once, then
for each step the whole generator, a backward pass that reaches the weights of both
networks too, and all examples until the last is misclassified. The projection is the
paper's, of each example; the released one, along the other axis, costs the same.
"""

import torch
import torch.nn.functional as F


def attack(
    prior, generator, classifier, x, y, *, radius, steps, step, start=None, noise=0.0
):
    """Perturbed images and their latents (batch, latent), by projected ascent.

    All networks must be in evaluation mode. `start` is random unless it is given.
    Images are those at the latents plus the noise.
    """
    with torch.no_grad():
        mean, logvar = prior(x)
        std = torch.exp(0.5 * logvar)
        u = random_start(mean, radius) if start is None else start
    for _ in range(steps):
        u = u.detach().requires_grad_()
        logits = classifier(generator(x, mean + std * (u + noise)))
        moving = still_correct(logits, y)
        if not moving.any():
            break
        F.cross_entropy(logits, y).backward()
        with torch.no_grad():
            direction = F.normalize(u.grad)
            moved = torch.renorm(u + step * direction, 2, 0, radius)
            u = torch.where(moving[:, None], moved, u)
    with torch.no_grad():
        return generator(x, mean + std * (u + noise)), u.detach()


def random_start(mean, radius):
    """A uniform direction times a uniform fraction of the radius."""
    direction = F.normalize(torch.randn_like(mean))
    return radius * torch.rand(len(mean), 1) * direction


def still_correct(logits, y):
    """Whether an example, or one of its pixels, is classified correctly, (batch,)."""
    return (logits.argmax(1) == y).view(len(y), -1).any(1)


def training_step(prior, generator, classifier, optimizer, x, y, **options):
    """An attack, then a step on the worse of the clean and the perturbed loss."""
    classifier.eval()
    x_perturbed, _ = attack(prior, generator, classifier, x, y, **options)
    classifier.train()
    optimizer.zero_grad()
    clean = example_losses(classifier(x), y)
    perturbed = example_losses(classifier(x_perturbed), y)
    loss = torch.maximum(clean, perturbed).mean()
    loss.backward()
    optimizer.step()
    return loss.item()


def smoothed_training_step(
    prior, generator, classifier, optimizer, x, y, *, sigma, radius
):
    """One long step of attack from a random member, then a step on what it found.

    Of SmoothAdv with one noise: -log of the mean softmax is the cross-entropy.
    """
    classifier.eval()
    with torch.no_grad():
        found = prior(x)
    noise = sigma * torch.randn_like(found[0])
    networks = (lambda _: found), generator, classifier
    options = {"radius": radius, "steps": 1, "step": radius, "noise": noise}
    x_perturbed, _ = attack(*networks, x, y, **options)
    classifier.train()
    optimizer.zero_grad()
    loss = F.cross_entropy(classifier(x_perturbed), y)
    loss.backward()
    optimizer.step()
    return loss.item()


def example_losses(logits, y):
    """The cross-entropy of each example, the mean over its pixels, (batch,)."""
    losses = F.cross_entropy(logits, y, reduction="none")
    return losses.view(len(y), -1).mean(1)
