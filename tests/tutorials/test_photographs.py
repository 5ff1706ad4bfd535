"""The tutorials of photographs and scenes run at quick scale."""

import pytest

from tests.tutorials.notebooks import OF_PHOTOGRAPHS


@pytest.mark.slow
@pytest.mark.parametrize("path", OF_PHOTOGRAPHS, ids=lambda path: path.stem)
def test_it_runs(path, runs_at_quick_scale):
    runs_at_quick_scale(path)
