"""The errors that calepin raises beside ValueError and scikit-learn's own."""

__all__ = ["FileFormatError", "IncompatibleError"]


class IncompatibleError(TypeError):
    """Two pieces that cannot work together: names the solver, the term and the missing capability."""


class FileFormatError(ValueError):
    """A file that is not what its reader needs: truncated, of another kind, or refused (pickles)."""
