"""Data files of the command line: opened with one clear error, and never as pickles."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from calepin.errors import FileFormatError

if TYPE_CHECKING:
    import numpy as np

__all__ = ["check_output", "open_codes", "open_samples"]


def open_samples(path: Path) -> "np.ndarray":
    """Memory-map samples (n_samples, n_features); pickles are refused."""
    import numpy as np

    if path.is_dir():
        raise FileFormatError(f"{path} is a folder, expected an .npy file")
    if not path.exists():
        raise FileNotFoundError(f"no such file: {path}")
    try:
        X = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        if "Object arrays" in str(error) or "pickled" in str(error) or "Python objects" in str(error):
            raise FileFormatError(
                f"{path} is not an .npy array of numbers (calepin never loads pickles)"
            ) from error
        raise FileFormatError(f"{path} is not a readable .npy array: {error}") from error
    if not isinstance(X, np.ndarray):
        raise FileFormatError(f"{path} is an .npz archive, expected one array in an .npy file")
    if X.ndim != 2 or 0 in X.shape or X.dtype.kind not in "fiu":
        raise ValueError(
            f"{path} must hold real numbers of shape (n_samples, n_features), "
            f"got {X.dtype} of shape {X.shape}"
        )
    return X


def open_codes(path: Path) -> Any:
    """Return the CSR array that scipy.sparse.save_npz wrote, with sound indices."""
    import zipfile
    import zlib

    from scipy import sparse

    if path.is_dir():
        raise FileFormatError(f"{path} is a folder, expected an .npz file")
    if not path.exists():
        raise FileNotFoundError(f"no such file: {path}")
    try:
        codes: Any = sparse.csr_array(sparse.load_npz(path))
        codes.check_format(full_check=True)
    except (ValueError, EOFError, OSError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise FileFormatError(
            f"{path} is not a readable sparse matrix (.npz of scipy.sparse): {error}"
        ) from error
    return codes


def check_output(path: Path, suffix: str | None = None) -> None:
    """Refuse an output path before the work rather than after it."""
    if suffix is not None and path.suffix != suffix:
        raise ValueError(f"cannot write {path}: expected a name that ends in {suffix}")
    if path.is_dir():
        raise IsADirectoryError(f"cannot write {path}: it is a folder")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"cannot write {path}: the folder {path.parent} does not exist")
