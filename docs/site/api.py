"""The pages of the API: one a room, with an entry for each public name."""

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import lps_tf as lps
from docs.site import docstrings

#: Rooms in the order of a user's way.
ROOMS = {
    "datasets": "Data",
    "corruptions": "Corruptions",
    "sets": "Perturbation sets",
    "networks": "Networks",
    "training": "Training",
    "perturbations": "Attacks and noise",
    "robustness": "Robustness",
    "certification": "Certification",
    "serving": "Serving",
    "plots": "Pictures",
    "experiments": "Experiments",
}

#: Modules that have no name at the top of the package, but that users need.
OTHERS = {
    "sets": ["lps_tf.sets.protocol"],
    "training": ["lps_tf.training.perturbation", "lps_tf.training.multi_worker"],
}


@dataclass
class Entry:
    """Something public, under the shortest of its names.

    Attributes:
        name: Shortest name, such as `lps_tf.SmoothedClassifier`.
        value: The class, function or constant.
        aliases: Its other public names.
    """

    name: str
    value: Any
    aliases: set[str] = field(default_factory=set)


@dataclass
class Section:
    """A module on the page of its room.

    Attributes:
        module: The module.
        entries: What it gives, in the order of its `__all__` or of its source.
        aliases: Other public names of the module.
    """

    module: ModuleType
    entries: list[Entry]
    aliases: set[str] = field(default_factory=set)


def public_names(module: ModuleType) -> list[str]:
    """Public names of a module: `__all__`, or what is defined in it."""
    if hasattr(module, "__all__"):
        return list(module.__all__)
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (inspect.isclass(value) or inspect.isroutine(value))
        and getattr(value, "__module__", None) == module.__name__
    ]


def all_names() -> list[str]:
    """The public names of the package and of its rooms."""
    packages = [importlib.import_module(f"lps_tf.{room}") for room in ROOMS]
    return [
        f"{package.__name__}.{name}"
        for package in (lps, *packages)
        for name in public_names(package)
        if name != "__version__"
    ]


def pages() -> dict[str, list[Section]]:
    """The sections of each room's page."""
    found = {room: _sections(room) for room in ROOMS}
    by_identity: dict[int, Entry] = {}
    for sections in found.values():
        for section in sections:
            _merge(section, by_identity)
    return found


def _sections(room: str) -> list[Section]:
    package = importlib.import_module(f"lps_tf.{room}")
    modules = [package, *_public_modules(package), *_modules_of_names(room)]
    modules += [importlib.import_module(name) for name in OTHERS.get(room, [])]
    return [
        Section(module, list(_entries(module)), set(_module_aliases(module, package)))
        for module in dict.fromkeys(modules)
    ]


def _public_modules(module: ModuleType) -> list[ModuleType]:
    """The modules among a room's public names, and among those of the package."""
    names = {name: getattr(module, name) for name in public_names(module)}
    names |= {name: getattr(lps, name) for name in lps.__all__}
    return [
        value
        for value in names.values()
        if inspect.ismodule(value) and value.__name__.startswith(f"{module.__name__}.")
    ]


def _modules_of_names(room: str) -> list[ModuleType]:
    """The modules of a room that define a name that the package alone has."""
    package = importlib.import_module(f"lps_tf.{room}")
    own = {id(getattr(package, name)) for name in public_names(package)}
    values = (getattr(lps, name) for name in lps.__all__)
    return [
        importlib.import_module(value.__module__)
        for value in values
        if getattr(value, "__module__", "").startswith(f"lps_tf.{room}.")
        and id(value) not in own
    ]


def _module_aliases(module: ModuleType, package: ModuleType) -> Iterator[str]:
    for owner in (lps, package):
        for name in public_names(owner):
            if getattr(owner, name) is module:
                yield f"{owner.__name__}.{name}"


def _entries(module: ModuleType) -> Iterator[Entry]:
    top = {id(getattr(lps, name)): f"lps_tf.{name}" for name in lps.__all__}
    for name in public_names(module):
        value = getattr(module, name)
        if not inspect.ismodule(value):
            full = f"{module.__name__}.{name}"
            shortest = top.get(id(value), full)
            yield Entry(shortest, value, {full, *_defined_as(value)} - {shortest})


def _defined_as(value: Any) -> set[str]:
    if inspect.isclass(value) or inspect.isroutine(value):
        return {f"{value.__module__}.{value.__qualname__}"}
    return set()


def _merge(section: Section, known: dict[int, Entry]) -> None:
    """Drops entries that another section has, which gets their names as aliases."""
    kept = []
    for entry in section.entries:
        first = known.setdefault(id(entry.value), entry)
        if first is entry:
            kept.append(entry)
        else:
            first.aliases |= {entry.name, *entry.aliases} - {first.name}
    section.entries = kept


def aliases(found: dict[str, list[Section]]) -> dict[str, str]:
    """Other names of all entries, to the name of the entry.

    A last part is an alias if one entry alone has it, and it is no everyday word.
    """
    result: dict[str, str] = {}
    short: dict[str, set[str]] = {}
    for section in (section for sections in found.values() for section in sections):
        module = section.module.__name__
        others = {*section.aliases, module.removeprefix("lps_tf.")}
        others |= {name.removeprefix("lps_tf.") for name in section.aliases}
        result |= dict.fromkeys(others, module)
        for entry in section.entries:
            for name in {entry.name, *entry.aliases}:
                result |= dict.fromkeys(
                    {name, name.removeprefix("lps_tf.")}, entry.name
                )
                short.setdefault(name.rpartition(".")[2], set()).add(entry.name)
    for name, entries in short.items():
        if len(entries) == 1 and (name[0].isupper() or "_" in name):
            result.setdefault(name, *entries)
    return {name: entry for name, entry in result.items() if name != entry}


def write(folder: Path) -> dict[str, list[Section]]:
    """Writes the pages of all rooms, and returns what is on them."""
    found = pages()
    for room, sections in found.items():
        (folder / f"{room}.rst").write_text(_page(room, sections))
    (folder / "index.rst").write_text(_index(found))
    return found


def _page(room: str, sections: list[Section]) -> str:
    parts = [_heading(ROOMS[room], "=")]
    for section in sections:
        module = section.module.__name__
        if section is not sections[0]:
            parts.append(_heading(f"``{_shortest(section)}``", "-"))
        else:
            parts.append(f"``{_shortest(section)}``\n")
        parts.append(f".. automodule:: {module}\n   :no-members:\n")
        parts += [_directive(entry) for entry in section.entries]
    return "\n".join(parts)


def _shortest(section: Section) -> str:
    return min(section.aliases | {section.module.__name__}, key=len)


def _heading(text: str, line: str) -> str:
    return f"{text}\n{line * len(text)}\n"


def _directive(entry: Entry) -> str:
    if inspect.isclass(entry.value):
        return (
            f".. autoclass:: {entry.name}\n   :members:\n   :show-inheritance:\n"
            f"   :inherited-members: {_outside(entry.value)}\n"
            "   :exclude-members: FIXED\n"
        )
    if inspect.isroutine(entry.value):
        return f".. autofunction:: {entry.name}\n"
    comment = "\n".join(f"   {line}" for line in comment_of(entry))
    module, _, name = entry.name.rpartition(".")
    return f".. py:data:: {name}\n   :module: {module}\n\n{comment}\n"


def _outside(cls: type) -> str:
    """The classes whose members are not this package's to document."""
    others = [base for base in cls.__mro__ if not base.__module__.startswith("lps_tf")]
    return ", ".join(dict.fromkeys(base.__name__ for base in others))


def comment_of(entry: Entry) -> list[str]:
    """The comment `#:` above a constant, in whichever module it is assigned."""
    from sphinx.pycode import ModuleAnalyzer

    names = {name.rpartition(".")[2] for name in (entry.name, *entry.aliases)}
    for module in _modules():
        for (_, name), lines in (
            ModuleAnalyzer.for_module(module).find_attr_docs().items()
        ):
            if name in names:
                value = getattr(importlib.import_module(module), name, None)
                if value is entry.value:
                    return [line for line in lines if line]
    raise LookupError(f"{entry.name} needs a comment `#:` where it is assigned.")


def _modules() -> list[str]:
    found = pkgutil.walk_packages(lps.__path__, "lps_tf.")
    return [
        m.name for m in found if "__main__" not in m.name and "templates" not in m.name
    ]


def _index(found: dict[str, list[Section]]) -> str:
    sections = [section for sections in found.values() for section in sections]
    values = {entry.name: entry.value for s in sections for entry in s.entries}
    values |= {alias: s.module for s in sections for alias in s.aliases}
    rows = []
    for name in sorted({*lps.__all__} - {"__version__"}, key=str.lower):
        text = inspect.getdoc(values[f"lps_tf.{name}"]) or ""
        first = docstrings.escaped([text.split("\n\n")[0].replace("\n", " ")])[0]
        rows.append(f"``lps.{name}``\n   {first}\n")
    rooms = "\n".join(f"   {room}" for room in found)
    return "\n".join(
        [
            _heading("API", "="),
            "With ``import lps_tf as lps``:\n",
            *rows,
            "Other names are in the rooms of the package:\n",
            f".. toctree::\n   :maxdepth: 1\n\n{rooms}\n",
        ]
    )
