"""Runs in stages: made once, taken up again, never mixed with other settings."""

import time
from unittest.mock import Mock

import pytest

from lps_tf.experiments.stages import Stages


def giving(result):
    """A stage's work that counts its calls and returns a result."""
    return Mock(return_value=result)


def files_of(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_a_stage_runs_once_and_gives_its_result_each_time(tmp_path):
    run, work = Stages(tmp_path / "run", {"seed": 0}), giving({"accuracy": 0.5})
    assert run.stage("train", work) == {"accuracy": 0.5}
    assert run.stage("train", work) == {"accuracy": 0.5}
    assert work.call_count == 1


def test_another_process_takes_up_where_the_first_stopped(tmp_path):
    Stages(tmp_path / "run", {"seed": 0}).stage("train", giving([1, 2]))
    run = Stages(str(tmp_path / "run"), {"seed": 0})
    train, test = giving("never"), giving(3)
    assert run.stage("train", train) == [1, 2] and train.call_count == 0
    assert run.stage("test", test) == 3 and test.call_count == 1


def test_a_result_is_the_same_when_made_and_when_read(tmp_path):
    # What JSON makes of a result must not depend on whether the run was resumed.
    results = [
        Stages(tmp_path / "run", {}).stage("train", giving({"sizes": (1, 2), 3: None}))
        for _ in range(2)
    ]
    assert results[0] == results[1] == {"sizes": [1, 2], "3": None}


def test_a_result_of_none_counts_as_done(tmp_path):
    run, work = Stages(tmp_path / "run", {}), giving(None)
    assert run.stage("train", work) is None and run.stage("train", work) is None
    assert work.call_count == 1


def test_stages_take_their_time(tmp_path):
    run = Stages(tmp_path / "run", {})
    assert run.seconds == {}
    start = time.perf_counter()
    run.stage("train", lambda: time.sleep(0.02))
    run.stage("test", giving(2))
    assert list(run.seconds) == ["test", "train"]
    assert run.seconds["train"] >= 0.02
    assert sum(run.seconds.values()) <= time.perf_counter() - start


def test_names_of_files_are_in_the_folder(tmp_path):
    assert (
        Stages(tmp_path / "run", {}) / "report.html" == tmp_path / "run" / "report.html"
    )


@pytest.mark.parametrize("other", [{"seed": 1}, {}, {"seed": 0, "scale": "full"}])
def test_results_of_other_settings_are_refused_and_kept(tmp_path, other):
    Stages(tmp_path / "run", {"seed": 0}).stage("train", giving(1))
    before = files_of(tmp_path)
    with pytest.raises(ValueError, match=r"other settings.*--output.*--fresh"):
        Stages(tmp_path / "run", other)
    assert files_of(tmp_path) == before
    work = giving(2)
    assert Stages(tmp_path / "run", {"seed": 0}).stage("train", work) == 1
    assert work.call_count == 0


def test_settings_are_compared_as_json(tmp_path):
    # A tuple comes back from JSON as a list: still the same settings.
    Stages(tmp_path / "run", {"sizes": (128, 64)}).stage("train", giving(1))
    assert Stages(tmp_path / "run", {"sizes": (128, 64)}).stage("train", giving(2)) == 1


def test_fresh_starts_over(tmp_path):
    run = Stages(tmp_path / "run", {"seed": 0})
    run.stage("train", giving(1))
    (run / "report.html").write_text("old")
    work = giving(2)
    run = Stages(tmp_path / "run", {"seed": 1}, fresh=True)
    assert files_of(tmp_path) == ["run/settings.json"]
    assert run.stage("train", work) == 2 and work.call_count == 1


def test_fresh_needs_no_old_run(tmp_path):
    assert Stages(tmp_path / "run", {}, fresh=True).stage("train", giving(1)) == 1


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_stage_that_raises_leaves_nothing_behind(tmp_path, error):
    run = Stages(tmp_path / "run", {})
    run.stage("data", giving(0))
    before = files_of(tmp_path)

    def interrupted():
        raise error("stop")

    with pytest.raises(error, match="stop"):
        run.stage("train", interrupted)
    assert files_of(tmp_path) == before
    assert list(run.seconds) == ["data"]
    assert run.stage("train", giving(1)) == 1


def test_a_stage_whose_result_is_no_json_is_not_done(tmp_path):
    run = Stages(tmp_path / "run", {})
    with pytest.raises(TypeError):
        run.stage("train", giving(object()))
    assert files_of(tmp_path) == ["run/settings.json"]
    assert run.stage("train", giving(1)) == 1


def test_a_folder_that_nothing_was_written_to_is_removed_again(tmp_path):
    run = Stages(tmp_path / "runs" / "laptop" / "digits", {})
    assert (tmp_path / "runs" / "laptop" / "digits" / "settings.json").exists()
    run.release()
    assert not (tmp_path / "runs").exists()
    run = Stages(tmp_path / "runs" / "digits", {})
    run.stage("train", giving(1))
    run.release()
    assert files_of(tmp_path) == [
        "runs/digits/settings.json",
        "runs/digits/stages/train.json",
    ]
    # Of folders that were there before, none is removed.
    (tmp_path / "mine").mkdir()
    Stages(tmp_path / "mine", {}).release()
    assert (tmp_path / "mine").is_dir()
