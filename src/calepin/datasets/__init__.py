"""Pictures in files, bundled samples, simulators, and the folder that CALEPIN_DATA names."""

from calepin.datasets.folder import data_path, has_data
from calepin.datasets.idx import load_mnist, read_idx
from calepin.datasets.kspace import read_kspace, write_cfl
from calepin.datasets.pictures import Picture, read_picture, write_picture
from calepin.datasets.samples import SAMPLES, load_digits, load_sample
from calepin.datasets.simulate import (
    ConvolutionalData,
    SparseData,
    add_gaussian_noise,
    simulate_convolutional,
    simulate_sparse,
    smooth_filters,
)

__all__ = [
    "SAMPLES",
    "ConvolutionalData",
    "Picture",
    "SparseData",
    "add_gaussian_noise",
    "data_path",
    "has_data",
    "load_digits",
    "load_mnist",
    "load_sample",
    "read_idx",
    "read_kspace",
    "read_picture",
    "simulate_convolutional",
    "simulate_sparse",
    "smooth_filters",
    "write_cfl",
    "write_picture",
]
