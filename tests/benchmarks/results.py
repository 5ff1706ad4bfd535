"""What has been measured: a file for each processor, and the table of the docs."""

import contextlib
import json
import statistics
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from tests.benchmarks import harness

DOCS = Path(__file__).parents[2] / "docs"
#: Results in here are those that docs/speed.md shows, between these two lines.
PUBLISHED = DOCS / "results" / "speed"
BEGIN, END = "<!-- measured -->", "<!-- end of what was measured -->"


def load(path: Path) -> dict[str, dict]:
    """The rows in a file, by name; none where there is no file."""
    with contextlib.suppress(FileNotFoundError):
        return json.loads(path.read_text())["rows"]
    return {}


def save(path: Path, machine: dict, rows: dict[str, dict]) -> None:
    """Writes the rows that `harness.measure` gave on a machine."""
    from lps_tf._internal import files

    files.write_json(path, {"machine": machine, "rows": rows})


def refresh(page: Path = DOCS / "speed.md", folder: Path = PUBLISHED) -> None:
    """Writes the measured part of the page anew."""
    before, rest = page.read_text().split(BEGIN)
    after = rest.split(END)[1]
    page.write_text(f"{before}{BEGIN}\n{markdown(folder)}{END}{after}")


def markdown(folder: Path) -> str:
    """The measured part of the page: a table for each file of a folder."""
    parts = [_section(json.loads(p.read_text())) for p in sorted(folder.glob("*.json"))]
    return "".join(parts)


def _section(found: dict) -> str:
    machine, rows = found["machine"], list(found["rows"].values())
    dates = sorted({row["date"] for row in rows})
    rates = [row["gflops"] for row in rows]
    versions = [f"{name} {v}" for name, v in machine["versions"].items() if v]
    lines = [
        f"\n## {machine['processor']}\n",
        f"{machine['cores']} cores; {', '.join(machine['instruction_sets'])}; float32 "
        f"matrix products at {min(rates):.0f} to {max(rates):.0f} GFLOP/s; load before "
        f"at most {max(row['load'] for row in rows):.1f}; {', '.join(versions)}; "
        f"{' to '.join(dict.fromkeys((dates[0], dates[-1])))}.\n",
        "| work | lps_tf | peer | its speed | ratio |",
        "|---|---|---|---|---|",
    ]
    for name, row in found["rows"].items():
        first = [f"{name}, {row['unit']}", _spread(row["speeds"][harness.OURS])]
        for peer, values in harness.ratios(row).items():
            # That to the fastest peer stands out.
            mark = "**" if peer == harness.fastest(row) else ""
            ratio = f"{mark}{_spread(values)}{mark}"
            cells = [*first, peer, _spread(row["speeds"][peer]), ratio]
            lines.append(f"| {' | '.join(cells)} |")
            first = ["", ""]
        for peer, why in row["failed"].items():
            lines.append(f"| | | {peer} | failed: {why.replace('|', '/')} | |")
    return "\n".join(lines) + "\n"


def _spread(values: list[float]) -> str:
    """The median of the rounds, and the least and the largest of them."""
    low, high = (_number(bound(values)) for bound in (min, max))
    middle = _number(statistics.median(values))
    return middle if low == high else f"{middle} ({low} to {high})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def table(rows: dict[str, dict]) -> Table:
    """The same in a terminal; ratios are red where the fastest peer is too close."""
    shown = Table(caption="medians of rounds (least to largest); ratio: lps_tf / peer")
    for column in ("benchmark", "side", "speed", "unit", "ratio", "goal"):
        shown.add_column(column)
    for name, row in rows.items():
        ours = _spread(row["speeds"][harness.OURS])
        goal = f"{row['goal']:g}"
        shown.add_row(name, harness.OURS, ours, row["unit"], "", goal)
        for peer, ratio in harness.ratios(row).items():
            met = statistics.median(ratio) >= row["goal"]
            coloured = f"[{'green' if met else 'red'}]{_spread(ratio)}[/]"
            shown.add_row("", peer, _spread(row["speeds"][peer]), "", coloured)
        for peer, why in row["failed"].items():
            shown.add_row("", f"{peer}: {escape(why)}")
    return shown
