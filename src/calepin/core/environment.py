"""What calepin runs on: versions, CPU, threads, BLAS, memory, devices, cache of kernels, what is missing."""

import os
import platform
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from calepin.core.package import extras, requirements, version

__all__ = ["environment", "machine", "problems"]

# Variables whose names begin so change what is computed, on how many threads, or where files are.
_PREFIXES = ("CALEPIN_", "NUMBA_", "OMP_", "OPENBLAS_", "MKL_", "CUDA_VISIBLE_DEVICES", "PYTHONPATH")


def environment() -> dict[str, Any]:
    """Return what a bug report should say, as JSON; the user's home folder is written ``~``."""
    from calepin.core.compiled import kernel_cache
    from calepin.core.threads import n_threads

    cache = kernel_cache()
    return {
        "calepin": version(),
        "location": _short(Path(__file__).parents[1]),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "executable": _short(sys.executable),
        "platform": platform.platform(),
        "cpu": _cpu(),
        "memory": _memory(),
        "threads": n_threads(),
        "blas": _blas(),
        "devices": _devices(),
        "kernel_cache": {"folder": cache and _short(cache), "writable": _is_writable(cache)},
        "packages": {r.name: _installed(r) for r in requirements()},
        "extras": {name: {r.name: _installed(r) for r in needed} for name, needed in extras().items()},
        "variables": {
            name: _short(value) for name, value in sorted(os.environ.items()) if name.startswith(_PREFIXES)
        },
    }


def machine() -> str:
    """Return the CPU, its number of cores, and the versions of Python, torch and NumPy in one line."""
    import numpy
    import torch
    from llvmlite import binding

    return (
        f"{platform.machine()} {binding.get_host_cpu_name()}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}, torch {torch.__version__}, NumPy {numpy.__version__}"
    )


def problems(found: dict[str, Any]) -> list[str]:
    """Return what is wrong in an environment, one line each: old packages, kernels that cannot be kept."""
    needed = [*requirements(), *(r for of_extra in extras().values() for r in of_extra)]
    lines = [_unmet(requirement) for requirement in needed]
    if not found["kernel_cache"]["writable"]:
        lines.append(
            "compiled kernels cannot be kept, and each run compiles them again: "
            "set NUMBA_CACHE_DIR to a folder that can be written"
        )
    return sorted({line for line in lines if line})


def _unmet(requirement: Requirement) -> str:
    """Return what is wrong with an installed package; one that is missing is no problem if it is optional."""
    found = _installed(requirement)
    if found is None:
        optional = requirement.name not in {r.name for r in requirements()}
        return "" if optional else f"{requirement.name} is missing: calepin needs {requirement}"
    if requirement.specifier.contains(found, prereleases=True):
        return ""
    return f"{requirement.name} is {found}: calepin needs {requirement}"


def _installed(requirement: Requirement) -> str | None:
    try:
        return metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return None


def _cpu() -> dict[str, Any]:
    import torch
    from llvmlite import binding  # numba's compiler, which chooses instructions by these names

    try:
        features = binding.get_host_cpu_features()
    except RuntimeError:  # LLVM does not know those of every system
        features = {}
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "name": binding.get_host_cpu_name(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "usable_cores": usable,
        "vector_instructions": torch.backends.cpu.get_cpu_capability(),
        "features": sorted(name for name, present in features.items() if present),
    }


def _memory() -> dict[str, float] | None:
    """Return the memory of this machine in GB (10^9 bytes), None where Python cannot tell (Windows)."""
    try:
        page = os.sysconf("SC_PAGE_SIZE")
        pages = {"total_gb": "SC_PHYS_PAGES", "free_gb": "SC_AVPHYS_PAGES"}
        known = {key: name for key, name in pages.items() if name in os.sysconf_names}
        return {key: round(page * os.sysconf(name) / 1e9, 1) for key, name in known.items()}
    except (AttributeError, OSError, ValueError):
        return None


def _blas() -> list[dict[str, Any]]:
    import numpy  # noqa: F401  loads its BLAS
    import scipy.linalg.blas  # noqa: F401
    from threadpoolctl import threadpool_info

    keys = ("user_api", "internal_api", "version", "architecture", "num_threads")
    return [{key: library.get(key) for key in keys} for library in threadpool_info()]


def _devices() -> list[str]:
    import torch

    names = [f"cuda:{i} {torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count())]
    return ["cpu", *names, *(["mps"] if torch.backends.mps.is_available() else [])]


def _is_writable(folder: Path | None) -> bool:
    """Return whether a file can be created in a folder, or in the nearest one above it that exists."""
    if folder is None:
        return False
    existing = next(place for place in (folder, *folder.parents) if place.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            return True
    except OSError:
        return False


def _short(path: str | Path) -> str:
    return str(path).replace(str(Path.home()), "~")
