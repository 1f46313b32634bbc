from .bands import EventBands as EventBands
from .bands import event_bands as event_bands
from .basis import bspline_basis as bspline_basis
from .basis import raised_cosine_basis as raised_cosine_basis
from .binning import bin_spikes as bin_spikes
from .binning import bin_trials as bin_trials
from .events import EventModel as EventModel
from .events import fit_event_model as fit_event_model
from .families import NegativeBinomial as NegativeBinomial
from .figures import (
    Events as Events,
)
from .figures import (
    filter_panels as filter_panels,
)
from .figures import (
    ks_plot as ks_plot,
)
from .figures import (
    session_figure as session_figure,
)
from .figures import (
    spike_figure as spike_figure,
)
from .files import (
    read_nwb_spikes as read_nwb_spikes,
)
from .files import (
    read_spikes as read_spikes,
)
from .files import (
    read_units as read_units,
)
from .glm import GLMFit as GLMFit
from .glm import fit_glm as fit_glm
from .goodness import bits_per_spike as bits_per_spike
from .goodness import deviance as deviance
from .goodness import log_likelihood as log_likelihood
from .history import SpikeGLM as SpikeGLM
from .history import fit_spike_glm as fit_spike_glm
from .history import select_order as select_order
from .nwb_results import save_nwb_results as save_nwb_results
from .population import PopulationGLM as PopulationGLM
from .population import fit_population as fit_population
from .population import select_population_alpha as select_population_alpha
from .rescaling import KSTest as KSTest
from .rescaling import ks_test as ks_test
from .rescaling import rescaled_intervals as rescaled_intervals
from .session import Gain as Gain
from .session import ModelFit as ModelFit
from .session import SpikeSession as SpikeSession
from .session import analyse_spikes as analyse_spikes
from .simulate import simulate_spikes as simulate_spikes
from .trains import SpikeTrains as SpikeTrains
from .trains import join_trials as join_trials
from .units import UnitResults as UnitResults
from .units import analyse_units as analyse_units
