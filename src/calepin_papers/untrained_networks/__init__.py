"""Compressive sensing with untrained networks: Heckel and Soltanolkotabi 2020, one module per figure."""

from calepin_papers.untrained_networks.images import CS_IMAGES
from calepin_papers.untrained_networks.inpainting import CS_INPAINTING
from calepin_papers.untrained_networks.jacobian import CS_JACOBIAN
from calepin_papers.untrained_networks.kernels import CS_KERNELS
from calepin_papers.untrained_networks.linear import CS_LINEAR
from calepin_papers.untrained_networks.linearised import CS_LINEARISED
from calepin_papers.untrained_networks.mri import CS_MRI
from calepin_papers.untrained_networks.mri_convergence import CS_MRI_CONVERGENCE
from calepin_papers.untrained_networks.stopping import CS_EARLY_STOPPING
from calepin_papers.untrained_networks.two_layer import CS_TWO_LAYER

EXPERIMENTS = (
    CS_LINEAR,
    CS_KERNELS,
    CS_TWO_LAYER,
    CS_LINEARISED,
    CS_IMAGES,
    CS_JACOBIAN,
    CS_MRI,
    CS_MRI_CONVERGENCE,
    CS_INPAINTING,
    CS_EARLY_STOPPING,
)

__all__ = ["EXPERIMENTS"]
