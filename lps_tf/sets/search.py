"""The loop under every latent attack: start, gradient, normalise, step, project.

A search's state is a dict of tensors, one row for each example, so that examples may
be at different steps, in balls of different radius, on different losses. Attacks
differ in the rule that moves the latents and in the objective that they raise.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import tensorflow as tf

from lps_tf._internal import outputs, xla
from lps_tf.sets import latent
from lps_tf.sets.protocol import (
    Conditioned,
    LatentSet,
    decoded_shape,
    set_compiles,
)

State = dict[str, tf.Tensor]
Parameters = dict[str, tf.Tensor]


class Look(NamedTuple):
    """What a search sees at the latents it has come to.

    Attributes:
        value: Value of the objective, (batch,).
        gradient: Gradient of it, (batch, latent_dim); zeros for a rule without.
        misclassified: Whether examples are misclassified there, (batch,).
        loss: Loss by which latents are compared, (batch,).
    """

    value: tf.Tensor
    gradient: tf.Tensor
    misclassified: tf.Tensor
    loss: tf.Tensor


#: (state, look, parameters) -> what changes of the state. None as a rule looks at where
#: the search starts and goes nowhere.
UpdateRule = Callable[[State, Look, Parameters], State]


class AttackObjective(Protocol):
    """What a search raises, and when it has found what it looks for."""

    def __call__(
        self, problem: "Problem", u: tf.Tensor, /
    ) -> tuple[tf.Tensor, tuple[tf.Tensor, tf.Tensor]]:
        """The value to raise at latents u, and (loss, misclassified); all (batch,).

        The loss is that by which latents are compared.
        """
        ...


class Problem(NamedTuple):
    """What a search is for.

    Attributes:
        rule: How latents move.
        objective: What they raise.
        perturbation_set: Set that is searched.
        classifier: Classifier under attack; None if the objective needs none.
        conditioned: Images, as the set's `condition` gives them.
        y: Labels, or whatever the objective takes, (batch, ...).
        parameters: Numbers of the rule and the objective; "radius" (batch,) is one.
            The objective has "step" as well, the step of each example, int32 (batch,).
        steps: Steps of each example, an int32 scalar.
        uses_gradient: Whether the rule needs gradients; without, a step is cheaper.
    """

    rule: UpdateRule | None
    objective: AttackObjective
    perturbation_set: LatentSet
    classifier: Any
    conditioned: Conditioned
    y: tf.Tensor
    parameters: Parameters
    steps: tf.Tensor
    uses_gradient: bool = True


def initial(u: tf.Tensor) -> State:
    """The state of a search that starts at latents u, (batch, latent_dim)."""
    rows = tf.shape(u)[:1]
    return {
        "u": u,
        "step": tf.zeros(rows, tf.int32),
        "misclassified": tf.zeros(rows, tf.bool),
        "loss": tf.fill(rows, float("-inf")),
        "worst": u,
    }


def gradient_step(state: State, look: Look, parameters: Parameters) -> State:
    """The rule of plain gradient ascent: a step of one length, projected on the ball.

    Its length is the fraction "relative_step" of "radius", (batch,).
    """
    radius = parameters["radius"]
    step = (radius * parameters["relative_step"])[:, None]
    return {"u": latent.project(state["u"] + step * latent.unit(look.gradient), radius)}


def search(problem: Problem, enough: tf.Tensor, state: State) -> State:
    """Steps until enough examples are done: misclassified, or at their last step.

    It is traced once for a set, a classifier and a rule, and serves every radius,
    number of steps and seed. The graph goes with the classifier, or else with the set.

    Args:
        problem: What to search for.
        enough: Number of examples to wait for, an int32 scalar.
        state: What `initial` gives, and the rule's own.

    Returns:
        The state after it.
    """
    return xla.graph_of(_loop, _owner(problem))(problem, enough, state)


def _owner(problem: Problem) -> Any:
    """The model that the graphs of a search go with."""
    if problem.classifier is None:
        return problem.perturbation_set
    return problem.classifier


def _loop(problem: Problem, enough: tf.Tensor, state: State) -> State:
    advance: Callable[[Problem, State], State] = _step
    # One step at a time compiles fastest; XLA would run the loop itself slower.
    # Distribution strategies do without XLA.
    if not tf.distribute.has_strategy() and _compiles(problem):
        advance = xla.graph_of(_step, _owner(problem), jit_compile=True)

    def go_on(state: State) -> tf.Tensor:
        done = state["misclassified"] | (state["step"] >= problem.steps)
        return tf.reduce_sum(tf.cast(done, tf.int32)) < enough

    return tf.while_loop(go_on, lambda state: (advance(problem, state),), (state,))[0]


def _step(problem: Problem, state: State) -> State:
    active = ~state["misclassified"] & (state["step"] < problem.steps)
    look = _look(problem, state)
    found = look.misclassified | (look.loss > state["loss"])
    changed = {
        "misclassified": look.misclassified,
        "loss": tf.where(found, look.loss, state["loss"]),
        "worst": latent.where(found, state["u"], state["worst"]),
    }
    if problem.rule is not None:
        changed |= problem.rule(state, look, problem.parameters)
    changed["step"] = state["step"] + 1
    # Misclassified examples stay where they are.
    stays = changed["misclassified"]
    changed["u"] = latent.where(stays, state["u"], changed.get("u", state["u"]))
    return {
        name: latent.where(active, changed[name], before) if name in changed else before
        for name, before in state.items()
    }


def _look(problem: Problem, state: State) -> Look:
    parameters = {**problem.parameters, "step": state["step"]}
    problem = problem._replace(parameters=parameters)

    def at(u: tf.Tensor) -> tuple[tf.Tensor, tuple[tf.Tensor, tf.Tensor]]:
        return problem.objective(problem, u)

    if problem.rule is None or not problem.uses_gradient:
        value, (loss, wrong) = at(state["u"])
        return Look(value, tf.zeros_like(state["u"]), wrong, loss)
    value, (loss, wrong), gradient = latent.gradient_of(at, state["u"])
    return Look(value, gradient, wrong, loss)


def _compiles(problem: Problem) -> bool:
    """Whether XLA has a form of the set's and of the classifier's operations."""
    pset, conditioned = problem.perturbation_set, problem.conditioned
    if not set_compiles(pset, conditioned):
        return False
    if problem.classifier is None:
        return True
    shape = tuple(pset.image_shape)
    if None in shape:  # a set of images of any size: those at hand have one
        with tf.init_scope():
            shape = decoded_shape(pset, conditioned)
    return outputs.compiles(problem.classifier, shape)
