"""Checkpoint files of the original, which PyTorch opens: without running anything."""

import pickle
import re
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from lps_tf.__main__ import main
from lps_tf.serving import original

torch = pytest.importorskip("torch", reason="needs PyTorch: lps_tf[original]")

GOLDEN = Path(__file__).parents[1] / "golden"
CHECKPOINT = GOLDEN / "original_checkpoint.pth"
SIZES = {"latent_dim": 16, "blocks": 2, "wide": 12, "narrow": 5}


def test_a_checkpoint_gives_the_original_outputs():
    pset = original.load_checkpoint(CHECKPOINT, "cifar10_residual", **SIZES)
    golden = np.load(GOLDEN / "cifar10_residual_small.npz")
    image = pset.likelihood(golden["x"], golden["z"]).mean()
    np.testing.assert_allclose(image, golden["generated"], atol=1e-4)
    mean = pset.posterior(golden["x"], golden["x_perturbed"]).mean()
    np.testing.assert_allclose(mean, golden["posterior_mean"], atol=1e-4)
    assert pset.radius is None


@pytest.mark.parametrize("half", [False, True], ids=["float32", "bfloat16"])
def test_a_bare_state_dict_in_a_file_is_understood_too(tmp_path, half):
    state = torch.load(CHECKPOINT, weights_only=True)["model_state_dict"]
    if half:
        state = {
            k: v.bfloat16() if v.is_floating_point() else v for k, v in state.items()
        }
    # The format of PyTorch before 1.6, in which the paper's models were written.
    torch.save(state, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    pset = original.load_checkpoint(tmp_path / "old.pth", "cifar10_residual", **SIZES)
    kernel = np.moveaxis(state["generator.fc.weight"].float().numpy(), 0, -1)
    np.testing.assert_array_equal(pset.generator.latent_map.kernel, kernel)


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_malicious_pickle_does_not_run(tmp_path):
    victim = tmp_path / "touched"
    evil = {"model_state_dict": {"weight": Malicious(victim)}}
    torch.save(evil, tmp_path / "evil.pth")
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps(evil, protocol=2))  # PyTorch's
    for name in ("evil.pth", "evil.pkl"):
        with pytest.raises(ValueError, match="nothing in it was run"):
            original.load_checkpoint(tmp_path / name, "mnist_fc")
    assert not victim.exists()
    pickle.loads((tmp_path / "evil.pkl").read_bytes())
    assert victim.exists()  # it would have


def test_files_that_are_no_checkpoints_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint file"):
        original.load_checkpoint(tmp_path / "none.pth", "mnist_fc")
    (tmp_path / "text.pth").write_text("weights")
    with pytest.raises(ValueError, match="not a PyTorch checkpoint"):
        original.load_checkpoint(tmp_path / "text.pth", "mnist_fc")
    (tmp_path / "cut.pth").write_bytes(CHECKPOINT.read_bytes()[:5000])
    with pytest.raises(ValueError, match="not a PyTorch checkpoint"):
        original.load_checkpoint(tmp_path / "cut.pth", "mnist_fc")
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    with pytest.raises(ValueError, match="mapping of names to tensors"):
        original.load_checkpoint(tmp_path / "list.pth", "mnist_fc")
    torch.save({"epoch": 3, "val_loss": 1.0}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"Received: \['epoch', 'val_loss'\]"):
        original.load_checkpoint(tmp_path / "other.pth", "mnist_fc")
    with pytest.raises(ValueError, match=r"missing: .*fc21"):
        original.load_checkpoint(CHECKPOINT, "mnist_fc")
    with pytest.raises(ValueError, match="`network` must be one of"):
        original.load_checkpoint(CHECKPOINT, "vgg")


def test_without_pytorch_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match=r"pip install 'lps_tf\[original\]'"):
        original.load_checkpoint(CHECKPOINT, "cifar10_residual", **SIZES)


@pytest.mark.slow
def test_the_command_writes_a_keras_model_and_a_saved_model(tmp_path, capsys):
    sizes = [f"--size={name}={value}" for name, value in SIZES.items()]
    command = ["import-original", str(CHECKPOINT), "--output", str(tmp_path / "out")]
    assert main([*command, "--network", "cifar10_residual", *sizes]) == 0
    golden = np.load(GOLDEN / "cifar10_residual_small.npz")
    pset = keras.models.load_model(tmp_path / "out" / "cifar10_residual.keras")
    u = np.random.RandomState(0).randn(len(golden["x"]), 16).astype(np.float32)
    image = pset.perturb(golden["x"], u)
    loaded = tf.saved_model.load(tmp_path / "out" / "saved_model")
    np.testing.assert_allclose(loaded.perturb(golden["x"], u), image, atol=1e-5)
    # That they are the original's weights, and not any others.
    prior = pset.prior(golden["x"])
    z = prior.mean() + u * prior.stddev()
    expected = pset.likelihood(golden["x"], z).mean()
    np.testing.assert_allclose(image, expected, atol=1e-5)
    np.testing.assert_allclose(prior.mean(), golden["prior_mean"], atol=1e-4)
    assert "saved_model" in capsys.readouterr().out


def test_the_command_names_bad_input(tmp_path, capsys):
    command = ["import-original", str(CHECKPOINT), "--output", str(tmp_path / "out")]
    for network, sizes, message in (
        ("vgg", [], "`network` must be one of"),
        ("cifar10_residual", [], "of another shape"),
        ("cifar10_residual", ["--size", "depth=3"], "sizes .* Received: depth=3"),
        ("classifier_wide_resnet", ["--size", "deep=3"], "Did you mean 'depth'"),
    ):
        assert main([*command, "--network", network, *sizes]) == 2
        assert re.search(message, capsys.readouterr().err)
    with pytest.raises(SystemExit):
        main([*command, "--network", "mnist_fc", "--size", "latent_dim"])
    assert "must be NAME=VALUE" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
