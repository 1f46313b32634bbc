"""How long ``import calepin`` takes beside ``import torch``, each in a fresh interpreter."""

import subprocess
import sys

from benchmarks.runner import Comparison, Contender


def _imports() -> list[Contender]:
    def contender(statement: str) -> Contender:
        command = [sys.executable, "-c", statement]
        return Contender(statement, lambda: subprocess.run(command, check=True), lambda _: {})

    return [
        contender("import calepin"),
        contender("import torch"),
        contender("from calepin import DictionaryLearner"),
        contender("import sklearn.decomposition"),
    ]


COMPARISONS = [Comparison("import", "Import time", "under 2.5 x import torch", _imports, rounds=5)]
