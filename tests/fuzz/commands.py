# ruff: noqa: E501
"""Command lines with one option mutated: each succeeds, or ends in one line that names what was wrong."""

import contextlib
import io
import os
import re
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np

from calepin.cli import main
from calepin.core.files import save_array

from .api import FaultError

__all__ = ["check", "describe"]

# a folder of inputs replaces {in}, one of outputs {out}
COMMANDS = [
    "learn {in}/x.npy --output {out}/d.safetensors --n-components 4 --alpha 0.1 --rule online --coder lasso "
    "--init data --batch-size 10 --max-iter 1 --tol 0.01 --checkpoint {out}/c.safetensors --report {out}/r.html --seed 0 --quiet",
    "learn {in}/x.npy --output {out}/d.safetensors --n-components 4 --coder omp --n-nonzero 2 --max-iter 1 -q",
    "learn-filters {in}/signals.npy --output {out}/d.safetensors --n-components 2 --kernel-size 5 --alpha 0.5 "
    "--stride 1 --coder fista --init data --batch-size 2 --max-iter 1 --tol 0.01 --seed 0 --quiet",
    "learn-filters {in}/counts.npy --output {out}/d.safetensors --n-components 1 --kernel-size 5 "
    "--likelihood binomial --trials 1 --offset -1.0 --max-iter 1 --quiet",
    "encode {in}/x.npy --dict {in}/d.safetensors --output {out}/z.npz --coder lasso --alpha 0.1 --quiet",
    "encode {in}/x.npy --dict {in}/d.safetensors --output {out}/z.npz --coder omp --n-nonzero 2 --quiet",
    "decode {in}/z.npz --dict {in}/d.safetensors --output {out}/x.npy --quiet",
    "show {in}/d.safetensors --output {out}/a.png --shape 2x4 --quiet",
    "info {in}/d.safetensors --quiet",
    "spectrum --kernel triangular --width 5 --length 32 --smooth 3 --error 0.1 --quiet",
    "denoise {in}/image.png --output {out}/i.png --sigma 20 --method dictionary --patch-size 4 --n-components 8 "
    "--rule ksvd --seed 0 --quiet",
    "denoise {in}/image.png --output {out}/i.png --noise gaussian --add-noise 10 "
    "--method network --seed 0 --quiet",
    "denoise {in}/image.png --output {out}/many --sigma 20 --patch-size 4 --n-components 8 --quiet",
    "inpaint {in}/image.png --output {out}/i.png --mask {in}/mask.npy --sigma 5 --quiet",
    "deblur {in}/image.png --output {out}/i.png --gaussian 0.8 --sigma 5 --prior tv --boundary symmetric --quiet",
    "upscale {in}/image.png --output {out}/i.png --factor 2 --antialias box --sigma 5 --prior tv --quiet",
    "demosaic {in}/image.png --output {out}/i.png --pattern RGGB --sigma 5 --prior tv --quiet",
    "reconstruct {in}/image.png --output {out}/i.png --operator hadamard --ratio 0.3 --size 16 --max-iter 2 "
    "--n-starts 1 --seed 0 --quiet",
    "spikes {in}/counts.npy --output {out}/m.safetensors --kernel-size 6 --n-events 2 --train 0:4 "
    "--baseline 0:60 --order 2 --coder fista --alpha 0.05 --n-rounds 1 --seed 0 --quiet",
    "compress {in}/digits.npy --model {in}/model.safetensors --output {out}/x.clp --digits 3 --quiet",
    "compress {in}/digits.npy --model {in}/model.safetensors --output {out}/x.clp --bits 6 --quiet",
    "decompress {in}/x.clp --model {in}/model.safetensors --output {out}/x.npy --quiet",
    "transfer --generator vae-digits --data {in}/digits.npy --output {out}/m.safetensors --n-starts 1 --prior 0.1 "
    "--max-iter 1 --seed 0 --quiet",
    "reproduce --list",
]  # fmt: skip

VALUES = [
    "", " ", "nonsense", "nan", "inf", "-inf", "-1", "0", "1", "2.5", "1e300", "1e-300", "-0.5", "3:1", "0:0", "a:b",
    "1x0", "0x0", "é", "a\nb", "None", "True", "[]", "{}", "--quiet", "{in}", "{in}/none.npy", "{in}/x.npy",
    "{in}/image.png", "{in}/text.txt", "{in}/empty.npy", "{in}/d.safetensors", "{in}/words.npy", "{in}/complex.npy",
    "{in}/nan.npy", "{in}/x.npy/under", "{out}/none/there.npy", "{out}/odd.suffix", "x" * 300,
]  # fmt: skip


def check(seed: int) -> None:
    """Try one mutated command line; raise `FaultError` if it ends badly."""
    line = describe(seed)
    with _workplace() as places:
        arguments = [
            part.replace("{in}", places["in"]).replace("{out}", places["out"]) for part in _draw(seed)
        ]
        before = _contents(places["in"])
        status, errors = _run(arguments)
        after = _contents(places["in"])
        changed = {name for name in before | after if before.get(name) != after.get(name)}
        _restore(places["in"], before)
        given = set(_draw(seed)) - set(COMMANDS[seed % len(COMMANDS)].split())
        mutated = {Path(one).name for one in given}
        if changed - mutated:  # the mutated option may name an output there
            raise FaultError(f"{line}): changed the input {sorted(changed)}")
    lines = [text for text in errors.splitlines() if not text.startswith("calepin: warning: ")]
    if status == 0:
        return
    if status not in (1, 2) or "Traceback" in errors or "--debug shows where" in errors:
        raise FaultError(f"{line}): status {status}: {errors[-300:]}")
    if len(lines) != 1 or not lines[0].startswith("calepin: error: "):
        raise FaultError(f"{line}): expected one line, got {errors[-300:]!r}")


def describe(seed: int) -> str:
    """Return the command and what was mutated."""
    parts = _draw(seed)
    original = COMMANDS[seed % len(COMMANDS)].split()
    changed = [
        f"{before} -> {now!r:.40}" for before, now in zip(original, parts, strict=False) if before != now
    ]
    options = [part for part in original if part.startswith("-")]
    where = next((i for i, (a, b) in enumerate(zip(original, parts, strict=False)) if a != b), len(original))
    option = original[where - 1] if where and original[where - 1] in options else "argument"
    return f"{parts[0] if parts else ''}({option}: {'; '.join(changed[:1]) or 'more'}"


def _draw(seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    parts = COMMANDS[seed % len(COMMANDS)].split()
    places = [i for i in range(1, len(parts)) if not parts[i].startswith("--") and parts[i] != "-q"]
    kind = int(rng.integers(12))
    if kind == 0 and len(parts) > 2:
        del parts[int(rng.integers(1, len(parts)))]
    elif kind == 1:
        parts.insert(int(rng.integers(1, len(parts) + 1)), str(rng.choice(VALUES)))
    elif kind == 2:
        parts.append(
            str(rng.choice(["--nonsense", "--seed", "--output", "-x", "--json", "--resume", "--help"]))
        )
    elif places:
        parts[int(rng.choice(places))] = str(rng.choice(VALUES))
    return parts


def _run(arguments: list[str]) -> tuple[int, str]:
    out, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors), warnings.catch_warnings():
        warnings.simplefilter("default")
        status = main(arguments)
    return status, re.sub(r"\r[^\n]*", "", errors.getvalue())


@contextlib.contextmanager
def _workplace() -> Iterator[dict[str, str]]:
    with tempfile.TemporaryDirectory() as folder:
        before = os.getcwd()
        os.chdir(folder)  # a name such as "nonsense" for an output is harmless there
        try:
            yield {"in": str(_inputs()), "out": folder}
        finally:
            os.chdir(before)


@cache
def _inputs() -> Path:
    """Write the inputs once for each process."""
    import atexit

    from PIL import Image

    from calepin.datasets import load_digits

    folder = Path(tempfile.mkdtemp(prefix="calepin-fuzz-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((20, 8))
    arrays = {
        "x": x,
        "nan": np.where(x > 1, np.nan, x),
        "complex": x + 1j,
        "empty": x[:0],
        "words": x.astype(str),
        "signals": rng.standard_normal((4, 1, 30)),
        "counts": (rng.random((6, 60)) < 0.2).astype(float),
        "digits": load_digits()[0][:40],
    }
    for name, array in arrays.items():
        save_array(folder / f"{name}.npy", array) if array.dtype.kind in "fc" else np.save(
            folder / name, array
        )
    np.save(folder / "mask", rng.random((24, 20)) < 0.8)
    (folder / "text.txt").write_text("nothing to see\n")
    Image.fromarray((rng.random((24, 20)) * 255).astype(np.uint8)).save(folder / "image.png")
    for line in (
        "learn {0}/x.npy -o {0}/d.safetensors --n-components 4 --alpha 0.1 --max-iter 1 -q",
        "encode {0}/x.npy --dict {0}/d.safetensors -o {0}/z.npz --alpha 0.1 -q",
        "transfer --generator vae-digits --data {0}/digits.npy -o {0}/model.safetensors --max-iter 1 -q",
        "compress {0}/digits.npy --model {0}/model.safetensors -o {0}/x.clp -q",
    ):
        status, errors = _run(line.format(folder).split())
        if status:
            raise RuntimeError(f"{line}: {errors}")
    return folder


def _contents(folder: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(folder).iterdir() if path.is_file()}


def _restore(folder: str, contents: dict[str, bytes]) -> None:
    for path in Path(folder).iterdir():
        if path.name not in contents:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for name, content in contents.items():
        Path(folder, name).write_bytes(content)
