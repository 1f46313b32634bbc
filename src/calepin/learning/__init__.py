"""How atoms move, given codes: the one training loop, its data, and the rules that plug into it."""

from calepin.learning.atoms import AtomSet, dct_atoms, initial_atoms
from calepin.learning.batches import ArrayBatches, Batch, Batches, IterableBatches
from calepin.learning.gradients import dictionary_gradient
from calepin.learning.soap import SOAP
from calepin.learning.train import (
    Callback,
    DivergedError,
    Rule,
    TrainState,
    load_checkpoint,
    save_checkpoint,
    train,
)

__all__ = [
    "SOAP",
    "ArrayBatches",
    "AtomSet",
    "Batch",
    "Batches",
    "Callback",
    "DivergedError",
    "IterableBatches",
    "Rule",
    "TrainState",
    "dct_atoms",
    "dictionary_gradient",
    "initial_atoms",
    "load_checkpoint",
    "save_checkpoint",
    "train",
]
