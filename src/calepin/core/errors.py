"""Errors that calepin raises in addition to ValueError and the errors of scikit-learn."""

__all__ = ["FileFormatError", "IncompatibleError"]


class IncompatibleError(TypeError):
    """Two objects that cannot be combined. The message names the solver, the term and what it lacks."""


class FileFormatError(ValueError):
    """A file that cannot be read: truncated, of another kind, or a pickle, which is always refused."""
