"""Opening of data files with clear errors, and without loading pickles."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

__all__ = ["load_samples", "open_array", "open_codes", "open_filter_codes", "open_samples", "open_signals"]


def open_array(path: Path) -> "np.ndarray":
    """Memory-map the array of an .npy file."""
    from calepin.core.reading import read_npy

    return read_npy(path, memory_map=True)


def open_samples(path: Path) -> "np.ndarray":
    """Memory-map samples (n_samples, n_features)."""
    X = open_array(path)
    if X.ndim != 2 or 0 in X.shape or X.dtype.kind not in "fiu":
        raise ValueError(
            f"{path}: expected real numbers of shape (n_samples, n_features), "
            f"got {X.dtype} of shape {X.shape}"
        )
    return X


def open_signals(path: Path) -> "np.ndarray":
    """Memory-map signals (n, channels, *spatial). An array (n, length) is read as signals of one channel."""
    X = open_array(path)
    if not 2 <= X.ndim <= 5 or 0 in X.shape or X.dtype.kind not in "fiub":
        raise ValueError(
            f"{path}: expected real numbers of shape (n, channels, *spatial) or (n, length), "
            f"got {X.dtype} of shape {X.shape}"
        )
    return X[:, None] if X.ndim == 2 else X


def load_samples(path: Path) -> "np.ndarray":
    """Memory-map samples of any shape, (n_samples, ...)."""
    X = open_array(path)
    if X.ndim < 2 or 0 in X.shape or X.dtype.kind not in "fiu":
        raise ValueError(
            f"{path}: expected real numbers of shape (n_samples, ...), got {X.dtype} of shape {X.shape}"
        )
    return X


def open_codes(path: Path) -> Any:
    """Return a CSR array from a file of scipy.sparse.save_npz, after a check of its indices."""
    from scipy import sparse

    from calepin.core.reading import check_declared

    with _opened_npz(path, "sparse matrix (.npz of scipy.sparse)") as file:
        stored: Any = sparse.load_npz(file)
        if stored.ndim != 2 or stored.dtype.kind not in "fiu":
            raise ValueError(f"expected real numbers in two axes, got {stored.dtype} of shape {stored.shape}")
        # conversion to CSR allocates an index for each row
        check_declared(path, 8 * (stored.shape[0] + 1) + 16 * stored.nnz)
        codes: Any = sparse.csr_array(stored)
        codes.check_format(full_check=True)
    return codes


def open_filter_codes(path: Path) -> "tuple[np.ndarray, np.ndarray]":
    """Return codes (n, n_components, *positions) of a convolutional dictionary, and their offsets."""
    import numpy as np

    with _opened_npz(path, "file of codes of a convolutional dictionary") as file:
        with np.load(file, allow_pickle=False) as archive:
            codes, offset = archive["codes"], archive["offset"]
        if codes.ndim < 3 or codes.dtype.kind != "f" or offset.dtype.kind != "f":
            raise ValueError(
                f"codes: expected floats of shape (n, n_components, *positions), got {codes.dtype} "
                f"of shape {codes.shape}"
            )
    return codes, offset


@contextmanager
def _opened_npz(path: Path, what: str) -> Iterator[IO[bytes]]:
    """Open an .npz archive after a check of its sizes; an error in the body becomes one of the file."""
    from calepin.core.paths import check_input
    from calepin.core.reading import check_npz, reading

    # Opened here, because NumPy does not close the file of a damaged archive.
    with check_input(path, "an .npz file").open("rb") as file, reading(path, what):
        if file.read(2) != b"PK":
            raise ValueError("it is not an .npz archive")
        check_npz(file, path)
        yield file
