"""The sets of admissible filters: of rank one, nonnegative, zero at the ends, or of several sizes."""

from dataclasses import dataclass

import torch
from torch import Tensor

from calepin.core.arguments import check_arguments, check_fields
from calepin.core.checks import check_boolean, check_integer, check_tensor

__all__ = ["FilterSet"]


@dataclass(frozen=True)
class FilterSet:
    """What filters (n_components, channels, *kernel_size) are like, besides their unit norm.

    Parameters
    ----------
    rank : {1, None}, default None
        1: a filter is one pattern over the channels times one waveform, as the field of one source is (Dupre
        la Tour et al., "Multivariate convolutional sparse coding for electromagnetic brain signals", 2018).
        None: any.
    nonnegative : bool, default False
        Whether filters have no negative entries.
    tapered : bool, default False
        Whether filters are zero at both ends of each axis, so that no event begins or ends with a jump.
    sizes : tuple of int, optional
        The size of each filter along every axis, at most that of the kernel. A smaller filter is zero around
        its middle: one dictionary then has short and long patterns. Default: all have the size of the kernel.
    """

    rank: int | None = None
    nonnegative: bool = False
    tapered: bool = False
    sizes: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        check_integer("rank", self.rank, most=1, optional=True)
        check_boolean("nonnegative", self.nonnegative)
        check_boolean("tapered", self.tapered)
        for size in self.sizes or ():
            check_integer("sizes", size)

    def project(self, filters: Tensor) -> Tensor:
        """Return filters of the set near the given ones, without a change of their scale.

        Raises
        ------
        ValueError
            If there is not one size for each filter, or one is larger than the kernel.
        """
        check_arguments(FilterSet.project, locals())
        check_tensor("filters", filters)
        support = self._support(filters) if self.tapered or self.sizes is not None else 1
        filters = filters * support
        if self.nonnegative:
            filters = filters.clamp_min(0)
        if self.rank is None:
            return filters
        nearest = _rank_one(filters) * support  # which rounding errors leave
        return nearest.clamp_min(0) if self.nonnegative else nearest

    def check(self, n_components: int, kernel: tuple[int, ...]) -> None:
        """Raise ValueError unless there is one size for each filter, at most that of the kernel."""
        if self.sizes is None:
            return
        if len(self.sizes) != n_components:
            raise ValueError(
                f"sizes: expected one for each of the {n_components} filters, got {len(self.sizes)}"
            )
        if max(self.sizes) > min(kernel):
            raise ValueError(f"sizes: expected at most the kernel's {min(kernel)}, got {max(self.sizes)}")
        least = 3 if self.tapered else 1
        if min(self.sizes) < least:
            raise ValueError(f"sizes: expected at least {least}, got {min(self.sizes)}")

    def _support(self, filters: Tensor) -> Tensor:
        """Return where filters may be nonzero, broadcasting to their shape."""
        kernel = tuple(filters.shape[2:])
        self.check(len(filters), kernel)
        inside = filters.new_ones(len(filters), 1, *kernel, dtype=torch.bool)
        for axis, length in enumerate(kernel):
            sizes = torch.tensor(self.sizes if self.sizes is not None else [length] * len(filters))
            first, last = (length - sizes) // 2, (length - sizes) // 2 + sizes
            if self.tapered:
                first, last = first + 1, last - 1
            place = torch.arange(length)
            along = (place >= first[:, None]) & (place < last[:, None])
            shape = [len(filters), 1, *[1] * axis, length, *[1] * (len(kernel) - axis - 1)]
            inside = inside & along.view(shape).to(filters.device)
        return inside


def _rank_one(filters: Tensor) -> Tensor:
    """Return the nearest filters that are a pattern of the channels times a waveform."""
    U, s, V = torch.linalg.svd(filters.flatten(2), full_matrices=False)
    nearest = s[:, :1, None] * U[:, :, :1] * V[:, :1]
    return nearest.view_as(filters)
