"""The machine that benchmarks run on: processor, instruction sets, matrix rate."""

import importlib.metadata
import os
import platform
import re
import time
from pathlib import Path

#: What float32 arithmetic makes use of, as Linux names it, on x86 and on Arm.
INSTRUCTION_SETS = ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile")
INSTRUCTION_SETS += ("asimd", "sve", "sve2")
#: Keeps every library on this machine from using more than AVX2.
AVX2_ONLY = {
    "XLA_FLAGS": "--xla_cpu_max_isa=AVX2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",  # TensorFlow's and PyTorch's
    "ATEN_CPU_CAPABILITY": "avx2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "OPENBLAS_CORETYPE": "Haswell",
}
PACKAGES = ("tensorflow", "keras", "torch", "numpy")


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def describe() -> dict:
    """What the speeds depend on."""
    lines = Path("/proc/cpuinfo")
    text = lines.read_text() if lines.exists() else ""
    model = re.search(r"^model name\s*: (.+)$", text, re.M)
    flags = re.search(r"^(?:flags|Features)\s*: (.+)$", text, re.M)
    found = set(flags.group(1).split()) if flags else set()
    limited = os.environ.get("XLA_FLAGS") == AVX2_ONLY["XLA_FLAGS"]
    if limited:
        found = {name for name in found if not name.startswith(("avx512", "amx"))}
    name = model.group(1) if model else platform.processor() or platform.machine()
    return {
        "processor": name + (", limited to AVX2" if limited else ""),
        "cores": cores(),
        "instruction_sets": [name for name in INSTRUCTION_SETS if name in found],
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def slug(machine: dict) -> str:
    """A file's name for what `describe` gives."""
    name = re.sub(r"\((?:R|TM)\)", "", machine["processor"], flags=re.I)
    name = f"{name} {machine['cores']} cores"
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def matrix_rate(size: int = 2048, seconds: float = 0.5) -> float:
    """Billions of float32 operations a second in NumPy's matrix products, the best."""
    import numpy as np

    a, b = np.random.default_rng(0).random((2, size, size), np.float32)
    best, end = 0.0, time.perf_counter() + seconds
    while best == 0 or time.perf_counter() < end:
        start = time.perf_counter()
        a @ b
        best = max(best, 2 * size**3 / (time.perf_counter() - start))
    return best / 1e9
