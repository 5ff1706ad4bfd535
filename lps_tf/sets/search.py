"""The loop under every latent attack: start, gradient, normalise, step, project.

A search's state is a dict of tensors, one row for each example, so that examples may
be at different turns, in balls of different radius, on different losses. Attacks
differ in the rule that moves the latents and in the objective that they raise.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from lps_tf.sets import latent
from lps_tf.sets.perturbation_set import PerturbationSet
from lps_tf.sets.protocol import Conditioned

State = dict[str, tf.Tensor]

#: (state, value, direction, numbers) -> what changes of the state. `value` is the
#: objective at the latents and `direction` its unit gradient; None as a rule looks
#: at where the search starts and goes nowhere.
Rule = Callable[[State, tf.Tensor, tf.Tensor, dict], State]

#: (set, classifier, conditioned, y, numbers, u) -> value, (cross-entropy, wrong), each
#: (batch,).
Objective = Callable[..., tuple[tf.Tensor, tuple[tf.Tensor, tf.Tensor]]]


def initial(u: tf.Tensor) -> State:
    """The state of a search that starts at latents u, (batch, latent_dim)."""
    rows = tf.shape(u)[:1]
    return {
        "u": u,
        "turn": tf.zeros(rows, tf.int32),
        "beaten": tf.zeros(rows, tf.bool),
        "loss": tf.fill(rows, float("-inf")),
        "worst": u,
    }


# Both functions are traced once for a set, a classifier and a rule, and serve every
# radius, number of steps and seed. One turn at a time compiles fastest; XLA would run
# the loop itself slower. Distribution strategies do without XLA.


@tf.function(autograph=False, reduce_retracing=True)
def search(
    rule: Rule | None,
    objective: Objective,
    perturbation_set: PerturbationSet,
    classifier: Any,
    conditioned: Conditioned,
    y: tf.Tensor,
    numbers: dict[str, tf.Tensor],
    turns: tf.Tensor,
    enough: tf.Tensor,
    state: State,
) -> State:
    """Turns until enough examples are done: beaten, or at the end of their turns.

    Args:
        rule: how latents move.
        objective: what they raise.
        perturbation_set: the set that is searched.
        classifier: images to logits.
        conditioned: the images, as the set's `condition` gives them.
        y: labels, or whatever the objective takes.
        numbers: of the rule and the objective; "radius" (batch,) among them.
        turns: of each example, an int32 scalar.
        enough: number of examples, an int32 scalar.
        state: what `initial` gives, and the rule's own.

    Returns:
        The state after it.
    """
    fixed = (rule, objective, perturbation_set, classifier)
    fixed += (conditioned, y, numbers, turns)
    advance = _turn if tf.distribute.has_strategy() else _compiled_turn

    def go_on(state: State) -> tf.Tensor:
        done = state["beaten"] | (state["turn"] >= turns)
        return tf.reduce_sum(tf.cast(done, tf.int32)) < enough

    return tf.while_loop(go_on, lambda state: (advance(*fixed, state),), (state,))[0]


def _turn(
    rule: Rule | None,
    objective: Objective,
    perturbation_set: PerturbationSet,
    classifier: Any,
    conditioned: Conditioned,
    y: tf.Tensor,
    numbers: dict[str, tf.Tensor],
    turns: tf.Tensor,
    state: State,
) -> State:
    def at(u: tf.Tensor) -> tuple[tf.Tensor, tuple[tf.Tensor, tf.Tensor]]:
        return objective(perturbation_set, classifier, conditioned, y, numbers, u)

    active = ~state["beaten"] & (state["turn"] < turns)
    changed = {}
    with perturbation_set.uncompiled():
        if rule is None:
            _, (loss, wrong) = at(state["u"])
        else:
            value, (loss, wrong), direction = latent.ascent_direction(at, state["u"])
            changed = rule(state, value, direction, numbers)
    changed["turn"] = state["turn"] + 1
    # Beaten examples stay where they are.
    changed["u"] = latent.where(wrong, state["u"], changed.get("u", state["u"]))
    changed["beaten"] = wrong
    found = wrong | (loss > state["loss"])
    changed["loss"] = tf.where(found, loss, state["loss"])
    changed["worst"] = latent.where(found, state["u"], state["worst"])
    return {
        name: latent.where(active, changed[name], before) if name in changed else before
        for name, before in state.items()
    }


_compiled_turn = tf.function(
    _turn, jit_compile=True, autograph=False, reduce_retracing=True
)
