"""Running an experiment, and the file of its results."""

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from calepin.core.environment import machine
from calepin.core.files import atomic_write
from calepin.core.package import commit
from calepin.experiments.experiment import Experiment, Scale
from calepin.experiments.run import Run, discard, fingerprint

__all__ = ["perform"]


def perform(
    experiment: Experiment,
    out: Path,
    *,
    scale: Scale = "quick",
    seed: int = 0,
    device: str = "cpu",
    resume: bool = True,
    progress: Callable[[float, str], None] = lambda part, text: None,
) -> dict[str, Any]:
    """Run an experiment and write ``out/NAME/result.json`` beside its figures; return its content.

    The file holds experiment, scale, seed, device, date, commit, machine, seconds, n_resumed, settings,
    values {name: number}, claims [{claim, value, relation, bar, holds}] and figures. It is strict JSON: a
    value that is NaN or infinite is null, and its claim does not hold. An older result is kept until the new
    one is complete.

    Finished pieces are kept in ``out/NAME/pieces`` (see `Run.piece`). With `resume`, pieces and checkpoints
    with the same code, settings, seed and device are used; `n_resumed` is the number of pieces, and `seconds`
    includes theirs. Without it they are removed first.
    """
    folder = out / experiment.name
    folder.mkdir(parents=True, exist_ok=True)
    settings = getattr(experiment, scale)
    described = asdict(settings)
    key = fingerprint(experiment.package, described, seed, device)
    begun = time.perf_counter()
    run = Run(seed, device, folder, progress, key)
    if not resume:
        discard(run)
    findings = experiment.measure(settings, run)
    result = {
        "experiment": experiment.name,
        "scale": scale,
        "seed": seed,
        "device": device,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "commit": commit(),
        "machine": machine(),
        "seconds": round(time.perf_counter() - begun + sum(run.earlier), 3),
        "n_resumed": len(run.earlier),
        "settings": described,
        "values": {name: _number(value) for name, value in findings.values.items()},
        "claims": [
            {
                "claim": claim.claim,
                "value": _number(claim.value),
                "relation": claim.relation,
                "bar": claim.bar,
                "holds": bool(claim.holds),
            }
            for claim in findings.claims
        ],
        "figures": list(findings.figures),
    }
    with atomic_write(folder / "result.json") as temporary:
        temporary.write_text(json.dumps(result, indent=2, allow_nan=False) + "\n")
    return result


def _number(value: float) -> float | None:
    value = float(value)
    return value if math.isfinite(value) else None
