"""Opening of HDF5 files: all data must be in the file itself, and about as large as the file.

HDF5 can refer to any file on the machine, by external links, external storage and virtual datasets. Damaged
files can crash its library, so these functions are called in a child process (`calepin.core.isolated`).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from calepin.core.errors import FileFormatError
from calepin.core.reading import check_declared, reading

__all__ = ["check_hdf5", "opened_hdf5"]


@contextmanager
def opened_hdf5(path: Path, what: str, *, trusted: bool) -> Iterator[Any]:
    """Open an HDF5 file after `check_hdf5`; an error in the body becomes one of the file.

    Raises
    ------
    FileFormatError
        If the file is damaged, or h5py is missing.
    """
    try:
        import h5py
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            f"{path} is an HDF5 file, which needs h5py: pip install 'calepin[mri]'"
        ) from None
    with reading(path, what), h5py.File(path, "r") as file:
        check_hdf5(path, file, trusted=trusted)
        yield file


def check_hdf5(path: Path, file: Any, *, trusted: bool) -> None:
    """Raise FileFormatError for data outside the file, and for datasets far larger than the file."""
    import h5py

    seen, groups = set(), [file]
    while groups:
        group = groups.pop()
        for name in group:
            where = f"{group.name}/{name}".replace("//", "/")
            link = group.get(name, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                raise FileFormatError(f"{path} refers to another file by the external link {where}: refused")
            if isinstance(link, h5py.SoftLink):
                continue  # its target is in this file and is checked there
            node = group[name]
            if node in seen:  # a group can contain itself
                continue
            seen.add(node)
            if isinstance(node, h5py.Group):
                groups.append(node)
            elif isinstance(node, h5py.Dataset):
                if node.external or node.is_virtual:
                    raise FileFormatError(f"{path} stores {where} in another file: refused")
                check_declared(path, node.nbytes, trusted=trusted)
