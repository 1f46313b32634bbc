"""``calepin doctor``: what calepin runs on, for a bug report."""

from typing import Any

from calepin.cli.errors import FAILED
from calepin.cli.output import Debug, Json, Output, Quiet

__all__ = ["doctor"]

EXAMPLES = [
    ("calepin doctor", "paste what it prints into a bug report"),
    ("calepin doctor --json", "the same for programs"),
]


def doctor(quiet: Quiet = False, as_json: Json = False, debug: Debug = False) -> int:
    """Show what calepin runs on, to paste into a bug report.

    Versions, CPU, memory, threads, BLAS, devices, the cache of kernels, what is optional and missing, and
    variables. Nothing is changed or sent. The home folder is written ~. The status is 1 if something is
    wrong.
    """
    from calepin.core.environment import environment, problems

    found = environment()
    wrong = problems(found)
    output = Output(quiet, as_json)
    for name, text in _lines(found):
        output.line(f"{name:<13}{text}")
    for problem in wrong:
        output.line(f"{'PROBLEM':<13}{problem}")
    output.result({**found, "problems": wrong})
    return FAILED if wrong else 0


def _lines(found: dict[str, Any]) -> list[tuple[str, str]]:
    """Return names and values: one line for each topic, so that little has to be pasted."""
    cpu, memory, cache = found["cpu"], found["memory"], found["kernel_cache"]
    of_memory = "unknown" if memory is None else ", ".join(f"{k[:-3]} {v} GB" for k, v in memory.items())
    return [
        ("calepin", f"{found['calepin']} in {found['location']}"),
        ("Python", f"{found['python']}, {found['executable']}"),
        ("platform", found["platform"]),
        ("CPU", f"{cpu['name']} ({cpu['machine']}), {cpu['usable_cores']} of {cpu['cores']} cores usable"),
        ("instructions", f"{cpu['vector_instructions']}; {' '.join(cpu['features'])}"),
        ("memory", of_memory),
        ("threads", str(found["threads"])),
        *[("BLAS", _library(library)) for library in found["blas"] if library["user_api"] == "blas"],
        *[("OpenMP", _library(library)) for library in found["blas"] if library["user_api"] == "openmp"],
        ("devices", ", ".join(found["devices"])),
        ("kernels", f"{cache['folder'] or 'not kept'}{'' if cache['writable'] else ', not writable'}"),
        ("packages", _versions(found["packages"])),
        *[(f"[{extra}]", _extra(extra, packages)) for extra, packages in found["extras"].items()],
        *[("variable", f"{name}={value}") for name, value in found["variables"].items()],
    ]


def _library(library: dict[str, Any]) -> str:
    parts = [library["internal_api"], library["version"], library["architecture"]]
    return f"{' '.join(part for part in parts if part)}, {library['num_threads']} threads"


def _versions(packages: dict[str, str | None]) -> str:
    return ", ".join(f"{name} {version or 'missing'}" for name, version in packages.items())


def _extra(extra: str, packages: dict[str, str | None]) -> str:
    hint = "" if all(packages.values()) else f" (optional: pip install 'calepin[{extra}]')"
    return _versions(packages) + hint
