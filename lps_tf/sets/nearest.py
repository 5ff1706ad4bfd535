"""The member of a perturbation set that is nearest to an image."""

from typing import Any, NamedTuple

import tensorflow as tf

from lps_tf._internal import checks
from lps_tf.sets import latent
from lps_tf.sets.protocol import EncodingSet, LatentSet, decode_compiled, require_radius
from lps_tf.sets.search import Look, Parameters, Problem, State, initial, search


class Nearest(NamedTuple):
    """What `nearest` has found.

    Attributes:
        u: Standardised latents, (batch, latent_dim).
        members: What they name, (batch, height, width, channels).
        error: Mean squared errors of the members from the images, (batch,).
    """

    u: tf.Tensor
    members: tf.Tensor
    error: tf.Tensor


def nearest(
    perturbation_set: LatentSet,
    x: Any,
    images: Any,
    *,
    radius: float | None = None,
    starts: int = 8,
    steps: int = 50,
    relative_step: float = 0.2,
    seed: int = 0,
) -> Nearest:
    """Searches the set of each x for the member with the least squared error.

    Projected gradient descent goes from several starts at once: the centre, the
    encoder's latent of a set that has an encoder, and random latents of the ball; the
    best of all is taken. Its steps shrink to zero in a straight line. What is found is
    an upper bound of the distance from the set.

    In a set of known formula it finds the parameters of the image: with a learned
    member as the image, how far a rotation, say, the learned set goes.

    Args:
        perturbation_set: Set to search, learned or of a formula.
        x: Images, (batch, height, width, channels) in [0, 1].
        images: What to come near to, of the shape of x.
        radius: Radius of the ball; None for the set's own.
        starts: Number of starts of each image.
        steps: Number of steps.
        relative_step: Length of the first step as a fraction of the radius.
        seed: Seed of the random starts.

    Raises:
        ValueError: If there is no radius, or the images are not of the shape of x.
    """
    radius = require_radius(perturbation_set, radius)
    starts = checks.count("starts", starts)
    steps = checks.count("steps", steps)
    relative_step = checks.positive("relative_step", relative_step)
    x, images = checks.images("x", x), checks.images("images", images)
    checks.same_shape("x", x, "images", images)
    batch, dim = len(x), perturbation_set.latent_dim
    rows = batch * starts  # the starts of one image are next to each other

    key = tf.constant([seed, 0])
    u = latent.sample_uniform_ball((rows, dim), radius, key)
    u = tf.reshape(u, (batch, starts, dim))
    known = [tf.zeros((batch, 1, dim))]
    if isinstance(perturbation_set, EncodingSet):
        encoded = latent.project(perturbation_set.encode(x, images), radius)
        known.insert(0, encoded[:, None])
    known = known[:starts]
    u = tf.reshape(tf.concat([*known, u[:, len(known) :]], 1), (rows, dim))

    conditioned = perturbation_set.condition(x)
    repeated = tf.nest.map_structure(lambda t: tf.repeat(t, starts, 0), conditioned)
    parameters = {
        "radius": tf.fill((rows,), tf.constant(radius)),
        "relative_step": tf.constant(relative_step),
        "all_steps": tf.constant(float(steps)),
        "sign": tf.constant(-1.0),  # downhill
    }
    problem = Problem(
        _shrinking_step,
        signed_error,
        perturbation_set,
        None,  # no classifier
        repeated,
        tf.repeat(images, starts, 0),
        parameters,
        tf.constant(steps + 1),  # the last step only looks at where the others led
    )
    found = search(problem, tf.constant(rows), initial(u))
    best = tf.argmax(tf.reshape(found["loss"], (batch, starts)), 1)
    worst = tf.reshape(found["worst"], (batch, starts, dim))
    u = tf.gather(worst, best, batch_dims=1)
    members = decode_compiled(perturbation_set, conditioned, u)
    return Nearest(u, members, squared_error(members, images))


def squared_error(image: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """Mean over pixels and channels of each image, (batch,)."""
    return tf.reduce_mean(tf.square(image - target), (1, 2, 3))


def signed_error(
    problem: Problem, u: tf.Tensor
) -> tuple[tf.Tensor, tuple[tf.Tensor, tf.Tensor]]:
    """The objective: the error times the "sign". No example is done early."""
    image = problem.perturbation_set.decode(problem.conditioned, u)
    value = problem.parameters["sign"] * squared_error(image, problem.y)
    return value, (value, tf.zeros_like(value, tf.bool))


def _shrinking_step(state: State, look: Look, parameters: Parameters) -> State:
    """A step of unit direction, shorter from step to step."""
    left = 1.0 - tf.cast(state["step"], tf.float32) / parameters["all_steps"]
    length = parameters["radius"] * parameters["relative_step"] * left
    u = state["u"] + length[:, None] * latent.unit(look.gradient)
    return {"u": latent.project(u, parameters["radius"])}
