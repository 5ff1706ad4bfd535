"""What every measurement returns: figures to print, to plot, to keep and to load."""

import base64
import html
import json
import types
import typing
import zlib
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from lps_tf._internal import drawing, files

Kind = typing.TypeVar("Kind", bound="Report")


@dataclass(frozen=True)
class Report(ABC):
    """A frozen dataclass of results, with one interface for all of them.

    A subclass names its fields with their types, by which `load` restores them: plain
    values, arrays, dataclasses and named tuples, in lists, tuples and dicts. A field
    whose name begins with an underscore is not saved, and None after loading.
    """

    @abstractmethod
    def __str__(self) -> str:
        """The results as a table."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """The results by name, as plain values: no arrays of single examples."""

    def to_json(self, path: str | Path | None = None) -> str:
        """Everything as JSON: what `to_dict` gives, and "fields", for `load`.

        Args:
            path: File to write; None writes none.
        """
        saved = [field.name for field in fields(self) if field.name[0] != "_"]
        content = {
            **self.to_dict(),
            "report": type(self).__name__,
            "fields": {name: _encoded(getattr(self, name)) for name in saved},
        }
        text = json.dumps(content, indent=1)
        if path is not None:
            files.write_text(path, text + "\n")
        return text

    @classmethod
    def load(cls: type[Kind], path: str | Path) -> Kind:
        """The report that `to_json` has written.

        Raises:
            ValueError: If the file holds none of this kind.
        """
        content = json.loads(Path(path).read_text())
        found = content.get("report") if isinstance(content, dict) else None
        if found != cls.__name__:
            raise ValueError(
                f"The file must hold a {cls.__name__} that `to_json` has written. "
                f"Received: {path}, which holds {found or 'no report'}"
            )
        return _restored(cls, content["fields"])

    def plot(self, directory: str | Path | None = None) -> dict[str, Figure]:
        """The results as figures by name.

        Args:
            directory: Folder to save them in as NAME.png; None saves none.
        """
        figures = self._figures()
        if directory is not None:
            for name, figure in figures.items():
                files.write(Path(directory) / f"{name}.png", drawing.png(figure))
        return figures

    def summary(self) -> str:
        """What came out, in sentences; nothing where the table is short."""
        return ""

    def _figures(self) -> dict[str, Figure]:
        """What `plot` returns."""
        return {}

    def _tables(self) -> list[list[list[str]]]:
        """The results as tables, each a row of headings and rows of cells."""
        return []

    def _repr_html_(self) -> str:
        """What a notebook shows: the tables, or else what `print` shows."""
        if not self._tables():
            return f"<pre>{html.escape(str(self))}</pre>"
        summary = f"<p>{html.escape(self.summary())}</p>" if self.summary() else ""
        return summary + "".join(map(_html_table, self._tables()))


def _html_table(rows: list[list[str]]) -> str:
    """A table of HTML, the first row of which is of headings."""
    lines = []
    for number, cells in enumerate(rows):
        tag, text = "td" if number else "th", ""
        for column, cell in enumerate(cells):
            side = "right" if column else "left"
            text += f'<{tag} style="text-align: {side}">{html.escape(cell)}</{tag}>'
        lines.append(f"<tr>{text}</tr>")
    return f"<table>{''.join(lines)}</table>"


def _encoded(value: Any) -> Any:
    """A value as JSON. Arrays are compressed: maps of classes have many pixels."""
    if isinstance(value, np.ndarray):
        data = base64.b64encode(zlib.compress(value.tobytes())).decode()
        return {"dtype": str(value.dtype), "shape": value.shape, "zlib": data}
    if isinstance(value, np.generic):
        return value.item()
    if is_dataclass(value):
        names = [field.name for field in fields(value) if field.name[0] != "_"]
        return {name: _encoded(getattr(value, name)) for name in names}
    if hasattr(value, "_asdict"):
        return _encoded(value._asdict())
    if isinstance(value, dict):
        return {key: _encoded(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_encoded(v) for v in value]
    return value


def _restored(hint: Any, value: Any) -> Any:
    """The value of type `hint` that `_encoded` has made JSON of."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if value is None:
        return None
    if origin in (typing.Union, types.UnionType):
        some = next(part for part in parts if part is not type(None))
        return _restored(some, value)
    if hint is np.ndarray:
        data = zlib.decompress(base64.b64decode(value["zlib"]))
        array = np.frombuffer(data, value["dtype"]).reshape(value["shape"])
        return array.copy()  # what is made of a buffer cannot be written to
    if origin is dict:
        return {key: _restored(parts[1], v) for key, v in value.items()}
    if origin is list:
        return [_restored(parts[0], v) for v in value]
    if origin is tuple:
        each = [parts[0]] * len(value) if parts[-1] is Ellipsis else parts
        return tuple(_restored(h, v) for h, v in zip(each, value, strict=True))
    if is_dataclass(hint) or hasattr(hint, "_fields"):
        hints = typing.get_type_hints(hint)
        names = getattr(hint, "_fields", None) or [field.name for field in fields(hint)]
        return hint(**{n: _restored(hints[n], value.get(n)) for n in names})
    return value
