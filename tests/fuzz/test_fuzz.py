"""A fixed small part of what ``make fuzz`` tries for hours."""

import importlib
import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from . import api, commands, driver
from .calls import CALLS, LEFT_OUT

NAMES = Path(__file__).parents[1] / "gates" / "public_names.txt"


def test_every_public_name_is_called_or_left_out_with_a_reason():
    left_out = {id(_of(name)) for name in LEFT_OUT}
    called = {id(_of(name.partition(":")[0])) for name in CALLS}
    names = [line.removeprefix("calepin.") for line in NAMES.read_text().split()]
    assert [name for name in names if id(_of(name)) not in left_out | called] == []


@pytest.mark.parametrize("name", sorted(CALLS))
@pytest.mark.filterwarnings("ignore")
def test_the_calls_that_are_mutated_are_valid(name):
    function, arguments = CALLS[name]()
    result = function(**arguments)
    assert all(np.isfinite(numbers).all() for numbers in api._numbers(result))


@pytest.mark.parametrize("seed", range(0, 4500, 500))
@pytest.mark.filterwarnings("ignore")
def test_mutated_calls_end_well(seed):
    for one in range(seed, seed + 500):
        api.check(one)


@pytest.mark.filterwarnings("ignore")
def test_mutated_command_lines_end_well():
    for seed in range(120):
        commands.check(seed)


def test_crashes_and_faults_of_a_part_are_found(tmp_path, monkeypatch, capfd):
    wrong = "assert seed != 3, 'here(x: y): wrong'"
    part = f"import os\ndef check(seed):\n    {wrong}\n    if seed == 5: os._exit(7)\n"
    package = tmp_path / "faulty"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "api.py").write_text(part)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(driver, "PACKAGE", "faulty")
    monkeypatch.setattr(sys, "argv", ["fuzz", "--seconds", "6", "--jobs", "1", "--parts", "api"])
    assert driver.main() == 1
    found = capfd.readouterr().out
    assert "here(x: y): wrong" in found
    assert "seed 5: crashed with exit code 7" in found


def _of(name):
    room, _, attributes = name.partition(".") if name[0].islower() and "." in name else ("", "", name)
    value = importlib.import_module(f"calepin.{room}".rstrip("."))
    for attribute in attributes.split("."):
        value = getattr(value, attribute)
    return value


def test_a_seed_is_judged_by_its_own_time_and_not_by_that_of_other_work():
    begun, before = time.process_time(), driver._cpu_seconds(os.getpid())
    time.sleep(0.3)
    while time.process_time() < begun + 0.2:
        pass
    assert driver._cpu_seconds(os.getpid()) - before == pytest.approx(time.process_time() - begun, abs=0.1)
