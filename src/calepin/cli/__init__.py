"""The command line: ``calepin COMMAND ...``.

Each command is one module. The code it calls is imported when the command runs, or when its help shows
defaults, so that ``calepin --help`` is fast. `errors` turns every exception into one line and an exit
status.
"""

import os
import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status: 0 done, 1 failed, 2 bad input, 130 interrupted."""
    # set before torch is loaded: threads that wait by spinning slow each other down a hundredfold as soon
    # as another process runs
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    from calepin.cli.app import app
    from calepin.cli.errors import run

    return run(app, sys.argv[1:] if argv is None else argv)
