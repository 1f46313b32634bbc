"""Results as a processing module of an NWB file."""

import os
import shutil
import tempfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from calepin.core.arguments import check_arguments
from calepin.core.files import atomic_write
from calepin.core.paths import check_input, check_output
from calepin.spikes.session import SpikeSession

__all__ = ["save_nwb_results"]

MODULE = "calepin"


def save_nwb_results(
    sessions: Mapping[str, SpikeSession], source: str | os.PathLike, path: str | os.PathLike
) -> None:
    """Write a copy of an NWB file with the results in the processing module "calepin".

    Table "units" has a row for each unit: verdict, bits per spike, KS distance and its bound. Table "events"
    has a row for each event in each trial: unit, trial, time in seconds of the recording, time after the cue,
    and amplitude.

    Parameters
    ----------
    sessions : mapping of str to SpikeSession
        Results by the name of the unit; see `analyse_units`.
    source : path
        The .nwb file of the units.
    path : path
        The .nwb file to write.

    Raises
    ------
    FileNotFoundError
        No such source.
    ValueError
        No result, a result without times, or a source that has such a module already.
    ModuleNotFoundError
        pynwb is missing.
    """
    check_arguments(save_nwb_results, locals())
    source = check_input(source, "an NWB file")
    check_output(path, ".nwb")
    try:
        import pynwb
    except ModuleNotFoundError:
        raise ModuleNotFoundError(f"writing {path} needs pynwb: pip install pynwb") from None
    opened: Any = pynwb.NWBHDF5IO
    if not sessions:
        raise ValueError("sessions: expected at least one, got none")
    tables = [_units_table(sessions)]
    if any(len(session.model.onsets) for session in sessions.values()):
        tables.append(_events_table(sessions))
    with tempfile.TemporaryDirectory() as folder:
        copy = os.path.join(folder, "copy.nwb")
        shutil.copyfile(source, copy)
        with opened(copy, "a") as io:
            file: Any = io.read()
            if MODULE in file.processing:
                raise ValueError(f"source: expected a file without the module {MODULE!r}, got {source}")
            module = file.create_processing_module(MODULE, "events in spikes, and their goodness of fit")
            for table in tables:
                module.add(table)
            io.write(file)
        with atomic_write(path) as temporary:  # HDF5 locks its file, and so does this
            shutil.copyfile(copy, temporary)


def _table(name: str, description: str, columns: Mapping[str, tuple[str, list[Any]]]) -> Any:
    from pynwb.core import DynamicTable, VectorData

    data = [VectorData(name=key, description=text, data=values) for key, (text, values) in columns.items()]
    return DynamicTable(name=name, description=description, columns=data)


def _units_table(sessions: Mapping[str, SpikeSession]) -> Any:
    fits = [session.fits["events"] for session in sessions.values()]
    return _table(
        "units",
        "goodness of fit of each unit on held-out trials",
        {
            "unit": ("id of the unit", list(sessions)),
            "verdict": ("whether there are events", [session.verdict for session in sessions.values()]),
            "bits_per_spike": ("gain over a constant rate", [float(fit.bits_per_spike) for fit in fits]),
            "ks_distance": ("of rescaled intervals", [float(fit.test.statistic) for fit in fits]),
            "ks_bound": ("95 % bound of the distance", [float(fit.test.band) for fit in fits]),
        },
    )


def _events_table(sessions: Mapping[str, SpikeSession]) -> Any:
    rows = []
    for unit, session in sessions.items():
        data, model = session.data, session.model
        after, times = data.seconds(model.onsets), data.recorded(model.onsets)
        for trial, of_trial in enumerate(times):
            rows += [(unit, trial, *event) for event in zip(of_trial, after, model.amplitudes, strict=True)]
    columns = list(zip(*rows, strict=True))
    names = {
        "unit": "id of the unit",
        "trial": "number of the trial, from 0",
        "time": "seconds of the recording",
        "time_after_cue": "seconds after the cue",
        "amplitude": "in units of the filter's norm",
    }
    kinds = (list, list, np.asarray, np.asarray, np.asarray)
    found = {
        name: (text, list(kind(column)))
        for (name, text), kind, column in zip(names.items(), kinds, columns, strict=True)
    }
    return _table("events", "events of all units in all trials", found)
