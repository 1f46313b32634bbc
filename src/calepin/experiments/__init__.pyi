from .coverage import Item as Item
from .experiment import Claim as Claim
from .experiment import Experiment as Experiment
from .experiment import Findings as Findings
from .experiment import find as find
from .experiment import installed as installed
from .results import perform as perform
from .run import Run as Run
