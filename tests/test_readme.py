import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
# What makes the five minutes of code one, without changing what it calls.
SHORTER = {
    "epochs=200": "epochs=1",
    "epochs=30": "epochs=1",
    "data.test_pairs)": "data.test_pairs.take(1), steps=2)",
    "images[:10], n0=100, n=1000": "images[:2], n0=10, n=50",
    "images[:10], target_radius": "images[:2], n0=10, n=50, target_radius",
    "steps=20": "steps=2",
}


@pytest.mark.slow
def test_the_code_of_the_readme_runs(tmp_path, monkeypatch):
    code = README.read_text().split("```python\n")[1].split("```")[0]
    for long, short in SHORTER.items():
        assert code.count(long) == 1, long
        code = code.replace(long, short)
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(code, "README.md", "exec"), names)
    assert names["pset"].radius > 0
    assert (tmp_path / "digits_rts.keras").exists()
    assert (tmp_path / "saved_models" / "smooth" / "saved_model.pb").exists()


def test_the_tests_that_the_readme_names_exist():
    named = re.findall(r"`(test_\w+\.py)(?:::(\w+))?`", README.read_text())
    assert len(named) >= 12
    for file, name in named:
        (path,) = (README.parent / "tests").rglob(file)
        assert f"def {name or 'test_'}" in path.read_text()
