"""Convolutional codes as lists of their nonzeros: what memory and arithmetic need, whatever the length."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

__all__ = ["SparseCodes"]


@dataclass(frozen=True, eq=False)
class SparseCodes:
    """The nonzeros of codes (n, n_components, *positions), ordered by sample and then by position.

    Attributes
    ----------
    shape : tuple of int
        (n, n_components, *positions).
    sample, atom : int64 array, shape (n_nonzero,)
        The sample and the atom of each nonzero.
    place : int64 array, shape (n_nonzero, n_axes)
        The position of each nonzero.
    value : array, shape (n_nonzero,)
        The nonzeros.
    """

    shape: tuple[int, ...]
    sample: np.ndarray
    atom: np.ndarray
    place: np.ndarray
    value: np.ndarray

    @classmethod
    def from_dense(cls, codes: Tensor) -> Self:
        """Return the nonzeros of a tensor (n, n_components, *positions)."""
        places = codes.detach().movedim(1, -1).nonzero().cpu().numpy()
        sample, place, atom = places[:, 0], places[:, 1:-1], places[:, -1]
        values = codes.detach().movedim(1, -1)[tuple(torch.from_numpy(places).T)].cpu().numpy()
        return cls(tuple(codes.shape), sample, atom, place, values)

    @classmethod
    def of_samples(
        cls, shape: tuple[int, ...], found: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]]
    ) -> Self:
        """Join the nonzeros (atom, place, value) of each sample."""
        counts = [len(value) for _, _, value in found]
        atom, place, value = (np.concatenate(column) for column in zip(*found, strict=True))
        return cls(shape, np.repeat(np.arange(len(found)), counts), atom, place, value)

    def dense(self) -> Tensor:
        """Return the codes as a tensor."""
        codes = np.zeros(self.shape, self.value.dtype)
        codes[(self.sample, self.atom, *self.place.T)] = self.value
        return torch.from_numpy(codes)

    def where(self, kept: np.ndarray) -> Self:
        """Return the codes without some of their nonzeros."""
        return type(self)(self.shape, self.sample[kept], self.atom[kept], self.place[kept], self.value[kept])

    def merged(self, other: "SparseCodes") -> tuple["SparseCodes", np.ndarray]:
        """Return the nonzeros of two codes of other samples, and their order in the concatenated ones."""
        sample = np.concatenate([self.sample, other.sample])
        order = np.argsort(sample, kind="stable")
        columns = [
            np.concatenate(pair)[order]
            for pair in ((self.atom, other.atom), (self.place, other.place), (self.value, other.value))
        ]
        return SparseCodes(self.shape, sample[order], *columns), order

    def at_sample(self, sample: int) -> slice:
        """Return where the nonzeros of a sample stand."""
        return slice(*np.searchsorted(self.sample, (sample, sample + 1)).tolist())
