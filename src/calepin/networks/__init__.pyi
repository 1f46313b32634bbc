from .autoencoder import UnfoldedAutoencoder as UnfoldedAutoencoder
from .deep_decoder import DeepDecoder as DeepDecoder
from .deep_image_prior import DeepImagePrior as DeepImagePrior
from .jacobian import Jacobian as Jacobian
from .pretrained_networks import PRETRAINED as PRETRAINED
from .pretrained_networks import open_generator as open_generator
from .pretrained_networks import pretrained as pretrained
from .two_layer import (
    TwoLayerGenerator as TwoLayerGenerator,
)
from .two_layer import (
    box_kernel as box_kernel,
)
from .two_layer import (
    gaussian_kernel as gaussian_kernel,
)
from .two_layer import (
    triangular_kernel as triangular_kernel,
)
from .unfolded_denoiser import UnfoldedDenoiser as UnfoldedDenoiser
from .untrained import (
    ComplexPair as ComplexPair,
)
from .untrained import (
    LinearGenerator as LinearGenerator,
)
from .untrained import (
    UntrainedNetwork as UntrainedNetwork,
)
from .vae import VAE as VAE
