"""Two processes on this machine train as one would on the same batches."""

import json
import os
import pickle
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lps_tf import experiments
from lps_tf.experiments import training
from lps_tf.training import multi_worker
from tests import halves
from tests.training import killed, on_two_machines

ROOT = Path(__file__).parents[2]


def free_ports(count):
    sockets = [socket.create_server(("localhost", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def run_machines(*command):
    workers = [f"localhost:{port}" for port in free_ports(2)]
    processes = []
    for index in range(2):
        task = {"type": "worker", "index": index}
        config = {"cluster": {"worker": workers}, "task": task}
        environment = {"PYTHONPATH": str(ROOT), "TF_CONFIG": json.dumps(config)}
        processes.append(
            subprocess.Popen(
                [sys.executable, *map(str, command)],
                env={**os.environ, **environment},
            )
        )
    try:
        assert [process.wait(timeout=300) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    path = tmp_path_factory.mktemp("two_machines") / "results"
    run_machines(on_two_machines.__file__, path)
    return pickle.loads(path.read_bytes())


@pytest.mark.slow
@pytest.mark.parametrize("case", on_two_machines.CASES)
def test_two_machines_train_as_one(results, case):
    halves.assert_same_training(case, *results[case], fit=on_two_machines.fit)


@pytest.mark.slow
def test_the_command_line_runs_an_experiment_on_two_machines(tmp_path):
    command = ["-m", "lps_tf", "run", "mnist_linf_fc", "--scale", "quick", "--output"]
    run_machines(*command, tmp_path / "two")
    one = experiments.run("mnist_linf_fc", "quick", tmp_path / "one", verbose=False)
    two = json.loads((tmp_path / "two/mnist_linf_fc/metrics.json").read_text())
    assert two["settings"] == one["settings"] and two["steps"] == one["steps"]
    # The same batches; each machine draws its own noise.
    logs = [
        training.read_log(tmp_path / folder / "mnist_linf_fc/log.csv")
        for folder in ("one", "two")
    ]
    for name in ("loss", "reconstruction", "val_loss"):
        epochs, losses = zip(*logs[0][name], strict=True)
        again = [loss for epoch, loss in logs[1][name] if epoch in epochs]
        np.testing.assert_allclose(again, losses, rtol=0.02)
    assert two["quality"]["pgd_ae"] == pytest.approx(one["quality"]["pgd_ae"], rel=0.1)
    assert (tmp_path / "two/mnist_linf_fc/report.html").exists()
    # Nothing is left to do, on either of them.
    run_machines(*command, tmp_path / "two")


@pytest.mark.slow
def test_one_machine_goes_on_from_a_state(tmp_path, capsys):
    def fit(epochs, directory=None, kind="set"):
        model = killed.model(kind)
        data = killed.data(kind)
        history = multi_worker.fit(model, data, epochs=epochs, directory=directory)
        return model, history

    whole, history = fit(3)
    fit(1, tmp_path)
    resumed, again = fit(3, tmp_path)
    assert again == history and len(again["loss"]) == 3
    for a, b in zip(whole.weights, resumed.weights, strict=True):
        np.testing.assert_array_equal(a, b)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        *(f"epoch {i}/3" for i in (1, 2, 3)),
        "epoch 1/1",
        *(f"epoch {i}/3" for i in (2, 3)),
    ]
    with pytest.raises(ValueError, match="the state of another"):
        fit(3, tmp_path, "augmentation")


def test_strategies_without_several_machines(monkeypatch):
    task = {"task": {"type": "worker", "index": 0}}
    for config in (None, {}, {"cluster": {"worker": ["localhost:1"]}, **task}):
        monkeypatch.delenv("TF_CONFIG", raising=False)
        if config is not None:
            monkeypatch.setenv("TF_CONFIG", json.dumps(config))
        strategy = multi_worker.strategy_from_environment()
        assert strategy.num_replicas_in_sync == 1 and multi_worker.is_chief(strategy)
    monkeypatch.setenv("TF_CONFIG", "{")
    with pytest.raises(ValueError, match="TF_CONFIG"):
        multi_worker.strategy_from_environment()
