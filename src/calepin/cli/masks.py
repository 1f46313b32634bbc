"""Masks of images with missing pixels: which belongs to which image, and where pixels are known."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from calepin.cli.batches import IMAGES, file_beside
from calepin.core.paths import NIFTI_FILES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["mask_of", "read_mask", "read_masks"]


def mask_of(image: Path, mask: Path) -> Path:
    """Return the mask of an image, see `calepin.cli.batches.file_beside`."""
    suffixes = (*IMAGES, *NIFTI_FILES)
    return file_beside(image, mask, suffixes, option="--mask", named=".png, .tif, .npy or .nii")


def read_masks(path: Path, n: int, image: "NDArray[np.floating]", inverted: bool) -> "NDArray[np.bool_]":
    """Return where pixels of n planes in the shape of an image are known: of one for all, or of each."""
    import numpy as np

    from calepin.cli.planes import planes_of_file

    known = _known(path, planes_of_file(path, n, image.shape, "--mask"), inverted)
    return np.broadcast_to(
        known[..., None] if known.ndim == image.ndim else known, (len(known), *image.shape)
    )


def _known(path: Path, values: "NDArray[Any]", inverted: bool) -> "NDArray[np.bool_]":
    numbers = values.dtype.kind in "biuf" and values.size > 0
    if not numbers or not ((values == 0) | (values == values.max())).all():
        raise ValueError(f"{path}: expected a mask of two values, 0 where a pixel is missing, got others")
    return (values == 0) if inverted else (values != 0)


def read_mask(path: Path, image: "NDArray[np.floating]", inverted: bool) -> "NDArray[np.bool_]":
    """Return where pixels are known, in the shape of the image."""
    import numpy as np

    from calepin.core.reading import read_npy
    from calepin.datasets.images import read_image
    from calepin.datasets.stacks import count_planes, holds_stack

    if path.suffix != ".npy" and not holds_stack(path) and count_planes(path) > 1:
        raise ValueError(
            f"{path}: expected a mask of one page for a single image, got {count_planes(path)} pages"
        )
    # samples as they are; as .npy they may be booleans, which are no image
    values = read_npy(path) if path.suffix == ".npy" else read_image(path, value_range=(0, 1)).pixels
    known = _known(path, values, inverted)
    if image.ndim == 2 and known.ndim == 3:
        known = np.asarray(known.all(axis=2))
    if known.shape not in (image.shape, image.shape[:2]):
        raise ValueError(f"{path}: expected a mask of the image's shape {image.shape}, got {known.shape}")
    return known if known.shape == image.shape else np.broadcast_to(known[..., None], image.shape)
