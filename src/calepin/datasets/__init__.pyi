from .correlated_noise import CorrelatedNoise as CorrelatedNoise
from .folder import data_path as data_path
from .folder import has_data as has_data
from .idx import load_mnist as load_mnist
from .idx import read_idx as read_idx
from .images import Image as Image
from .images import read_image as read_image
from .images import write_image as write_image
from .noise import GaussianNoise as GaussianNoise
from .noise import Noise as Noise
from .noise import PoissonGaussianNoise as PoissonGaussianNoise
from .noise import PoissonNoise as PoissonNoise
from .noise import VaryingGaussianNoise as VaryingGaussianNoise
from .noise import add_noise as add_noise
from .samples import SAMPLES as SAMPLES
from .samples import load_digits as load_digits
from .samples import load_sample as load_sample
from .simulate import (
    ConvolutionalData as ConvolutionalData,
)
from .simulate import (
    SparseData as SparseData,
)
from .simulate import (
    simulate_convolutional as simulate_convolutional,
)
from .simulate import (
    simulate_sparse as simulate_sparse,
)
from .simulate import (
    smooth_filters as smooth_filters,
)
from .stacks import Stack as Stack
from .stacks import read_stack as read_stack
from .stacks import write_stack as write_stack
