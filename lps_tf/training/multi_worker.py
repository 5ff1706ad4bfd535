"""Training on several machines, or on whatever there is.

Keras's `fit` does several devices of one machine. On several machines it fails, in
Keras 3; `fit` here is a plain loop over the very same `train_step`:

    strategy = multi_worker.strategy_from_environment()
    with strategy.scope():
        pset = PerturbationSet.from_network("mnist_stn")
        pset.build((None, 42, 42, 1))
        pset.compile(keras.optimizers.Adam(1e-3))
    multi_worker.fit(pset, data.train_pairs, epochs=20, directory="runs/digits")

The program is started once on each machine, each with its own `TF_CONFIG`:

    {"cluster": {"worker": ["host1:2222", "host2:2222"]},
     "task": {"type": "worker", "index": 0}}

If a machine is lost, the others end with an error; started again, all of them, they
go on after the last whole epoch.
"""

import json
import os
from pathlib import Path
from typing import Any

import tensorflow as tf

from lps_tf._internal import checks, inputs
from lps_tf.training.backup import History, State
from lps_tf.training.checked_model import CheckedModel


def several_machines() -> bool:
    """Whether TF_CONFIG names more than one machine."""
    text = os.environ.get("TF_CONFIG") or "{}"
    try:
        cluster = json.loads(text).get("cluster", {})
    except json.JSONDecodeError as error:
        raise ValueError(f"TF_CONFIG must be JSON: {error}. Received: {text}") from None
    return sum(len(cluster.get(job, ())) for job in ("chief", "worker")) > 1


def strategy_from_environment() -> tf.distribute.Strategy:
    """All machines of TF_CONFIG, or all GPUs of this one, or its one device.

    On several machines, call it before TensorFlow does anything else; it waits until
    all of them are there. Build and compile models in its `scope()`.
    """
    if several_machines():
        return tf.distribute.MultiWorkerMirroredStrategy()
    if len(tf.config.list_physical_devices("GPU")) > 1:
        return tf.distribute.MirroredStrategy()
    return tf.distribute.get_strategy()


def wait_for_all(strategy: tf.distribute.Strategy) -> None:
    """Returns when all machines have come to this call."""
    if several_machines():
        _sum(strategy, 0)


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this machine is the one that writes files."""
    resolver = strategy.cluster_resolver
    if resolver is None or not several_machines():
        return True
    return resolver.task_type == "chief" or (
        resolver.task_id == 0 and not resolver.cluster_spec().as_dict().get("chief")
    )


def fit(
    model: CheckedModel,
    train: tf.data.Dataset,
    validation_data: tf.data.Dataset | None = None,
    *,
    epochs: int = 1,
    directory: str | Path | None = None,
    verbose: bool = True,
) -> History:
    """Trains a model on all machines that its strategy has.

    A batch is a batch of them all: each replica gets its share, so every machine has
    to iterate the same data in the same order; set the seed first, with
    `keras.utils.set_random_seed`. Losses and weights are those of one machine, but for
    the random numbers, of which each replica has its own.

    Args:
        model: A PerturbationSet or RobustClassifier, built and compiled in the scope
            of the strategy. XLA is not used.
        train: Batches for `train_step`, at least one example for each replica.
        validation_data: Batches to evaluate on after each epoch.
        epochs: Passes over the data.
        directory: Where the state is kept after each epoch, for a later call with the
            same arguments to go on from; all machines have to see it. None for no
            state. The data has to be made anew for that call.
        verbose: Whether the chief prints a line an epoch.

    Returns:
        What Keras's `History.history` would be.

    Raises:
        ValueError: For data that `model.fit` would refuse, or a directory that is
            not the same for all machines or has the state of another model.
    """
    strategy = model.distribute_strategy
    with strategy.scope():
        train, iterate = _prepared(model, train, training=True)
        if validation_data is not None:
            _, validate = _prepared(model, validation_data, training=False)
        model.optimizer.build(model.trainable_variables)
    state = directory and State(model, Path(directory) / "state.npz")
    first, history = state.restore() if state else (0, {})
    _require_equal(strategy, first)
    for _ in range(first):
        iter(train)
    for epoch in range(first, checks.count("epochs", epochs)):
        model.begin_epoch(epoch)
        logs = iterate()
        if validation_data is not None:
            model.begin_evaluation()
            logs |= {f"val_{name}": value for name, value in validate().items()}
        for name, value in logs.items():
            history.setdefault(name, []).append(value)
        if state and is_chief(strategy):
            state.save(epoch + 1, history)
        if verbose and is_chief(strategy):
            line = ", ".join(f"{name} {value:.4g}" for name, value in logs.items())
            print(f"epoch {epoch + 1}/{epochs}: {line}", flush=True)
    return history


def _prepared(model: CheckedModel, data: tf.data.Dataset, training: bool) -> tuple:
    """The data as it is iterated, and a function that does so and returns the logs."""
    strategy = model.distribute_strategy
    data = model.prepare(data).x
    if training:
        data = inputs.large_batches(data, strategy.num_replicas_in_sync)
    options = tf.data.Options()
    # Each machine reads all and takes its share of every batch.
    policy = tf.data.experimental.AutoShardPolicy.DATA
    options.experimental_distribute.auto_shard_policy = policy
    data = strategy.experimental_distribute_dataset(data.with_options(options))
    on_replica = model.train_step if training else model.test_step

    @tf.function(autograph=False, reduce_retracing=True)
    def step(batch: Any) -> None:
        strategy.run(on_replica, args=(batch,))

    def over_all() -> None:
        for batch in data:
            step(batch)

    def iterate() -> dict[str, float]:
        model.reset_metrics()
        inputs.readable(over_all)
        return {name: float(v) for name, v in model.get_metrics_result().items()}

    return data, iterate


def _require_equal(strategy: tf.distribute.Strategy, epoch: int) -> None:
    if _sum(strategy, epoch) != epoch * strategy.num_replicas_in_sync:
        raise ValueError(
            "`directory` must be one that all machines see: they would start at "
            f"different epochs. Received: a state of epoch {epoch} on this machine"
        )


def _sum(strategy: tf.distribute.Strategy, value: int) -> int:
    """Of the values that all replicas have."""
    values = strategy.run(lambda: tf.constant(value))
    return int(strategy.reduce(tf.distribute.ReduceOp.SUM, values, axis=None))
