"""Writing files whole or not at all: to a temporary name first, then renamed."""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def atomically(path: str | Path, write: Callable[[Path], Any]) -> Path:
    """Calls `write` with a temporary path beside `path`, then renames it to `path`.

    The temporary name keeps the ending, which some formats are chosen by. A folder
    that is there already is replaced.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Of several machines that share a folder, processes may share a number.
    unique = uuid.uuid4().hex
    temporary = path.with_name(f".{unique}.{path.name}")
    old = path.with_name(f".{unique}.old.{path.name}")
    try:
        write(temporary)
        if path.is_dir():  # a folder cannot be renamed onto another
            os.replace(path, old)
            try:
                os.replace(temporary, path)
            except OSError:
                os.replace(old, path)
                raise
        else:
            os.replace(temporary, path)
    finally:
        for rest in (temporary, old):
            if rest.is_dir():
                shutil.rmtree(rest)
            else:
                rest.unlink(missing_ok=True)
    return path


def newly(path: str | Path) -> bool:
    """Makes an empty file; whether it was this call that made it.

    Of several processes, on one machine or on several that share a folder, one is told
    yes.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    try:
        Path(path).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def write(path: str | Path, content: bytes) -> Path:
    """Writes bytes."""
    return atomically(path, lambda temporary: temporary.write_bytes(content))


def write_text(path: str | Path, content: str) -> Path:
    """Writes text."""
    return write(path, content.encode())


def write_json(path: str | Path, content: Any) -> Path:
    """Writes JSON, readable."""
    return write_text(path, json.dumps(content, indent=1) + "\n")


def digest(*arrays: np.ndarray) -> str:
    """A hash of types, shapes and values: what results in a folder depend on."""
    total = hashlib.blake2b(digest_size=16)
    for array in arrays:
        total.update(f"{array.shape} {array.dtype}".encode())
        total.update(array.tobytes())
    return total.hexdigest()
