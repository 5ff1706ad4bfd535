"""One interface for all reports: table, figures, JSON and back."""

import json
import re
from dataclasses import FrozenInstanceError, dataclass
from typing import NamedTuple

import numpy as np
import pytest
from matplotlib.figure import Figure

from lps_tf._internal.report import Report


@dataclass(frozen=True)
class Row:
    accuracy: float
    mean_iou: float | None


class Check(NamedTuple):
    name: str
    figures: dict[str, float]


@dataclass(frozen=True)
class Small(Report):
    accuracy: float
    radius: np.ndarray

    def __str__(self):
        return f"accuracy < {self.accuracy}"

    def to_dict(self):
        return {"accuracy": self.accuracy}


@dataclass(frozen=True)
class Large(Small):
    rows: dict[str, Row]
    checks: tuple[Check, ...]
    best: list[tuple[str, ...]]
    pair: tuple[int, str]
    nothing: dict[str, float] | None
    parts: dict[str, Small]
    _model: object

    def _figures(self):
        return {"curve": Figure(), "bars": Figure()}


@pytest.fixture
def report():
    return Large(
        accuracy=0.5,
        radius=np.random.default_rng(0).uniform(size=(2, 3)).astype(np.float32),
        rows={"clean": Row(np.float32(0.5), None), "worst": Row(0.25, 0.1)},
        checks=(Check("a", {"most": 0.1}), Check("b", {})),
        best=[("a",), (), ("a", "b")],
        pair=(1, "a"),
        nothing=None,
        parts={"one": Small(0.1, np.arange(0))},
        _model=object(),
    )


def test_a_report_is_loaded_as_it_was_written(report, tmp_path):
    path = tmp_path / "new" / "report.json"
    text = report.to_json(path)
    assert path.read_text() == text + "\n"
    assert json.loads(text)["accuracy"] == 0.5  # whatever reads it finds the figures
    found = Large.load(path)
    assert found.radius.dtype == np.float32 and found.radius.flags.writeable
    np.testing.assert_array_equal(found.radius, report.radius)
    assert found.parts["one"].radius.shape == (0,)
    for name in ("accuracy", "rows", "checks", "best", "pair", "nothing"):
        assert getattr(found, name) == getattr(report, name)
    assert found._model is None  # what begins with an underscore is not kept
    assert found.to_json() == text and str(found) == str(report)


def test_another_file_is_refused(report, tmp_path):
    report.to_json(tmp_path / "a.json")
    with pytest.raises(ValueError, match=r"must hold a Small.*holds Large"):
        Small.load(tmp_path / "a.json")
    (tmp_path / "a.json").write_text("[]")
    with pytest.raises(ValueError, match="holds no report"):
        Small.load(tmp_path / "a.json")


def test_figures_are_saved_by_name(report, tmp_path):
    assert report.plot().keys() == {"curve", "bars"}
    report.plot(tmp_path / "pictures")
    for name in ("curve", "bars"):
        content = (tmp_path / "pictures" / f"{name}.png").read_bytes()
        assert content.startswith(b"\x89PNG")
    assert Small(0.1, np.arange(2)).plot(tmp_path / "none") == {}
    assert not (tmp_path / "none").exists()


def test_a_notebook_shows_the_table(report):
    assert report._repr_html_() == "<pre>accuracy &lt; 0.5</pre>"


def test_a_report_does_not_change(report):
    with pytest.raises(FrozenInstanceError):
        report.accuracy = 1.0


class Tabled(Small):
    def _tables(self):
        return [[["measure", "value"], ["a < b", "0.5"]], [["other"]]]


def test_a_notebook_shows_tables_where_there_are_some():
    text = Tabled(0.5, np.arange(2))._repr_html_()
    parsed = re.findall(r"<tr>(.*?)</tr>", text)
    cells = [re.findall(r"<(t[hd])[^>]*>(.*?)</t[hd]>", row) for row in parsed]
    assert cells == [
        [("th", "measure"), ("th", "value")],
        [("td", "a &lt; b"), ("td", "0.5")],
        [("th", "other")],
    ]
    assert text.count("<table>") == text.count("</table>") == 2
