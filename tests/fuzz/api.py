"""Calls of the public API with one argument mutated: each ends in a documented error or a finite result.

An error is documented if calepin itself raises it and its message names an argument of the call. What cannot
be meant (a word for a number, NaN, an object of no use) must be refused.
"""

import dataclasses
import re
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
import torch
from torch import nn

import calepin
from calepin.learning import DivergedError

from .calls import CALLS
from .mutations import mutations

__all__ = ["FaultError", "check", "describe"]

HERE = str(Path(calepin.__file__).parent)
ERRORS = (ValueError, TypeError, calepin.IncompatibleError, calepin.FileFormatError, DivergedError)

# Mutations that no argument may have, but for those in `FREE`.
REFUSED = {
    "a word", "an object", "a list of words", "a dict", "NaN", "a complex number", "its class", "two",
    "a word of digits", "an array of NaN", "with NaN", "with infinity", "all NaN", "words", "a ragged list",
    "dates", "yes", "bytes", "upper case", "no word", "complex",
}  # fmt: skip
# Free texts, and arguments whose values have no bound.
FREE = {"cue", "unit", "title", "xlabel", "ylabel", "names", "checkpoint", "random_state", "params"}
FREE |= {"text", "alert", "aside", "made", "labels", "details", "table", "rows", "columns"}  # of reports
# Maps in inner loops do not look at the values they are given: NaN gives NaN. A table shows what it is given.
MAPS = re.compile(
    r"(operators\.\w+\.(forward|adjoint|solve_gram)|operators\.(centred|root|estimate)\w*|likelihoods\.\w+\.(nll|mean|score|sample)"
    r"|penalties\.\w+\.(value|prox)|Problem\.\w+|generators\.\w+\.(forward|eta|objective|gradient|evaluate)"
    r"|spikes\.PopulationGLM\.predictor|generators\.linearise|networks\.\w+\.\w+|operators\.(Dense|Diagonal|ConvDictionary)|\w*Noise\.\w+|learning\.AtomSet\.project|report\.Table|solve)$"
)
INFINITE = re.compile(
    r"metrics\.(psnr|duality_gap)|penalties\.\w+\.value|reconstruction\.(recovery_bound|fit_untrained)"
    r"|generators\.samples_needed|learning\.Algorithm1"
)
# Complex tensors are meant there.
COMPLEX = re.compile(
    r"operators\.(Dense|Diagonal|Sensitivities)|reconstruction\.weighted|Problem|likelihoods\.Gaussian|solvers\.dense_problem|.*(kspace|consistent)"
)
# What comes in batches is looked at by the rule that learns from it, a name by what reads the file, an
# initial code by the coders that use it.
LATE = re.compile(
    r"learning\.(Array|Iterable|Signal)Batches\((X|batches|signals|mask|offset|trials)"
    r"|(imaging\.inpaint|denoise:stack)\(image: with NaN"
    r"|imaging\.NetworkDenoiser\(model|solvers\.\w+Coder\.encode\(z0"
)
# `iterate` takes any problem: what is none is an error of the method.
ANY = re.compile(r"solvers\.iterate\(problem")


class FaultError(AssertionError):
    """A mutated call that ends neither in a documented error nor in a correct result."""


def check(seed: int) -> None:
    """Try one mutated call; raise `FaultError` if it ends badly."""
    name, argument, mutation, function, arguments = _draw(seed)
    place = f"{name}({argument}: {mutation})"
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            result = function(**arguments)
        except Exception as error:
            _judge_error(place, name, argument, arguments, error)
        else:
            _judge_result(place, name, argument, mutation, arguments, result)


def describe(seed: int) -> str:
    """Return what a seed stands for."""
    name, argument, mutation, *_ = _draw(seed)
    return f"{name}({argument}: {mutation})"


def _draw(seed: int) -> tuple[str, str, str, Callable[..., Any], dict[str, Any]]:
    """Return the call, argument and mutation of a seed; consecutive seeds walk through all calls."""
    names = sorted(CALLS)
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    name = names[seed % len(names)]
    function, arguments = CALLS[name]()
    if not arguments:
        return name, "-", "none", function, {}
    argument = str(rng.choice(sorted(arguments)))
    choices = mutations(arguments[argument])
    for i in rng.permutation(len(choices)):
        mutation, mutate = choices[i]
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                mutated = mutate()
        except Exception:
            continue
        return name, argument, mutation, function, arguments | {argument: mutated}
    raise AssertionError(f"no mutation of {name}({argument})")


def _judge_error(
    place: str, name: str, argument: str, arguments: Mapping[str, Any], error: Exception
) -> None:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    text = f"{type(error).__name__}: {' '.join(str(error).split())[:150]}"
    if argument == "X" and "sklearn" in frame.filename and isinstance(error, ERRORS):
        return  # scikit-learn's checks of the data of an estimator
    if ANY.match(place) and isinstance(error, (*ERRORS, AttributeError, RuntimeError)):
        return
    if not frame.filename.startswith(HERE) or not isinstance(error, ERRORS):
        origin = "/".join(Path(frame.filename).parts[-2:])
        raise FaultError(f"{place}: raised inside {origin}:{frame.lineno}: {text}")
    if isinstance(error, calepin.IncompatibleError | DivergedError):
        return
    named = re.match(r"\w[\w.\[\]']*( and \w+)*: ", str(error))  # of a function behind this one
    if not named and not any(re.search(rf"\b{re.escape(known)}\b", str(error)) for known in arguments):
        raise FaultError(f"{place}: names no argument: {text}")


def _judge_result(
    place: str, name: str, argument: str, mutation: str, arguments: Mapping[str, Any], result: Any
) -> None:
    plain = name.partition(":")[0]
    last = mutation.rpartition(": ")[2]
    passes_on = MAPS.match(plain) and (last == "huge" or not _is_finite(arguments.get(argument)))
    for value in _numbers(result):
        if np.isnan(value).any() and not passes_on:
            raise FaultError(f"{place}: returned NaN")
        if np.isinf(value).any() and not passes_on and not INFINITE.match(plain):
            raise FaultError(f"{place}: returned infinity")
    if argument == "X" and plain.endswith("Learner"):
        return  # scikit-learn reads words as numbers
    if MAPS.match(plain) or LATE.match(place) or (last == "complex" and COMPLEX.match(plain)):
        return
    if (last in REFUSED or _is_fraction(mutation, name, argument)) and argument not in FREE:
        raise FaultError(f"{place}: accepted")


def _is_fraction(mutation: str, name: str, argument: str) -> bool:
    return mutation == "a fraction" and isinstance(CALLS[name]()[1][argument], int)


def _is_finite(value: Any) -> bool:
    return all(np.isfinite(numbers).all() for numbers in _numbers(value))


def _numbers(value: Any, depth: int = 0) -> Iterator[np.ndarray]:
    """Yield all floating and complex numbers in a result."""
    if depth > 6 or value is None or isinstance(value, str | bytes | type):
        return
    if isinstance(value, float | complex | np.floating | np.complexfloating):
        yield np.asarray(value)
    elif isinstance(value, torch.Tensor):
        if value.is_floating_point() or value.is_complex():
            yield (
                value.detach()
                .resolve_conj()
                .to(torch.complex128 if value.is_complex() else torch.float64)
                .numpy()
            )
    elif scipy.sparse.issparse(value):
        yield value.data
    elif isinstance(value, np.ndarray):
        if value.dtype.kind in "fc":
            yield value
    elif isinstance(value, nn.Module):
        for tensor in (*value.parameters(), *value.buffers()):
            yield from _numbers(tensor)
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _numbers(part, depth + 1)
    elif isinstance(value, list | tuple | set):
        for part in value:
            yield from _numbers(part, depth + 1)
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from _numbers(getattr(value, field.name, None), depth + 1)
