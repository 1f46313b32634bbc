"""The examples in docstrings run and print what they say."""

import doctest
import importlib
import os

import pytest
import source

WITH_EXAMPLES = [name for name, module in source.every_module().items() if ">>> " in module.path.read_text()]
READS_DATA = ("data_path(", "load_mnist(")


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_of(name, tmp_path, monkeypatch):
    """Where CALEPIN_DATA names no folder, a docstring's examples end at the first that reads from it."""
    monkeypatch.chdir(tmp_path)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    for test in doctest.DocTestFinder().find(importlib.import_module(name)):
        reading = [any(word in example.source for word in READS_DATA) for example in test.examples]
        if any(reading) and not os.environ.get("CALEPIN_DATA"):
            del test.examples[reading.index(True) :]
        runner.run(test)
    assert runner.tries, f"{name}: no example was found"
    assert not runner.failures, f"{name}: {runner.failures} of {runner.tries} examples failed, see above"
