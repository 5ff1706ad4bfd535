"""One of two machines that train together; test_distributed.py starts both.

The chief writes a pickle of {case: (history, weights)}.
"""

import pickle
import sys

from lps_tf.training import multi_worker
from tests import halves

CASES = ("mnist_fc", "attack")


def fit(model, case, epochs=halves.EPOCHS, directory=None):
    train, val = halves.data(case, shuffled=True), halves.data(case)
    return multi_worker.fit(
        model, train, val, epochs=epochs, directory=directory, verbose=False
    )


def train(strategy, case, *options):
    with strategy.scope():
        model = halves.model(case)
    history = fit(model, case, *options)
    return history, [v.numpy() for v in model.weights]


def main(path):
    strategy = multi_worker.strategy_from_environment()
    # The one stops after an epoch, and a new model goes on from what it left.
    train(strategy, "mnist_fc", 1, f"{path}.state")
    results = {
        "mnist_fc": train(strategy, "mnist_fc", halves.EPOCHS, f"{path}.state"),
        "attack": train(strategy, "attack"),
    }
    if multi_worker.is_chief(strategy):
        with open(path, "wb") as file:
            pickle.dump(results, file)


if __name__ == "__main__":
    main(sys.argv[1])
