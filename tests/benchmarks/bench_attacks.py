"""Latent attacks and training against them: ours against the same in plain PyTorch.

All sides have the same networks, with the same random weights. Labels are what the
classifier predicts, and unless half of the examples are to be misclassified the ball is
too small for any: every step is then one of every example, on all sides.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from tests.benchmarks.harness import Benchmark, Work, elsewhere

SMALL = 1e-3
STEPS = 7
RELATIVE_STEP = 0.2
#: Where 50 steps misclassify about half of the examples that `half_robust` makes.
HALF = 0.53
LEARNING_RATE = 1e-3
#: The set, the classifier and the attack of `make demo`.
DEMO_SET = {"latent_dim": 8, "transformers": 3, "localisation": (128, 64)}
DEMO_FILTERS = (32, 64)
DEMO_SIGMA = 1.25


class Case(NamedTuple):
    """A perturbation set, a classifier and images, as PyTorch draws them at random.

    All in NumPy, so that PyTorch need not be loaded where ours runs.
    """

    network: str
    classifier: str
    sizes: dict[str, Any]  # of the classifier
    weights: tuple[dict, dict]  # of both
    x: Any  # (images, channels, height, width)
    y: Any


Draw = Callable[[int], Case]


def cifar10(images: int) -> Case:
    """Small photographs and a small wide ResNet."""
    sizes = {"depth": 16, "width": 2}
    return _case("cifar10_residual", "wide_resnet", sizes, (images, 3, 32, 32))


def mi(images: int) -> Case:
    """Scenes under other lights and the segmenter."""
    return _case("mi_unet", "unet", {}, (images, 3, 62, 93))


def half_robust(images: int) -> Case:
    """Images of which about half can be misclassified, one in four without an attack.

    They are classified correctly as they are and at the centre of their sets, as those
    of a trained set would be; then every fourth gets a wrong label. (The laptop's
    adversarial classifier of photographs misclassifies a third without an attack.) How
    many steps an image takes depends on its margin and on the loss around it.
    """
    import torch

    case = cifar10(12 * images)
    _, classifier, x, y = in_torch(case)
    with torch.no_grad():
        right = (classifier(x).argmax(1) == y).numpy()
    x, y = case.x[right][:images], case.y[right][:images]
    if len(x) < images:
        raise ValueError(f"Only {len(x)} of {images} images are predicted alike.")
    y[::4] = (y[::4] + 1) % 10
    return case._replace(x=x, y=y)


def _case(network: str, classifier: str, sizes: dict, shape: tuple) -> Case:
    """Networks that start at random, and images of noise."""
    import torch

    from tests.benchmarks import torch_networks

    torch.manual_seed(0)
    pset = getattr(torch_networks, network)().eval()
    model = getattr(torch_networks, classifier)(**sizes).eval()
    x = torch.rand(shape)
    with torch.no_grad():
        logits = model(pset.generator(x, pset.prior(x)[0]))
        # Or else the same class is predicted whatever happens.
        last = [m for m in model.modules() if hasattr(m, "bias")][-1]
        last.bias -= logits.transpose(0, 1).flatten(1).mean(1)
        y = model(pset.generator(x, pset.prior(x)[0])).argmax(1)
    weights = [
        {name: value.numpy() for name, value in m.state_dict().items()}
        for m in (pset, model)
    ]
    return Case(network, classifier, sizes, tuple(weights), x.numpy(), y.numpy())


def in_torch(case: Case) -> tuple:
    """Its set, classifier, images and labels in PyTorch."""
    import torch

    from tests.benchmarks import torch_networks

    models = (
        getattr(torch_networks, case.network)().eval(),
        getattr(torch_networks, case.classifier)(**case.sizes).eval(),
    )
    for model, weights in zip(models, case.weights, strict=True):
        model.load_state_dict({k: torch.tensor(v) for k, v in weights.items()})
    return (*models, torch.tensor(case.x), torch.tensor(case.y))


def in_keras(case: Case) -> tuple:
    """The same in ours; images are (images, height, width, channels)."""
    import numpy as np

    from lps_tf.serving import original

    kind = {"wide_resnet": "classifier_wide_resnet", "unet": "segmenter_unet"}
    models = (
        original.from_state_dict(case.weights[0], case.network),
        original.from_state_dict(case.weights[1], kind[case.classifier], **case.sizes),
    )
    return (*models, np.ascontiguousarray(np.moveaxis(case.x, 1, -1)), case.y)


def attacking(draw: Draw, batch: int) -> Work:
    """An attack on a batch, as training makes it."""
    import tensorflow as tf

    import lps_tf as lps

    pset, classifier, x, y = in_keras(elsewhere(draw, batch))
    attack = lps.LatentPGD(pset, radius=SMALL, steps=STEPS, relative_step=RELATIVE_STEP)
    compiled = tf.function(lambda x, y: attack(classifier, x, y))
    x, y = tf.constant(x), tf.constant(y)
    return lambda: compiled(x, y).numpy()


def peer_attacking(draw: Draw, batch: int, compiled: bool = False) -> Work:
    """The same in PyTorch."""
    import torch

    from tests.benchmarks import torch_attacks

    pset, classifier, x, y = in_torch(draw(batch))
    generator = pset.generator
    if compiled:
        generator, classifier = torch.compile(generator), torch.compile(classifier)
    options = {"radius": SMALL, "steps": STEPS, "step": SMALL * RELATIVE_STEP}
    networks = pset.prior, generator, classifier
    return lambda: torch_attacks.attack(*networks, x, y, **options)


def training(draw: Draw, batch: int) -> Work:
    """A step of `fit` on the worse of the clean and the perturbed loss."""
    import keras

    import lps_tf as lps

    pset, classifier, x, y = in_keras(elsewhere(draw, batch))
    attack = lps.LatentPGD(pset, radius=SMALL, steps=STEPS, relative_step=RELATIVE_STEP)
    sgd = keras.optimizers.SGD(LEARNING_RATE, momentum=0.9)
    return _step_of_fit(lps.RobustClassifier(classifier, attack), sgd, x, y)


def _step_of_fit(robust: Any, optimizer: Any, x: Any, y: Any) -> Work:
    import tensorflow as tf

    data = tf.data.Dataset.from_tensors((x, y)).repeat()
    robust.compile(optimizer, metrics=[], jit_compile=True)
    robust.fit(data, steps_per_epoch=1, verbose=0)
    iterator = iter(data)
    return lambda: float(robust.train_function(iterator)["loss"])


def peer_training(draw: Draw, batch: int, compiled: bool = False) -> Work:
    """The same in PyTorch."""
    import torch

    from tests.benchmarks import torch_attacks

    pset, classifier, x, y = in_torch(draw(batch))
    optimizer = torch.optim.SGD(classifier.parameters(), LEARNING_RATE, momentum=0.9)
    generator = pset.generator
    if compiled:
        generator, classifier = torch.compile(generator), torch.compile(classifier)
    options = {"radius": SMALL, "steps": STEPS, "step": SMALL * RELATIVE_STEP}
    networks = pset.prior, generator, classifier
    return lambda: torch_attacks.training_step(*networks, optimizer, x, y, **options)


def _digits(batch: int) -> tuple:
    """Images (batch, 42, 42, 1) and labels."""
    import numpy as np

    random = np.random.default_rng(0)
    return random.random((batch, 42, 42, 1), np.float32), random.integers(
        10, size=batch
    )


def demo(batch: int) -> Work:
    """A step of `fit` of the demo's robust classifier."""
    import keras

    import lps_tf as lps
    from lps_tf.networks import classifiers

    x, y = _digits(batch)
    attack = lps.SmoothedPGD(
        lps.PerturbationSet.from_network("mnist_stn", **DEMO_SET),
        DEMO_SIGMA,
        radius=1.5 * DEMO_SIGMA,
        steps=1,
        relative_step=1.0,
        num_samples=1,
    )
    classifier = classifiers.small_cnn((42, 42, 1), 10, DEMO_FILTERS)
    robust = lps.RobustClassifier(classifier, attack)
    return _step_of_fit(robust, keras.optimizers.Adam(LEARNING_RATE), x, y)


def peer_demo(batch: int, compiled: bool = False) -> Work:
    """The same in PyTorch."""
    import torch

    from tests.benchmarks import torch_attacks, torch_networks

    torch.manual_seed(0)
    x, y = (torch.tensor(a) for a in _digits(batch))
    x = x.permute(0, 3, 1, 2).contiguous()
    pset = torch_networks.mnist_stn(**DEMO_SET).eval()
    classifier = torch_networks.small_cnn(42, DEMO_FILTERS)
    adam = torch.optim.Adam(classifier.parameters(), LEARNING_RATE, fused=compiled)
    generator = pset.generator
    if compiled:
        generator, classifier = torch.compile(generator), torch.compile(classifier)
    return lambda: torch_attacks.smoothed_training_step(
        pset.prior,
        generator,
        classifier,
        adam,
        x,
        y,
        sigma=DEMO_SIGMA,
        radius=1.5 * DEMO_SIGMA,
    )


def evaluating(batch: int, batches: int, steps: int) -> Work:
    """An attack at full strength on a classifier that withstands it half the time.

    As many images as time allows: in a real evaluation, of thousands, the slots that
    run empty at its end weigh nothing.
    """
    import lps_tf as lps

    pset, classifier, x, y = in_keras(elsewhere(half_robust, batch * batches))
    attack = lps.LatentPGD(pset, radius=HALF, steps=steps, relative_step=0.05)
    return lambda: attack.run(classifier, x, y, batch_size=batch)


def peer_evaluating(batch: int, batches: int, steps: int) -> Work:
    """The same in PyTorch, one batch after the other."""
    from tests.benchmarks import torch_attacks

    pset, classifier, x, y = in_torch(half_robust(batch * batches))
    options = {"radius": HALF, "steps": steps, "step": HALF * 0.05}

    def work() -> None:
        for xs, ys in zip(x.split(batch), y.split(batch), strict=True):
            torch_attacks.attack(
                pset.prior, pset.generator, classifier, xs, ys, **options
            )

    return work


def _peers(build: Callable[..., Work], *arguments: Any) -> dict[str, partial]:
    return {
        "PyTorch": partial(build, *arguments),
        "torch.compile": partial(build, *arguments, compiled=True),
    }


BENCHMARKS = [
    Benchmark(
        "attack wide_resnet by cifar10_residual, 7 steps, batch 32",
        1.5,
        "batches/s",
        partial(attacking, cifar10, 32),
        _peers(peer_attacking, cifar10, 32),
    ),
    Benchmark(
        "attack unet by mi_unet, 7 steps, 62x93, batch 4",
        1.5,
        "batches/s",
        partial(attacking, mi, 4),
        _peers(peer_attacking, mi, 4),
    ),
    Benchmark(
        "train wide_resnet against cifar10_residual, 7 steps, batch 32",
        1.1,
        "steps/s",
        partial(training, cifar10, 32),
        _peers(peer_training, cifar10, 32),
    ),
    Benchmark(
        "train the demo's robust classifier, 1 step, batch 64",
        1.1,
        "steps/s",
        partial(demo, 64),
        _peers(peer_demo, 64),
    ),
    Benchmark(
        "evaluate wide_resnet, half misclassified in 50 steps, 192 images",
        4,
        "evaluations/s",
        partial(evaluating, 16, 12, 50),
        {"PyTorch": partial(peer_evaluating, 16, 12, 50)},
    ),
]
