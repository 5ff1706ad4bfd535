"""Latent attacks and training against them: ours against the same in plain PyTorch.

Both sides have the same networks, with the same random weights. Labels are what the
classifier predicts, and unless half of the examples are to be misclassified the ball is
too small for any: every step is then one of every example, on both sides.
"""

from functools import partial
from typing import NamedTuple

from tests.benchmarks.harness import Benchmark, Sides

SMALL = 1e-3
STEPS = 7
RELATIVE_STEP = 0.2
#: Where 50 steps misclassify about half of the examples that `half_robust` makes.
HALF = 0.53
LEARNING_RATE = 1e-3


class Pair(NamedTuple):
    """A perturbation set and a classifier on both sides, images and labels."""

    pset: object
    classifier: object
    peer_pset: object
    peer_classifier: object
    x: object  # PyTorch's
    y: object


def cifar10(batch: int) -> Pair:
    """Small photographs and a small wide ResNet."""
    sizes = {"depth": 16, "width": 2}
    return pair("cifar10_residual", "wide_resnet", sizes, (batch, 3, 32, 32))


def mi(batch: int) -> Pair:
    """Scenes under other lights and the segmenter."""
    return pair("mi_unet", "unet", {}, (batch, 3, 62, 93))


def pair(network: str, classifier: str, sizes: dict, shape: tuple) -> Pair:
    """Networks that start at random, and images of noise."""
    import torch

    from lps_tf.serving import original
    from tests.benchmarks import torch_networks

    torch.manual_seed(0)
    peer_pset = getattr(torch_networks, network)().eval()
    peer_classifier = getattr(torch_networks, classifier)(**sizes).eval()
    x = torch.rand(shape)
    with torch.no_grad():
        logits = peer_classifier(peer_pset.generator(x, peer_pset.prior(x)[0]))
        # Or else the same class is predicted whatever happens.
        last = [m for m in peer_classifier.modules() if hasattr(m, "bias")][-1]
        last.bias -= logits.transpose(0, 1).flatten(1).mean(1)
        y = peer_classifier(peer_pset.generator(x, peer_pset.prior(x)[0])).argmax(1)
    kind = {"wide_resnet": "classifier_wide_resnet", "unet": "segmenter_unet"}
    return Pair(
        original.from_state_dict(arrays(peer_pset), network),
        original.from_state_dict(arrays(peer_classifier), kind[classifier], **sizes),
        peer_pset,
        peer_classifier,
        x,
        y,
    )


def arrays(model) -> dict:
    """The weights of a PyTorch model."""
    return {name: value.numpy() for name, value in model.state_dict().items()}


def channels_last(x):
    """PyTorch's images as TensorFlow takes them."""
    return x.permute(0, 2, 3, 1).numpy()


def attacking(networks, batch: int) -> Sides:
    """An attack on a batch, as training makes it."""
    import tensorflow as tf
    import torch

    import lps_tf as lps
    from tests.benchmarks import torch_attacks

    p = networks(batch)
    attack = lps.LatentPGD(
        p.pset, radius=SMALL, steps=STEPS, relative_step=RELATIVE_STEP
    )
    ours = tf.function(lambda x, y: attack(p.classifier, x, y))
    x, y = tf.constant(channels_last(p.x)), tf.constant(p.y.numpy())
    compiled = [torch.compile(m) for m in (p.peer_pset.generator, p.peer_classifier)]

    def peer(generator=p.peer_pset.generator, classifier=p.peer_classifier) -> None:
        torch_attacks.attack(
            p.peer_pset.prior,
            generator,
            classifier,
            p.x,
            p.y,
            radius=SMALL,
            steps=STEPS,
            step=SMALL * RELATIVE_STEP,
        )

    extra = {"torch.compile": partial(peer, *compiled)}
    return Sides(lambda: ours(x, y).numpy(), peer, extra)


def training(networks, batch: int) -> Sides:
    """A step of `fit` on the worse of the clean and the perturbed loss."""
    import keras
    import tensorflow as tf
    import torch

    import lps_tf as lps
    from tests.benchmarks import torch_attacks

    p = networks(batch)
    attack = lps.LatentPGD(
        p.pset, radius=SMALL, steps=STEPS, relative_step=RELATIVE_STEP
    )
    data = tf.data.Dataset.from_tensors((channels_last(p.x), p.y.numpy())).repeat()
    robust = lps.RobustClassifier(p.classifier, attack)
    sgd = keras.optimizers.SGD(LEARNING_RATE, momentum=0.9)
    robust.compile(sgd, metrics=[], jit_compile=True)
    robust.fit(data, steps_per_epoch=1, verbose=0)
    iterator = iter(data)

    optimizer = torch.optim.SGD(
        p.peer_classifier.parameters(), LEARNING_RATE, momentum=0.9
    )
    compiled = [torch.compile(m) for m in (p.peer_pset.generator, p.peer_classifier)]

    def peer(generator=p.peer_pset.generator, classifier=p.peer_classifier) -> None:
        torch_attacks.training_step(
            p.peer_pset.prior,
            generator,
            classifier,
            optimizer,
            p.x,
            p.y,
            radius=SMALL,
            steps=STEPS,
            step=SMALL * RELATIVE_STEP,
        )

    return Sides(
        lambda: float(robust.train_function(iterator)["loss"]),
        peer,
        {"torch.compile": partial(peer, *compiled)},
    )


def half_robust(images: int) -> Pair:
    """Images of which about half can be misclassified, one in four without an attack.

    They are classified correctly as they are and at the centre of their sets, as those
    of a trained set would be; then every fourth gets a wrong label. (The laptop's
    adversarial classifier of photographs misclassifies a third without an attack.) How
    many steps an image takes depends on its margin and on the loss around it.
    """
    import torch

    p = cifar10(12 * images)
    with torch.no_grad():
        right = p.peer_classifier(p.x).argmax(1) == p.y
    x, y = p.x[right][:images], p.y[right][:images]
    if len(x) < images:
        raise ValueError(f"Only {len(x)} of {images} images are predicted alike.")
    y[::4] = (y[::4] + 1) % 10
    return p._replace(x=x, y=y)


def evaluating(batch: int, batches: int, steps: int) -> Sides:
    """An attack at full strength on a classifier that withstands it half the time.

    As many images as time allows: in a real evaluation, of thousands, the slots that
    run empty at its end weigh nothing.
    """
    import lps_tf as lps
    from tests.benchmarks import torch_attacks

    p = half_robust(batch * batches)
    attack = lps.LatentPGD(p.pset, radius=HALF, steps=steps, relative_step=0.05)
    x, y = channels_last(p.x), p.y.numpy()

    def peer() -> None:
        for xs, ys in zip(p.x.split(batch), p.y.split(batch), strict=True):
            torch_attacks.attack(
                p.peer_pset.prior,
                p.peer_pset.generator,
                p.peer_classifier,
                xs,
                ys,
                radius=HALF,
                steps=steps,
                step=HALF * 0.05,
            )

    return Sides(lambda: attack.run(p.classifier, x, y, batch_size=batch), peer)


BENCHMARKS = [
    Benchmark(
        "attack wide_resnet by cifar10_residual, 7 steps, batch 32",
        2,
        "batches/s",
        partial(attacking, cifar10, 32),
        needs_torch=True,
    ),
    Benchmark(
        "attack unet by mi_unet, 7 steps, 62x93, batch 4",
        2,
        "batches/s",
        partial(attacking, mi, 4),
        needs_torch=True,
    ),
    Benchmark(
        "train wide_resnet against cifar10_residual, 7 steps, batch 32",
        1.8,
        "steps/s",
        partial(training, cifar10, 32),
        needs_torch=True,
    ),
    Benchmark(
        "evaluate wide_resnet, half misclassified in 50 steps, 192 images",
        4,
        "evaluations/s",
        partial(evaluating, 16, 12, 50),
        needs_torch=True,
    ),
]
