"""What README and docs say about code holds: Python blocks run, commands, options and names exist."""

import ast
import enum
import importlib
import re
import shlex
import sys
import types
import typing
from pathlib import Path

import pytest
import source
from callables import commands

DOCS = source.ROOT / "docs"
PAGES = [source.ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

# What the blocks of a page take for given, by its `name_of`: small data.
GIVEN = {
    "README.md": """
import numpy
rng = numpy.random.default_rng(0)
patches = rng.standard_normal((1100, 16))
numpy.save("patches.npy", patches)
noisy = numpy.clip(numpy.linspace(0, 1, 32) + 0.1 * rng.standard_normal((32, 32)), 0, 1)
X = rng.standard_normal((200, 50))
counts = rng.binomial(25, 0.3, (2, 1, 120))
digits = rng.random((50, 64))
""",
    "reference/files.md": """
import numpy, calepin
calepin.DictionaryLearner.from_components(numpy.eye(4)).save("natural.safetensors")
""",
    "how-to/missing-data.md": """
import numpy
rng = numpy.random.default_rng(0)
X = rng.standard_normal((200, 16))
observed = rng.random(X.shape) < 0.8
""",
    "how-to/larger-than-memory.md": """
import numpy
rng = numpy.random.default_rng(0)
paths = [f"part{k}.npy" for k in range(3)]
for path in ["patches.npy", *paths]:
    numpy.save(path, rng.standard_normal((200, 16)))
""",
    "how-to/choose-alpha.md": """
from calepin.datasets import simulate_sparse
X = simulate_sparse(300, 16, 32, n_nonzero=2, noise=0.1).X
""",
    "how-to/coming-from.md": """
import numpy
rng = numpy.random.default_rng(0)
X, atoms = rng.standard_normal((20, 16)), rng.standard_normal((24, 16))
atoms /= numpy.linalg.norm(atoms, axis=1, keepdims=True)
""",
    "how-to/resume.md": """
import numpy
X = numpy.random.default_rng(0).standard_normal((200, 16))
""",
    "how-to/gpu.md": """
import numpy
X = numpy.random.default_rng(0).standard_normal((200, 16))
""",
    "how-to/save-and-share.md": """
import calepin
import numpy
X = numpy.random.default_rng(0).standard_normal((200, 16))
numpy.save("atoms.npy", X[:32] / numpy.linalg.norm(X[:32], axis=1, keepdims=True))
learner = calepin.DictionaryLearner(32, alpha=0.5, max_iter=2, random_state=0).fit(X)
""",
    "how-to/denoise-images.md": """
import numpy
from calepin.datasets import Image, write_image
rng = numpy.random.default_rng(0)
noisy = numpy.clip(numpy.linspace(0, 1, 32) + 0.1 * rng.standard_normal((32, 32)), 0, 1)
write_image("photo.png", Image(noisy))
counts = rng.poisson(20 * numpy.linspace(0.1, 1, 32), (32, 32)).astype(float)
""",
    "how-to/denoise-stacks.md": """
import numpy
rng = numpy.random.default_rng(0)
ramp = numpy.linspace(0, 1, 32) * numpy.ones((4, 32, 1))
volume = ramp + 0.1 * rng.standard_normal(ramp.shape)
stack = 100 + 2.0 * rng.poisson(50 * ramp) + 3 * rng.standard_normal(ramp.shape)
dark = 100 + 3 * rng.standard_normal(ramp.shape)
""",
    "how-to/inpaint-images.md": """
import numpy
image = numpy.tile(numpy.linspace(0, 1, 16), (16, 1))
observed = numpy.random.default_rng(0).random((16, 16)) < 0.7
""",
    "how-to/restore-images.md": """
import numpy
from calepin.datasets import Image, write_image
ramp = numpy.clip(numpy.linspace(-1, 2, 32), 0, 1)
y = ramp + 0.01 * numpy.random.default_rng(0).standard_normal((32, 32))
write_image("photo.png", Image(y.clip(0, 1)))
numpy.save("psf.npy", numpy.full((3, 3), 1 / 9))
""",
    "how-to/kspace-files.md": """
import h5py, numpy
rng = numpy.random.default_rng(0)
with h5py.File("scan.h5", "w") as file:
    shape = (3, 2, 32, 32)
    samples = rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
    samples[..., 14:19, 14:19] += 30
    file["kspace"] = samples.astype("complex64")
import torch
from calepin.operators import NonCartesianFourier, radial_trajectory
k = radial_trajectory((32, 32), 24)
disc = torch.from_numpy(numpy.hypot(*numpy.mgrid[-1:1:32j, -1:1:32j]) < 0.6) * (1 + 0j)
spokes = NonCartesianFourier((32, 32), k)(disc[None])[0].numpy().reshape(24, 64)
three = numpy.concatenate([k.numpy(), numpy.zeros((len(k), 1))], 1).reshape(24, 64, 3)
for name, numbers in (("spokes", spokes[..., None]), ("trajectory", three)):
    sizes = [*numbers.shape[::-1], *[1] * 13]
    with open(name + ".hdr", "w") as header:
        header.write("# Dimensions\\n" + " ".join(str(size) for size in sizes) + "\\n")
    numbers.astype("complex64").tofile(name + ".cfl")
""",
    "how-to/filters-from-files.md": """
import numpy
from calepin.datasets import simulate_convolutional
simulated = simulate_convolutional(20, (200,), kernel_size=(50,), likelihood="gaussian")
numpy.save("signals.npy", simulated.X[:, 0])
""",
    "how-to/recordings.md": """
import mne, numpy
names = ["Fz", "C3", "Cz", "C4", "Pz"]
X = 0.01 * numpy.random.default_rng(0).standard_normal((5, 1000))
for start in (100, 400, 700):
    X[:, start : start + 50] += numpy.outer([0.2, 0.5, 1, 0.5, 0.2], numpy.hanning(50))
raw = mne.io.RawArray(X, mne.create_info(names, 250.0, "eeg"), verbose="error")
places = 0.08 * numpy.array([[0, 0.6, 0.8], [-0.6, 0, 0.8], [0, 0, 1], [0.6, 0, 0.8], [0, -0.6, 0.8]])
montage = mne.channels.make_dig_montage(dict(zip(names, places, strict=True)), coord_frame="head")
raw.set_montage(montage)
trace = 0.05 * numpy.random.default_rng(1).standard_normal((2, 1, 300))
trace[:, :, 50:110] += numpy.exp(-numpy.arange(60) / 12)
""",
    "reference/versions.md": """
import numpy
from safetensors.numpy import save_file
save_file({"components": numpy.eye(3, 5)}, "old.safetensors")
""",
}
NEEDS_DATA: set[str] = set()  # pages that read the public test sets

# Parts of blocks that are made smaller here; each has to occur.
SMALLER = {
    "README.md": [
        ("DictionaryLearner(\n    1024", "DictionaryLearner(\n    32"),
        ('pretrained("vae-mnist")', 'pretrained("vae-digits")'),
    ],
    "index.md": [("simulate_convolutional(40, (500,)", "simulate_convolutional(10, (200,)")],
}


def name_of(page: Path) -> str:
    """Return the path of a page below docs, or its name."""
    return page.relative_to(DOCS if DOCS in page.parents else source.ROOT).as_posix()


def blocks(text: str, language: str) -> list[tuple[int, str]]:
    """Return the line and the text of each fenced block in a language."""
    return [
        (text.count("\n", 0, match.start()) + 2, match[2])
        for match in FENCE.finditer(text)
        if match[1] == language
    ]


def with_python() -> list:
    pages = [page for page in PAGES if blocks(page.read_text(), "python")]
    return [
        pytest.param(page, id=name_of(page), marks=[pytest.mark.data] if name_of(page) in NEEDS_DATA else [])
        for page in pages
    ]


@pytest.mark.filterwarnings("ignore::calepin.estimators.UnderdeterminedWarning")  # so little data is
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # never enough
@pytest.mark.parametrize("page", with_python())
def test_python_blocks_run(page, tmp_path, monkeypatch, request):
    """The blocks of a page share their names, in order."""
    if name_of(page) in NEEDS_DATA:
        request.getfixturevalue("public_data")
    monkeypatch.chdir(tmp_path)
    text = page.read_text()
    for old, new in SMALLER.get(name_of(page), []):
        assert old in text, f"SMALLER: {name_of(page)} no longer has {old!r}"
        text = text.replace(old, new)
    module = types.ModuleType(page.stem)
    monkeypatch.setitem(sys.modules, page.stem, module)  # where pickle looks for the classes of the page
    names = vars(module)
    exec(GIVEN.get(name_of(page), ""), names)
    for line, code in blocks(text, "python"):
        tree = ast.increment_lineno(ast.parse(code), line - 1)  # errors name the line of the page
        exec(compile(tree, str(page), "exec"), names)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_code_stands_in_fences(page):
    """An indented block of Python or commands is not run by the tests above and below."""
    offenders = []
    text = FENCE.sub(_blank, page.read_text())
    for match in re.finditer(r"(?:^ {4}\S.*\n(?:^ {4}.*\n|\n)*)", text, re.MULTILINE):
        line = text.count("\n", 0, match.start()) + 1
        block = re.sub(r"^ {4}", "", match[0], flags=re.MULTILINE)
        if re.search(r"^(import|from) |^\w+(, \w+)* = \w+[.(]|^calepin ", block, re.MULTILINE):
            offenders.append(f"{name_of(page)}:{line}: put this block between ```python or ```console fences")
    assert not offenders, "\n".join(["", *offenders])


def _blank(match: re.Match[str]) -> str:
    return "\n" * match[0].count("\n")


def command_lines(text: str) -> list[tuple[int, str]]:
    """Return the line and text of each call of ``calepin`` in console blocks and in inline code."""
    found = []
    for line, block in blocks(text, "console"):
        joined = re.sub(r"\\\n\s*", "", block)
        found += [
            (line, shown.removeprefix("$ "))
            for shown in joined.splitlines()
            if shown.startswith(("$ calepin ", "calepin "))
        ]
    for match in re.finditer(r"`(calepin [a-z][^`\n]*)`", FENCE.sub(_blank, text)):
        found.append((text.count("\n", 0, match.start()) + 1, match[1]))
    return found


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_and_options_exist(page):
    offenders = [
        f"{name_of(page)}:{line}: `{text}`: {problem}"
        for line, text in command_lines(page.read_text())
        if (problem := wrong_in(text))
    ]
    assert not offenders, "\n".join(["", *offenders])


def test_commands_of_the_makefile_exist():
    text = (source.ROOT / "Makefile").read_text().replace("\\\n", "")
    lines = re.findall(r"^\t\$\(BIN\)/(calepin .*)$", text, re.MULTILINE)
    assert lines
    assert not [f"Makefile: `{line}`: {problem}" for line in lines if (problem := wrong_in(line))]


def test_examples_of_the_help_exist():
    lines = [
        (command.name, line.strip())
        for command in commands()
        for line in (command.click.epilog or "").splitlines()
        if line.strip().startswith("calepin ")
    ]
    assert {name for name, _ in lines} == {command.name for command in commands()}, "a command has no example"
    offenders = [
        f"calepin {name} --help: `{line}`: {problem}" for name, line in lines if (problem := wrong_in(line))
    ]
    assert not offenders, "\n".join(["", *offenders])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("calepin info a.npy --json", None),
        ("calepin nonsense a.npy", "no command nonsense"),
        ("calepin info a.npy --nonsense 3", "No such option: --nonsense"),
        ("calepin info a.npy b.npy", "too many arguments: b.npy"),
        ("calepin reconstruct a.npy -o b.png --operator magic", "operator: 'magic' is none of"),
        ("calepin reproduce nonsense-figure", "no experiment is called"),
    ],
)
def test_wrong_commands_are_found(text, problem):
    found = wrong_in(text)
    assert found is None if problem is None else problem in str(found)


def wrong_in(text: str) -> str | None:
    """Return what is wrong with a command line, None if nothing is; nothing is run."""
    _, name, *arguments = shlex.split(text, comments=True)
    command = {command.name: command for command in commands()}.get(name)
    if command is None:
        return f"there is no command {name}"
    try:
        values, rest, _ = command.parse(arguments)
    except Exception as error:
        return str(error)
    if rest:
        return f"too many arguments: {' '.join(rest)}"
    hints = typing.get_type_hints(command.function)
    for option, value in values.items():
        allowed = choices(hints.get(option))
        if allowed and value not in allowed:
            return f"{option}: {value!r} is none of {', '.join(map(str, allowed))}"
    if name == "reproduce" and values.get("names"):
        from calepin.experiments import find
        from calepin_papers import EXPERIMENTS

        try:
            find(values["names"], EXPERIMENTS)
        except ValueError as error:
            return str(error)
    return None


def choices(hint: object) -> list[object]:
    """Return the values that an enumeration or Literal allows, also in a union with None; [] for any."""
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return [member.value for member in hint]
    if typing.get_origin(hint) is typing.Literal:
        return list(typing.get_args(hint))
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        members = [member for member in typing.get_args(hint) if member is not type(None)]
        return choices(members[0]) if len(members) == 1 else []
    return []


@pytest.mark.parametrize("page", [*PAGES, source.ROOT / "CONTRIBUTING.md"], ids=name_of)
def test_names_in_the_text_exist(page):
    """A dotted name such as ``calepin.solvers.decode`` can be imported."""
    text = page.read_text()
    offenders = [
        f"{name_of(page)}:{text.count(chr(10), 0, match.start()) + 1}: there is no {match[0]}"
        for match in re.finditer(r"\bcalepin(?:_papers)?(?:\.[A-Za-z_]\w*)+", text)
        if not exists(match[0]) and not match[0].endswith((".safetensors", ".experiments"))
    ]
    assert not offenders, "\n".join(["", *offenders])


def exists(dotted: str) -> bool:
    value = importlib.import_module(dotted.split(".")[0])
    path = value.__name__
    for part in dotted.split(".")[1:]:
        path = f"{path}.{part}"
        try:
            value = importlib.import_module(path) if path in source.every_module() else getattr(value, part)
        except AttributeError:
            return False
    return True
