"""Running an experiment that learns a perturbation set."""

from collections.abc import Callable
from pathlib import Path

import keras
import tensorflow as tf

import lps_tf as lps
from lps_tf._internal import files
from lps_tf.datasets import PairData
from lps_tf.experiments import training
from lps_tf.experiments.settings import SetSettings
from lps_tf.experiments.stages import Stages
from lps_tf.experiments.training import MODEL
from lps_tf.training import multi_worker
from lps_tf.training.schedules import PiecewiseLinear


def run_set(
    run: Stages,
    settings: SetSettings,
    data: Callable[[], PairData],
    before: Path | None,
    strategy: tf.distribute.Strategy,
) -> dict:
    """Learns, calibrates, measures and exports a set, as far as it is not done.

    Args:
        run: Folder of the experiment.
        settings: Settings of the experiment.
        data: Function that returns the data, called only once they are needed.
        before: Folder of the experiment whose weights training starts from; None
            starts from random ones.
        strategy: Devices to train on. Of several machines, only the chief goes on from
            there.

    Returns:
        The results, for metrics.json.
    """
    s = settings

    def learn() -> dict:
        keras.utils.set_random_seed(s.seed)

        def make() -> lps.PerturbationSet:
            if before is not None:
                return keras.models.load_model(before / MODEL)
            return lps.PerturbationSet.from_network(
                s.network, likelihood=s.likelihood, seed=s.seed, **s.sizes
            )

        def adam(rate: PiecewiseLinear) -> keras.optimizers.Adam:
            return keras.optimizers.Adam(rate, weight_decay=s.weight_decay or None)

        learned = training.train(
            run,
            s,
            make,
            data().train_pairs,
            data().val_pairs,
            adam,
            strategy,
            beta=PiecewiseLinear(*s.beta),
        )
        return {"data": data().name, **learned}

    def calibrate() -> dict:
        pset = keras.models.load_model(run / MODEL)
        pset.calibrate(data().val_pairs, quantile="max")
        files.atomically(run / MODEL, pset.save)
        return pset.calibration

    def measure() -> dict:
        pset = keras.models.load_model(run / MODEL)
        pairs = data().test_pairs
        if s.limit is not None:
            # Batches evenly spaced, because neighbouring pairs may be of one image;
            # rounded up, so that they hold `limit` pairs.
            batches = -(-s.limit // s.batch_size)
            pairs = pairs.shard(max(1, len(pairs) // batches), 0)
            pairs = pairs.unbatch().take(s.limit).batch(s.batch_size)
        report = lps.quality.evaluate(
            pset,
            pairs,
            radius=s.radius,
            steps=s.steps,
            relative_step=0.05,
            num_samples=s.num_samples,
            seed=s.seed,
            verbose=run.verbose,
        )
        report.plot(run / "pictures")
        run.console.print(str(report), markup=False)
        return report.to_dict()

    def export() -> dict:
        pset = keras.models.load_model(run / MODEL)
        lps.export(pset, run / "saved_model")
        return {"folder": "saved_model"}

    learned = run.stage("learn", learn)
    if not multi_worker.is_chief(strategy):
        return {}
    return {
        **learned,
        "calibration": run.stage("calibrate", calibrate),
        "quality": run.stage("quality", measure),
        "export": run.stage("export", export),
    }
