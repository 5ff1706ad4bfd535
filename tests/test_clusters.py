"""The jobs of docs/clusters give the files that one process writes."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from lps_tf.__main__ import main
from tests import small_models

CLUSTERS = Path(__file__).parents[1] / "docs" / "clusters"
SHORT = ["--n0", "10", "--n", "60", "--limit", "6", "--images-per-file", "1"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder with a small set and classifier, and certificates of one process."""
    folder = tmp_path_factory.mktemp("run")
    models = small_models.save(folder)
    options = ["--data", "mnist5k_rts", "--sigma", "1.0", "--share", "0.1", *SHORT]
    assert main(["certify", *models, *options, "--output", str(folder / "one")]) == 0
    return folder


def certificates(folder):
    return {path.name: path.read_bytes() for path in folder.glob("block_*")}


@pytest.mark.slow
def test_slurm_jobs_that_run_at_once_share_the_work(run):
    shutil.rmtree(run / "certificates", ignore_errors=True)
    bin_ = run / "bin"
    bin_.mkdir()
    (bin_ / "python").symlink_to(sys.executable)
    environment = {
        **os.environ,
        "PATH": f"{bin_}:{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(sys.path),
        "RUN": str(run),
        "N": "60",
        "OPTIONS": " ".join(SHORT),
    }
    command = ["bash", str(CLUSTERS / "certify.sbatch")]
    jobs = [
        subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        for _ in range(2)
    ]
    for job in jobs:
        output, _ = job.communicate(timeout=300)
        assert job.returncode == 0, output.decode()
    found = certificates(run / "certificates")
    assert len(found) == 6
    assert found == certificates(run / "one")


@pytest.mark.slow
def test_the_command_of_the_kubernetes_job_certifies(run):
    shutil.rmtree(run / "certificates", ignore_errors=True)
    job = yaml.safe_load((CLUSTERS / "certify.yaml").read_text())
    assert job["spec"]["completionMode"] == "Indexed"
    (container,) = job["spec"]["template"]["spec"]["containers"]
    python, m, module, *command = container["command"]
    assert (python, m, module) == ("python", "-m", "lps_tf")
    arguments = [text.replace("/run/", f"{run}/") for text in container["args"]]
    assert main([*command, *arguments, *SHORT]) == 0
    assert certificates(run / "certificates") == certificates(run / "one")


@pytest.mark.slow
def test_workers_of_ray_give_the_files_of_one_process(run, monkeypatch):
    ray = pytest.importorskip("ray", reason="Ray is not installed")
    monkeypatch.syspath_prepend(CLUSTERS)
    import certify_with_ray

    shutil.rmtree(run / "certificates", ignore_errors=True)
    path = {"PYTHONPATH": os.pathsep.join(sys.path)}
    ray.init(num_cpus=4, runtime_env={"env_vars": path})
    options = {"n0": 10, "n": 60, "share": 0.1, "limit": 6, "images_per_file": 1}
    certify_with_ray.main(run, 4, **options)
    ray.shutdown()
    assert certificates(run / "certificates") == certificates(run / "one")
