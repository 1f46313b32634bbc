"""The sets of admissible filters: of rank one, nonnegative, zero at the ends, of several sizes, or decays."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from calepin.core.arguments import check_arguments, check_fields
from calepin.core.checks import check_boolean, check_integer, check_one_of, check_tensor
from calepin.learning.decays import nearest_decays

__all__ = ["FilterSet"]


@dataclass(frozen=True)
class FilterSet:
    """What filters (n_components, channels, *kernel_size) are like, besides their norm.

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
    autoregressive : {1, 2, None}, default None
        Filters of signals with one axis are the responses of an autoregressive process of this order, as of a
        calcium indicator to a spike: 1: an exponential decay; 2: a rise and a decay, the difference of two
        exponentials. Each channel has its amplitude. The time constants are learned (`time_constants`).
    norm : {"unit", "ball"}, default "unit"
        "ball": filters have at most unit norm, as those of alphacsc, and no step of learning from moments
        raises the objective. Filters shorter than that belong to codes that are larger than they need be, and
        grow: where learning converges, used filters have unit norm either way.
    """

    rank: int | None = None
    nonnegative: bool = False
    tapered: bool = False
    sizes: tuple[int, ...] | None = None
    autoregressive: int | None = None
    norm: Literal["unit", "ball"] = "unit"

    def __post_init__(self) -> None:
        check_fields(self)
        check_integer("rank", self.rank, most=1, optional=True)
        check_boolean("nonnegative", self.nonnegative)
        check_boolean("tapered", self.tapered)
        check_one_of("norm", self.norm, ("unit", "ball"))
        for size in self.sizes or ():
            check_integer("sizes", size)
        check_integer("autoregressive", self.autoregressive, most=2, optional=True)
        if self.autoregressive is not None and (self.tapered or self.sizes is not None):
            raise ValueError(
                "autoregressive: expected None with tapered or sizes, because a decay has its own ends"
            )

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
        if self.autoregressive is not None:
            self._check_axes(tuple(filters.shape[2:]))
            filters, _ = nearest_decays(filters, self.autoregressive)
            return filters.clamp_min(0) if self.nonnegative else filters
        if self.nonnegative:
            filters = filters.clamp_min(0)
        if self.rank is None:
            return filters
        nearest = _rank_one(filters) * support  # which rounding errors leave
        return nearest.clamp_min(0) if self.nonnegative else nearest

    def time_constants(self, filters: Any) -> Tensor:
        """Return the time constants (n_components, order) of autoregressive filters, in samples.

        The decay, then, with order 2, the rise: the nearest to any filters (n_components, channels, length),
        such as `components_`.

        Raises
        ------
        ValueError
            If `autoregressive` is None, or the filters have several axes.
        """
        if self.autoregressive is None:
            raise ValueError("time_constants: expected a set with autoregressive = 1 or 2")
        filters = torch.as_tensor(filters)
        self._check_axes(tuple(filters.shape[2:]))
        return nearest_decays(filters, self.autoregressive)[1]

    def _check_axes(self, kernel: tuple[int, ...]) -> None:
        if self.autoregressive is not None and len(kernel) != 1:
            raise ValueError(f"autoregressive: expected None for filters with {len(kernel)} axes")

    def check(self, n_components: int, kernel: tuple[int, ...]) -> None:
        """Raise ValueError unless there is one size for each filter, at most that of the kernel."""
        self._check_axes(kernel)
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
