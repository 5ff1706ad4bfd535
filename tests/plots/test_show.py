"""Figures in a notebook."""

import pytest
from matplotlib.figure import Figure

import lps_tf as lps


@pytest.fixture
def displayed(monkeypatch):
    found = []
    monkeypatch.setattr(
        "IPython.display.display", lambda *objects: found.extend(objects)
    )
    return found


def test_a_figure_is_shown_with_its_caption(displayed):
    lps.plots.show(Figure(), "A *line*.", "a line")
    picture, caption = displayed
    assert picture.data.startswith(b"\x89PNG") and picture.alt == "a line"
    assert caption.data == "A *line*."


def test_a_figure_is_shown_without_a_caption(displayed):
    lps.plots.show(Figure())
    assert [type(shown).__name__ for shown in displayed] == ["Image"]


def test_a_caption_stands_in_for_what_a_figure_shows(displayed):
    lps.plots.show(Figure(), "Accuracy over the radius.")
    assert displayed[0].alt == "Accuracy over the radius."
