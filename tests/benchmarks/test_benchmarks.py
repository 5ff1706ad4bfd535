"""The benchmarks compare the same networks, and the harness counts right."""

import functools
import io
import json
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest

from lps_tf.serving import original
from tests.benchmarks import __main__ as command
from tests.benchmarks import harness
from tests.networks.test_against_original import CASES, CLASSIFIERS, GOLDEN, state_dict

ROOT = Path(__file__).parents[2]


# The harness, with pretended work that another process can unpickle by itself.

nap = functools.partial(functools.partial, time.sleep)
refused = functools.partial(int, "word")  # raises ValueError


def pretended(extra=None):
    return functools.partial(harness.Sides, nap(0.01), nap(0.02), extra or {})


GOOD = harness.Benchmark("good", 1.5, "naps/s", pretended())
BAD = harness.Benchmark("bad", 1.0, "naps/s", refused)


def test_speeds_are_calls_a_second_and_the_ratio_is_theirs():
    build = pretended({"slow": nap(0.04), "none": refused})
    benchmark = harness.Benchmark("naps", 1.5, "naps/s", build)
    result = harness.measure(benchmark, seconds=0.1, rounds=3)
    # Sleeping takes no less than it is told, so these bounds hold on a busy machine.
    assert result["ours"] <= 100 and result["peer"] <= 50
    assert result["extra"]["slow"] <= 25
    assert result["ratio"] == result["ours"] / result["peer"]
    assert result["extra"]["none"].startswith("ValueError: invalid literal")
    assert (result["goal"], result["unit"]) == (1.5, "naps/s")


def test_the_reason_of_a_failure_is_one_line():
    assert harness.reason(OSError("no compiler\nand so on")) == "OSError: no compiler"
    assert harness.reason(KeyError()) == "KeyError"


def test_sides_take_turns_and_the_median_turn_counts(monkeypatch):
    clock, log = [0.0], []
    # Ours takes 1 s, but 9 s in its second turn; the peer 3 s.
    durations = {"ours": iter([50, 1, 1, 1, 9, 9, 1, 1]), "peer": iter([3] * 8)}

    def work(name):
        log.append(name)
        clock[0] += next(durations[name])

    monkeypatch.setattr(harness.time, "perf_counter", lambda: clock[0])
    sides = harness.Sides(lambda: work("ours"), lambda: work("peer"))
    benchmark = harness.Benchmark("turns", 1.0, "calls/s", lambda: sides)
    result = harness.measure(benchmark, seconds=2, rounds=3)
    # One call to warm up and one to time; then turns of two seconds, or one call.
    assert log == ["ours"] * 2 + ["peer"] * 2 + ["ours", "ours", "peer"] * 3
    assert result["ours"] == 1.0
    assert result["peer"] == pytest.approx(1 / 3)
    assert result["ratio"] == pytest.approx(3)


def test_slow_sides_get_three_turns(monkeypatch):
    clock, calls = [0.0], []

    def work():
        clock[0] += 20
        calls.append(clock[0])

    monkeypatch.setattr(harness.time, "perf_counter", lambda: clock[0])
    benchmark = harness.Benchmark("slow", 1.0, "s", lambda: harness.Sides(work, work))
    harness.measure(benchmark, rounds=9)
    assert len(calls) == 2 * (2 + 3)


def run(known, path, *names):
    options = ["--seconds", "0.01", "--rounds", "1", "--output", str(path)]
    return command.main([*names, *options], known)


def test_a_failure_is_reported_and_the_others_go_on(tmp_path, capfd):
    path = tmp_path / "runs" / "bench.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"older": {"ratio": 2.0}, "good": {"ratio": -1}}))
    assert run([BAD, GOOD], path) == 1
    saved = json.loads(path.read_text())
    assert saved.keys() == {"older", "good"}
    assert saved["older"] == {"ratio": 2.0}
    assert saved["good"]["ours"] > 0
    printed = capfd.readouterr().out
    assert "bad: ValueError: invalid literal" in printed
    assert f"{saved['good']['ratio']:.2f}" in printed


def test_without_torch_the_others_run(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(command.importlib.util, "find_spec", lambda name: None)
    torch = harness.Benchmark("torch", 1.0, "naps/s", pretended(), needs_torch=True)
    path = tmp_path / "bench.json"
    assert run([torch, GOOD], path) == 1
    assert json.loads(path.read_text()).keys() == {"good"}
    assert "pip install 'lps_tf[original]'" in capfd.readouterr().out
    assert run([torch, GOOD], path, "goo") == 0


def test_an_unknown_name_is_refused(capsys):
    with pytest.raises(SystemExit):
        command.main(["nothing"], [GOOD])
    assert "no benchmark has 'nothing' in its name" in capsys.readouterr().err


def test_the_table_shows_failures_and_extras():
    from rich.console import Console

    result = {"ours": 3.0, "peer": 2.0, "ratio": 1.5, "goal": 1.4, "unit": "steps/s"}
    result["extra"] = {"fast": 6.0, "gone": "OSError: [no] compiler"}
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(harness.table({"name": result}))
    lines = console.export_text().splitlines()
    (row,) = [line for line in lines if "name" in line]
    (fast,) = [line for line in lines if "fast" in line]
    assert [c.strip() for c in row.strip("│").split("│")][1:4] == ["3", "2", "steps/s"]
    assert "1.50" in row and "1.40" in row and "0.50" in fast
    assert any("gone: OSError: [no] compiler" in line for line in lines)


def test_listing_is_cheap_and_names_are_unique():
    script = (
        "import sys\n"
        "from tests.benchmarks.__main__ import main\n"
        "main(['--list'])\n"
        "heavy = {'tensorflow', 'keras', 'torch'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    listed = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, check=True, capture_output=True
    )
    names = listed.stdout.decode().splitlines()
    assert "train mnist_stn, batch 128" in names
    assert len(set(names)) == len(names)


# The peers in PyTorch. What they are held to is what test_original.py holds ours to.

SETS = ("cifar10_residual_small", "mi_unet_small_double", "mi_unet_small_same")
SETS += ("mnist_stn",)


def with_original_weights(name, model):
    torch = pytest.importorskip("torch")
    weights = {k: torch.tensor(v) for k, v in state_dict(name).items()}
    model.load_state_dict(weights, strict=True)
    return model


def peer_set(name):
    pytest.importorskip("torch")
    from tests.benchmarks import torch_networks

    network, sizes = CASES[name]
    model = getattr(torch_networks, network)(**sizes)
    golden = {k: channels_first(v) for k, v in np.load(GOLDEN / f"{name}.npz").items()}
    return with_original_weights(name, model), golden


def channels_first(array):
    import torch

    array = np.moveaxis(array, -1, 1) if array.ndim == 4 else array
    return torch.tensor(np.ascontiguousarray(array))


def assert_close(found, expected, **tolerance):
    found, expected = found.detach().numpy(), expected.numpy()
    np.testing.assert_allclose(found, expected, **tolerance)


@pytest.mark.slow
@pytest.mark.parametrize("name", SETS)
def test_peer_sets_equal_the_original(name):
    model, golden = peer_set(name)
    x, x_perturbed = golden["x"], golden["x_perturbed"]
    model.eval()
    found = {}
    found["prior_mean"], found["prior_logvar"] = model.prior(x)
    posterior = model.posterior(x, x_perturbed)
    found["posterior_mean"], found["posterior_logvar"] = posterior
    found["generated"] = model.generator(x, golden["z"])
    for key, value in found.items():
        assert_close(value, golden[key], atol=1e-4, rtol=0, err_msg=key)
    reconstruction, kl = model(x, x_perturbed, golden["noise"])
    assert_close(reconstruction, golden["reconstruction_loss"], rtol=1e-3)
    assert_close(kl, golden["kl"], rtol=1e-3)
    model.train()
    assert_close(model.prior(x)[0], golden["train_mode_prior_mean"], atol=1e-4)
    image = model.generator(x, golden["z"])
    assert_close(image, golden["train_mode_generated"], atol=1e-4)


PEER_CLASSIFIERS = {
    "classifier_wide_resnet_16_2": "wide_resnet",
    "segmenter_unet": "unet",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PEER_CLASSIFIERS)
def test_peer_classifiers_equal_the_original(name):
    pytest.importorskip("torch")
    from tests.benchmarks import torch_networks

    _, sizes = CLASSIFIERS[name]
    model = getattr(torch_networks, PEER_CLASSIFIERS[name])(**sizes)
    with_original_weights(name, model)
    golden = np.load(GOLDEN / f"{name}.npz")
    x, expected = channels_first(golden["x"]), channels_first(golden["logits"])
    assert_close(model.eval()(x), expected, atol=2e-4, rtol=1e-4)
    expected = channels_first(golden["train_mode_logits"])
    assert_close(model.train()(x), expected, atol=5e-4, rtol=1e-3)


def ramps(shape):
    """Images that rise evenly to the right and downwards."""
    batch, height, width, channels = shape
    right, down = np.random.RandomState(0).uniform(0, 0.5, (2, batch, 1, 1, channels))
    columns, rows = np.linspace(0, 1, width), np.linspace(0, 1, height)
    ramps = right * columns[:, None] + down * rows[:, None, None]
    return ramps.astype(np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("name", SETS)
def test_a_training_step_is_the_same_on_both_sides(name, monkeypatch):
    """The same weights, batch and noise give the same loss and the same gradients."""
    model, _ = peer_set(name)
    import torch

    from tests.benchmarks.torch_cvae import training_step

    network, sizes = CASES[name]
    pset = original.from_state_dict(state_dict(name), network, **sizes)
    before, start = pset.get_weights(), [w.numpy() for w in pset.trainable_weights]
    x, x_perturbed = (np.load(GOLDEN / f"{name}.npz")[k] for k in ("x", "x_perturbed"))
    if name == "mnist_stn":
        # The gradient of bilinear sampling jumps from pixel to pixel, so rounding would
        # decide it; on ramps it does not.
        x = ramps(x.shape)
    posterior = pset.posterior(x, x_perturbed, training=True)
    mean, std = posterior.mean().numpy(), posterior.stddev().numpy()
    pset.set_weights(before)

    # Plain descent of rate 1 makes the step the gradient.
    optimizer = keras.optimizers.SGD(1.0)
    pset.compile(optimizer, beta=0.3, jit_compile=False, run_eagerly=True)
    drawn, decode = [], pset.generator.decode

    def decode_and_tell(features, z, training):
        drawn.append(z.numpy())
        return decode(features, z, training=training)

    monkeypatch.setattr(pset.generator, "decode", decode_and_tell)
    history = pset.fit(x, x_perturbed, batch_size=len(x), shuffle=False, verbose=0)
    noise = torch.tensor((drawn[0] - mean) / std)
    monkeypatch.setattr(torch, "randn_like", lambda _: noise)
    optimizer = torch.optim.SGD(model.parameters(), 1.0)
    loss = training_step(model, optimizer, *map(channels_first, (x, x_perturbed)), 0.3)
    assert history.history["loss"][0] * len(x) == pytest.approx(loss, rel=1e-3)

    state = {k: v.numpy() for k, v in model.state_dict().items()}
    peer = original.from_state_dict(state, network, **sizes)
    weights = zip(pset.trainable_weights, peer.trainable_weights, start, strict=True)
    for ours, theirs, old in weights:
        expected = old - theirs.numpy()
        error = np.linalg.norm(old - ours.numpy() - expected)
        # Rounding turns single ReLUs on or off. A bias in front of a batch norm has no
        # gradient but rounding.
        assert error < 0.02 + 0.02 * np.linalg.norm(expected), ours.path


@pytest.mark.slow
def test_both_sides_of_a_training_benchmark_learn():
    pytest.importorskip("torch")
    from tests.benchmarks.bench_training import training

    sides = training("mnist_stn", (42, 42, 1), 8)
    for step in (sides.ours, sides.peer):
        losses = [step() for _ in range(20)]
        assert losses[-1] < losses[0]
