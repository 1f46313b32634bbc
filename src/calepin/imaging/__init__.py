"""Pictures restored by dictionaries and networks, and the patches, noise level and groups it needs.

`denoise_counts` loads its network's code when it is asked for.
"""

from typing import TYPE_CHECKING, Any

from calepin.imaging.noise import estimate_noise

if TYPE_CHECKING:
    from calepin.imaging.photons import denoise_counts

__all__ = ["denoise_counts", "estimate_noise"]


def __getattr__(name: str) -> Any:
    if name != "denoise_counts":
        raise AttributeError(f"module 'calepin.imaging' has no attribute {name!r}")
    from calepin.imaging.photons import denoise_counts

    return denoise_counts
