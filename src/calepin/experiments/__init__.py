"""One module per paper; `EXPERIMENTS` holds them all by name."""

from calepin.experiments.registry import Claim, Experiment, Findings, Run, find, perform

EXPERIMENTS: dict[str, Experiment] = {}

__all__ = ["EXPERIMENTS", "Claim", "Experiment", "Findings", "Run", "find", "perform"]
