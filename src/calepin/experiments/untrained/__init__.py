"""Compressive sensing with untrained networks: Heckel and Soltanolkotabi 2020, one module per figure."""

from calepin.experiments.untrained.images import CS_IMAGES
from calepin.experiments.untrained.inpainting import CS_INPAINTING
from calepin.experiments.untrained.jacobian import CS_JACOBIAN
from calepin.experiments.untrained.kernels import CS_KERNELS
from calepin.experiments.untrained.linear import CS_LINEAR
from calepin.experiments.untrained.mri import CS_MRI
from calepin.experiments.untrained.two_layer import CS_TWO_LAYER

EXPERIMENTS = (CS_LINEAR, CS_KERNELS, CS_TWO_LAYER, CS_IMAGES, CS_JACOBIAN, CS_MRI, CS_INPAINTING)

__all__ = ["EXPERIMENTS"]
