"""Pictures, k-space and spike trains in files, bundled samples, simulators, the folder of CALEPIN_DATA."""

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
from calepin.datasets.spikes import (
    SpikeTrains,
    join_trials,
    read_nwb_spikes,
    read_spikes,
    simulate_spikes,
)

__all__ = [
    "SAMPLES",
    "ConvolutionalData",
    "Picture",
    "SparseData",
    "SpikeTrains",
    "add_gaussian_noise",
    "data_path",
    "has_data",
    "join_trials",
    "load_digits",
    "load_mnist",
    "load_sample",
    "read_idx",
    "read_kspace",
    "read_nwb_spikes",
    "read_picture",
    "read_spikes",
    "simulate_convolutional",
    "simulate_sparse",
    "simulate_spikes",
    "smooth_filters",
    "write_cfl",
    "write_picture",
]
