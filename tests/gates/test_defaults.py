"""A default is written once: what a function or command passes on has the default of what it feeds."""

import ast
import importlib
import inspect
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import source
from callables import commands, public_callables

# What each command's options feed, by the names that they share; calls that pass an option on as it is are
# found without this table.
FEEDS = {
    "learn": "calepin.DictionaryLearner",
    "learn-filters": "calepin.ConvolutionalDictionaryLearner",
    "transfer": "calepin.GenerativeDictionaryLearner",
    "reconstruct": "calepin.UntrainedReconstructor",
    "denoise": "calepin.denoise",
    "spikes": "calepin.spikes.fit_event_model",
}

# (callable, parameter) whose default may differ from that of its callers, and why.
MAY_DIFFER = {
    ("progress_bar", "shown"),  # estimators are silent; whoever asks for a bar sees it
    ("train", "tol"),  # the loop itself never stops early; each estimator says when it does
    *((learner, "random_state") for learner in ("DictionaryLearner", "ConvolutionalDictionaryLearner")),
    ("GenerativeDictionaryLearner", "random_state"),  # commands give the same result each time
    ("UntrainedReconstructor", "random_state"),
    ("reconstruct_scan", "random_state"),
    ("UntrainedReconstructor", "n_starts"),  # a scan is one image: the mean of two starts is worth its time
    (
        "ConvolutionalPursuitCoder",
        "nonnegative",
    ),  # events of counts are nonnegative; real signals have both signs
    ("Wavelet", "moments"),  # shorter wavelets denoise better, smoother ones make sparser codes
    ("IHT", "step_size"),  # the coder keeps the paper's step; the solver takes 1 / L
}

NONE = inspect.Parameter.empty


@dataclass(frozen=True)
class Passed:
    """``feeder(a=1)`` calls ``fed(b=a)``: both defaults, and where the call is."""

    place: str
    feeder: str
    parameter: str
    default: Any
    fed: str
    keyword: str
    fed_default: Any

    def __str__(self) -> str:
        return (
            f"{self.place}: {self.feeder}({self.parameter}={shown(self.default)}) goes to "
            f"{self.fed}({self.keyword}={shown(self.fed_default)}): write the default once"
        )


def shown(value: Any) -> str:
    return "..." if value is NONE else repr(value)


@cache
def passed_on() -> tuple[Passed, ...]:
    """Return each parameter with a default that calepin's code hands to another of its callables as it is."""
    return tuple(found for module in source.modules().values() for found in passes_of(module))


def passes_of(module: source.Module) -> Iterator[Passed]:
    loaded = importlib.import_module(module.name) if module.name != "calepin.__main__" else None
    options = {command.function.__name__: option_defaults(command) for command in commands()}
    for statement in module.tree.body:
        if isinstance(statement, ast.ClassDef):
            owner = getattr(loaded, statement.name)
            heirs = [public.value for public in public_callables() if is_heir(public.value, owner)] or [owner]
            for method in statement.body:
                if isinstance(method, ast.FunctionDef):
                    own = defaults_of(getattr(owner, method.name, None))
                    for heir in heirs:
                        name = f"{heir.__name__}.{method.name}"
                        yield from _calls(module, method, name, own, defaults_of(heir))
        elif isinstance(statement, ast.FunctionDef):
            own = options.get(statement.name) or defaults_of(getattr(loaded, statement.name))
            yield from _calls(module, statement, statement.name, own, {})


def _calls(
    module: source.Module,
    function: ast.FunctionDef,
    name: str,
    own: dict[str, Any],
    attributes: dict[str, Any],
) -> Iterator[Passed]:
    names = known_names(module, function)
    for call in ast.walk(function):
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in names):
            continue
        fed = names[call.func.id]
        wanted = defaults_of(fed)
        for keyword in call.keywords:
            value = keyword.value
            if isinstance(value, ast.Name) and value.id in own:
                parameter, default = value.id, own[value.id]
            elif isinstance(value, ast.Attribute) and ast.unparse(value.value) == "self":
                parameter, default = value.attr, attributes.get(value.attr, NONE)
            else:
                continue
            if default is not NONE and wanted.get(keyword.arg or "", NONE) is not NONE:
                yield Passed(
                    module.place(call.lineno), name, parameter, default, fed.__name__, keyword.arg or "",
                    wanted[keyword.arg or ""],
                )  # fmt: skip


def is_heir(value: Any, owner: type) -> bool:
    return inspect.isclass(value) and owner in value.__mro__


def known_names(module: source.Module, function: ast.FunctionDef) -> dict[str, Any]:
    """Return the callables of calepin that a function can call by a plain name."""
    found = {}
    for entry in source.imports(module):
        if entry.name and entry.target.startswith("calepin."):
            found[entry.name] = getattr(importlib.import_module(entry.target), entry.name, None)
    loaded = importlib.import_module(module.name)
    for name in source.defined(module.tree):
        found[name] = getattr(loaded, name, None)
    return {
        name: value for name, value in found.items() if inspect.isfunction(value) or inspect.isclass(value)
    }


def defaults_of(value: Any) -> dict[str, Any]:
    """Return the parameters of a callable with their defaults, `NONE` where there is none."""
    try:
        parameters = inspect.signature(value).parameters.values()
    except (TypeError, ValueError):
        return {}
    return {parameter.name: parameter.default for parameter in parameters}


def markers_of(command) -> dict[str, Any]:
    """Return what says beside an option where its default is written: `calepin.cli.options.Default`."""
    hints = typing.get_type_hints(inspect.unwrap(command.function), include_extras=True)
    return {
        name: marker
        for name, hint in hints.items()
        for marker in getattr(hint, "__metadata__", ())
        if hasattr(marker, "function") and hasattr(marker, "parameter")
    }


def option_defaults(command) -> dict[str, Any]:
    """Return the defaults of a command's options as values, not as typer's declarations."""
    return {
        parameter.name: getattr(parameter.default, "value", parameter.default)
        for parameter in command.parameters
        if not parameter.required
    }


def test_a_default_is_written_once():
    offenders = {
        str(found)
        for found in passed_on()
        if found.default != found.fed_default and (found.fed, found.keyword) not in MAY_DIFFER
    }
    assert not offenders, "\n".join(["", *sorted(offenders)])


def test_options_begin_with_the_defaults_of_what_they_feed():
    """Also where values pass through helpers; an option without a value leaves the choice to the function."""
    by_name = {command.name: command for command in commands()}
    offenders = [f"calepin {name}: no such command: mend FEEDS" for name in set(FEEDS) - set(by_name)]
    for name, command in by_name.items():
        markers = markers_of(command)
        feeds = {FEEDS[name]} if name in FEEDS else set()
        for path in feeds | {marker.function.replace(":", ".") for marker in markers.values()}:
            module, _, function = path.rpartition(".")
            fed = defaults_of(getattr(importlib.import_module(module), function))
            for option, default in option_defaults(command).items():
                unlike = default not in (None, False) and fed.get(option, NONE) not in (NONE, default)
                if unlike and (function, option) not in MAY_DIFFER:
                    offenders.append(
                        f"calepin {name} --{option.replace('_', '-')}: {default!r}, but {path} has "
                        f"{fed[option]!r}: take the default from the signature"
                    )
    assert not offenders, "\n".join(["", *sorted(set(offenders))])


def test_options_name_signatures_that_have_them():
    """An option marked with where its default is written has none of its own, and the place exists."""
    offenders = []
    for command in commands():
        own = option_defaults(command)
        for option, marker in markers_of(command).items():
            where = f"calepin {command.name} {option}"
            try:
                default = marker.value()
            except (ImportError, AttributeError, KeyError) as error:
                offenders.append(f"{where}: {marker}: {error!r}")
                continue
            if default is NONE:
                offenders.append(f"{where}: {marker.parameter} of {marker.function} has no default")
            if own.get(option) not in (None, False):
                offenders.append(f"{where}: {own[option]!r} is a second default, write None")
    assert not offenders, "\n".join(["", *offenders])


def test_what_is_passed_on_is_found():
    """The search sees estimators and functions, or the tests above would pass without looking."""
    found = {(passed.feeder.split(".")[0], passed.fed) for passed in passed_on()}
    assert ("UntrainedReconstructor", "fit_untrained") in found
    assert ("DictionaryLearner", "train") in found
    assert ("filter_error", "match_filters") in found
