"""A few kills; ``make torture`` does a hundred."""

import os
import subprocess
import sys
from pathlib import Path


def test_killed_commands_lose_nothing():
    script = Path(__file__).with_name("torture.py")
    done = subprocess.run(
        [sys.executable, str(script), "--kills", "4", "--seed", "1", "--jobs", "learn online"],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "runs ended with the bits of an undisturbed one" in done.stdout
