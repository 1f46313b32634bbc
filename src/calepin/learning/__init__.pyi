from .atoms import AtomSet as AtomSet
from .atoms import dct_atoms as dct_atoms
from .atoms import initial_atoms as initial_atoms
from .batches import (
    ArrayBatches as ArrayBatches,
)
from .batches import (
    Batch as Batch,
)
from .batches import (
    Batches as Batches,
)
from .batches import (
    IterableBatches as IterableBatches,
)
from .convolutional_coders import ConvolutionalCoder as ConvolutionalCoder
from .convolutional_coders import ProximalCoder as ProximalCoder
from .convolutional_coders import PursuitCoder as PursuitCoder
from .filters import initial_filters as initial_filters
from .gradients import GradientRule as GradientRule
from .gradients import UnfoldedSolver as UnfoldedSolver
from .gradients import dictionary_gradient as dictionary_gradient
from .rules.classical import (
    KSVD as KSVD,
)
from .rules.classical import (
    MOD as MOD,
)
from .rules.classical import (
    NOODL as NOODL,
)
from .rules.classical import (
    ClassicalRule as ClassicalRule,
)
from .rules.classical import (
    Online as Online,
)
from .rules.convolutional import Convolutional as Convolutional
from .rules.generative import (
    Algorithm1 as Algorithm1,
)
from .rules.generative import (
    AltMin as AltMin,
)
from .rules.generative import (
    Autodiff as Autodiff,
)
from .rules.generative import (
    GenerativeRule as GenerativeRule,
)
from .rules.generative import (
    LeastSquares as LeastSquares,
)
from .rules.generative import (
    algorithm1_step as algorithm1_step,
)
from .rules.generative import (
    preconditioner as preconditioner,
)
from .rules.network import CosineDecay as CosineDecay
from .rules.network import NetworkRule as NetworkRule
from .rules.network import train_steps as train_steps
from .rules.unrolled import Unfolded as Unfolded
from .rules.vae import VAERule as VAERule
from .signals import SignalBatches as SignalBatches
from .signals import Signals as Signals
from .soap import SOAP as SOAP
from .train import (
    Callback as Callback,
)
from .train import (
    DivergedError as DivergedError,
)
from .train import (
    Rule as Rule,
)
from .train import (
    TrainState as TrainState,
)
from .train import (
    load_checkpoint as load_checkpoint,
)
from .train import (
    save_checkpoint as save_checkpoint,
)
from .train import (
    train as train,
)
