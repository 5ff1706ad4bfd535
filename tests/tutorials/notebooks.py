"""The tutorials, and what their tests read of them."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
TUTORIALS = ROOT / "tutorials"
NOTEBOOKS = sorted(TUTORIALS.glob("*.ipynb"))
#: Those that build on photographs and scenes; the others are of digits.
OF_PHOTOGRAPHS = [path for path in NOTEBOOKS if "04" <= path.stem[:2] <= "09"]


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def parameters(notebook):
    cells = code_cells(notebook)
    return [cell for cell in cells if "parameters" in cell.metadata.get("tags", [])]


def pictures(cell):
    """(place among the cell's outputs, alt text) of each picture."""
    for place, output in enumerate(cell.outputs):
        for kind in output.get("data", {}):
            if kind.startswith("image/"):
                yield place, output.metadata.get(kind, {}).get("alt", "")


def check_pictures(notebook):
    count = 0
    for cell in code_cells(notebook):
        for place, alt in pictures(cell):
            count += 1
            assert alt.strip(), f"a picture without alt text: {cell.source}"
            after = [output.get("data", {}) for output in cell.outputs[place + 1 :]]
            caption = after[0].get("text/markdown", "") if after else ""
            assert caption.strip(), f"a picture without caption: {cell.source}"
    assert count, "no picture"
