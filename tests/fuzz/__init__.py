"""Mutated calls, command lines and files: ``python -m tests.fuzz`` tries them for as long as it is told."""
