"""The benchmark's attack in PyTorch does what the paper says, step by step."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tests.benchmarks import torch_attacks  # noqa: E402

RADIUS, STEP, STEPS = 1.5, 0.6, 7
BATCH, LATENT, PIXELS, CLASSES = 6, 4, 5, 3


class Linear:
    """A set and a classifier whose gradients are short to write down.

    perturb(x, u) = x + (mean + std u) W, logits = image C.
    """

    def __init__(self):
        random = np.random.RandomState(0)
        self.x = random.normal(size=(BATCH, PIXELS))
        self.start = random.normal(size=(BATCH, LATENT)) / 4
        self.w = random.normal(size=(LATENT, PIXELS)) / 2
        self.mean = random.normal(size=(BATCH, LATENT)) / 4
        self.logvar = random.normal(size=(BATCH, LATENT)) / 2
        self.c = random.normal(size=(PIXELS, CLASSES))
        logits = self.perturb(self.start) @ self.c
        # The last example is misclassified from the start.
        self.y = logits.argmax(1)
        self.y[-1] = logits[-1].argmin()

    def perturb(self, u):
        return self.x + (self.mean + np.exp(self.logvar / 2) * u) @ self.w

    def prior(self, x):
        return torch.tensor(self.mean), torch.tensor(self.logvar)

    def generator(self, x, z):
        return x + z @ torch.tensor(self.w)

    def classifier(self):
        model = torch.nn.Linear(PIXELS, CLASSES, bias=False, dtype=torch.float64)
        model.weight.data = torch.tensor(self.c.T)
        return model

    def attack(self, **options):
        numbers = {"radius": RADIUS, "steps": STEPS, "step": STEP, **options}
        tensors = torch.tensor(self.x), torch.tensor(self.y)
        networks = self.prior, self.generator, self.classifier()
        images, u = torch_attacks.attack(*networks, *tensors, **numbers)
        return images.detach().numpy(), u.numpy()

    def error(self, images):
        """Softmax less labels, and the cross-entropies."""
        logits = images @ self.c
        p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        return p - np.eye(CLASSES)[self.y], -np.log(p[range(BATCH), self.y])


def expected(case):
    """The attack of one example after the other."""
    std, found, moves = np.exp(case.logvar / 2), case.start.copy(), []
    for i in range(BATCH):
        moves.append(0)
        for _ in range(STEPS):
            images = case.perturb(found)
            if (images[i] @ case.c).argmax() != case.y[i]:
                break
            moves[i] += 1
            gradient = std[i] * (case.w @ case.c @ case.error(images)[0][i])
            u = found[i] + STEP * gradient / np.linalg.norm(gradient)
            found[i] = u * min(1, RADIUS / np.linalg.norm(u))
    return found, moves


def test_the_attack_is_normalised_ascent_in_the_ball_of_each_example():
    case = Linear()
    images, u = case.attack(start=torch.tensor(case.start))
    by_hand, moves = expected(case)
    np.testing.assert_allclose(u, by_hand, atol=1e-6)
    np.testing.assert_allclose(images, case.perturb(by_hand), atol=1e-6)
    # All that can happen does: never moved, stopped on the way, held at the border.
    assert moves[-1] == 0 and any(0 < m < STEPS for m in moves) and STEPS in moves
    assert np.isclose(np.linalg.norm(u, axis=1), RADIUS).any()


def test_starts_fill_the_ball():
    torch.manual_seed(0)
    norms = torch_attacks.random_start(torch.zeros(4000, 16), 2.0).norm(dim=1)
    # The norm is uniform up to the radius.
    quantiles = np.quantile(norms.numpy(), [0.1, 0.5, 0.9, 1])
    np.testing.assert_allclose(quantiles, [0.2, 1, 1.8, 2], atol=0.06)


def test_it_ends_when_all_are_misclassified():
    case, calls = Linear(), []
    logits = case.perturb(case.start) @ case.c
    case.y = logits.argmin(1)
    generator = case.generator
    case.generator = lambda x, z: calls.append(0) or generator(x, z)
    case.attack(start=torch.tensor(case.start))
    assert len(calls) == 2  # one look, and the images that are returned


def test_one_correct_pixel_keeps_an_image_in_the_attack():
    logits = torch.zeros(2, 3, 2, 2)
    logits[:, 1] = 1
    y = torch.zeros(2, 2, 2, dtype=torch.long)
    y[1, 0, 1] = 1
    assert torch_attacks.still_correct(logits, y).tolist() == [False, True]


def test_a_training_step_follows_the_worse_loss(monkeypatch):
    case = Linear()
    images, _ = case.attack(start=torch.tensor(case.start))
    # As if the attack had failed for some: then the clean loss counts.
    images[::2] = case.x[::2] - 0.5 * (images[::2] - case.x[::2])
    monkeypatch.setattr(
        torch_attacks, "attack", lambda *_, **__: (torch.tensor(images), None)
    )
    model = case.classifier()
    loss = torch_attacks.training_step(
        *(case.prior, case.generator, model, torch.optim.SGD(model.parameters(), 1.0)),
        *(torch.tensor(case.x), torch.tensor(case.y)),
        radius=RADIUS,
        steps=STEPS,
        step=STEP,
    )
    losses = [case.error(case.x)[1], case.error(images)[1]]
    worse = np.argmax(losses, 0)
    assert set(worse) == {0, 1}
    assert loss == pytest.approx(np.max(losses, 0).mean())
    chosen = np.where(worse[:, None], images, case.x)
    gradient = chosen.T @ case.error(chosen)[0] / BATCH
    np.testing.assert_allclose(model.weight.detach().T, case.c - gradient, atol=1e-9)


def test_a_smoothed_step_trains_at_the_noise_around_the_attack(monkeypatch):
    """Of what takes one step of the radius at the noise, and goes there again."""
    case, sigma = Linear(), 0.3
    noise = np.random.RandomState(1).normal(size=case.start.shape)
    monkeypatch.setattr(torch, "randn_like", lambda _: torch.tensor(noise))
    start = torch.tensor(case.start)
    monkeypatch.setattr(torch_attacks, "random_start", lambda *_: start)
    beside = case.perturb(case.start + sigma * noise)
    case.y = (beside @ case.c).argmax(1)  # all are correct, and move
    model = case.classifier()
    loss = torch_attacks.smoothed_training_step(
        *(case.prior, case.generator, model, torch.optim.SGD(model.parameters(), 1.0)),
        *(torch.tensor(case.x), torch.tensor(case.y)),
        sigma=sigma,
        radius=RADIUS,
    )
    gradient = case.error(beside)[0] @ case.c.T @ case.w.T * np.exp(case.logvar / 2)
    u = case.start + RADIUS * gradient / np.linalg.norm(gradient, axis=1)[:, None]
    u *= np.minimum(1, RADIUS / np.linalg.norm(u, axis=1))[:, None]
    images = case.perturb(u + sigma * noise)
    errors, losses = case.error(images)
    assert loss == pytest.approx(losses.mean(), rel=1e-6)
    expected = case.c - images.T @ errors / BATCH
    np.testing.assert_allclose(model.weight.detach().T, expected, atol=1e-6)


def test_a_small_classifier_has_our_sizes():
    from lps_tf.networks import classifiers
    from tests.benchmarks import torch_networks

    for side in (42, 28):
        ours = classifiers.small_cnn((side, side, 1), 10, (4, 6), units=8)
        theirs = torch_networks.small_cnn(side, (4, 6), units=8)
        counts = [p.numel() for p in theirs.parameters()]
        assert sum(counts) == ours.count_params()
        assert theirs(torch.zeros(2, 1, side, side)).shape == (2, 10)


@pytest.mark.slow
def test_both_sides_of_an_attack_find_the_same(monkeypatch):
    """From the same start, in the networks of the benchmark."""
    import tensorflow as tf

    import lps_tf as lps
    from lps_tf.sets import latent
    from tests.benchmarks import bench_attacks

    case = bench_attacks.cifar10(4)
    pset, classifier, x, y = bench_attacks.in_keras(case)
    attack = lps.LatentPGD(pset, radius=0.1, steps=3, relative_step=0.2)
    start = np.random.RandomState(0).normal(size=(4, pset.latent_dim)) / 500
    start = start.astype(np.float32)
    monkeypatch.setattr(latent, "sample_uniform_radius", lambda *_: tf.constant(start))
    x, y = tf.constant(x), tf.constant(y)
    ours = attack.find(classifier, pset.condition(x), y).numpy()
    peer, classifier, x, y = bench_attacks.in_torch(case)
    _, theirs = torch_attacks.attack(
        *(peer.prior, peer.generator, classifier, x, y),
        radius=0.1,
        steps=3,
        step=0.02,
        start=torch.tensor(start),
    )
    error = np.linalg.norm(ours - theirs.numpy(), axis=1)
    # Rounding turns single ReLUs on or off.
    assert (error < 0.02 * np.linalg.norm(theirs.numpy() - start, axis=1)).all()
