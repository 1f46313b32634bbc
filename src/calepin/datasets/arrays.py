"""Opening of data files with clear errors, and without loading pickles."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from calepin.core.errors import FileFormatError

if TYPE_CHECKING:
    import numpy as np

__all__ = ["load_samples", "open_array", "open_codes", "open_filter_codes", "open_samples", "open_signals"]


def open_array(path: Path) -> "np.ndarray":
    """Memory-map the array of an .npy file."""
    import numpy as np

    _check_input(path, "an .npy file")
    with path.open("rb") as file:
        start = file.read(6)
    if start != b"\x93NUMPY":
        looks = {b"\x80": "a pickle, which calepin never loads", b"P": "an archive of several arrays"}
        hint = looks.get(start[:1])
        raise FileFormatError(f"{path} is not an .npy array" + (f": it looks like {hint}" if hint else ""))
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError, SyntaxError) as error:
        if "objects" in str(error):
            raise FileFormatError(
                f"{path} holds Python objects, which are pickles: calepin never loads them"
            ) from error
        raise FileFormatError(f"{path} is not a readable .npy array: {error}") from error


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
    import zipfile
    import zlib

    from scipy import sparse

    _check_input(path, "an .npz file")
    try:
        # Opened here, because NumPy does not close the file of a damaged archive.
        with path.open("rb") as file:
            if file.read(2) != b"PK":
                raise ValueError("not an .npz archive")
            file.seek(0)
            codes: Any = sparse.csr_array(sparse.load_npz(file))
        codes.check_format(full_check=True)
    except (ValueError, EOFError, OSError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise FileFormatError(
            f"{path} is not a readable sparse matrix (.npz of scipy.sparse): {error}"
        ) from error
    return codes


def open_filter_codes(path: Path) -> "tuple[np.ndarray, np.ndarray]":
    """Return codes (n, n_components, *positions) of a convolutional dictionary, and their offsets."""
    import zipfile
    import zlib

    import numpy as np

    _check_input(path, "an .npz file")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return archive["codes"], archive["offset"]
    except (ValueError, EOFError, OSError, KeyError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise FileFormatError(
            f"{path} does not hold codes of a convolutional dictionary in the format of encode: {error}"
        ) from error


def _check_input(path: Path, expected: str) -> None:
    if path.is_dir():
        raise FileFormatError(f"{path} is a folder, expected {expected}")
    if not path.exists():
        raise FileNotFoundError(f"no such file: {path}")
