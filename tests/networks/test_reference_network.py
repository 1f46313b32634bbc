import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from calepin.core.errors import FileFormatError
from calepin.networks import UnfoldedAutoencoder

RELEASED = [(kind, peak) for kind in ("tied", "untied") for peak in (2, 4)]


def write_release(folder, *, kind="untied", n=4, without=(), **changes):
    """Write a small network in the layout of the released ones and return its path and arrays."""
    rng = np.random.default_rng(0)
    filters = ["H"] if kind == "tied" else ["H", "We", "Wd"]
    arrays = {name: (0.1 * rng.standard_normal((n, 1, 5, 5))).astype(np.float32) for name in filters}
    arrays["b"] = (0.05 * rng.standard_normal((1, n, 1, 1))).astype(np.float32)
    settings = {"model": kind, "T": 4, "stride": 3, "nonlin": "ELU", "elu_alpha": 2.0}
    arrays |= {name: value for name, value in changes.items() if name in arrays}
    settings |= {name: value for name, value in changes.items() if name in settings}
    kept = {name: array for name, array in arrays.items() if name not in without}
    np.savez(folder / "net.npz", **kept)
    (folder / "net.json").write_text(json.dumps({k: v for k, v in settings.items() if k not in without}))
    return folder / "net.npz", arrays


def recurrence(y, shift, H, We, Wd, b, *, layers, stride, bound):
    """Return code and log-rate of an image on one grid, as the data pack's README writes them."""
    i, j = shift
    rest_rows, rest_columns = ((H.shape[-1] - size) % stride for size in y.shape[2:])
    padding = (stride - j, stride + rest_columns + j, stride - i, stride + rest_rows + i)
    padded = F.pad(y, padding, mode="reflect")
    x = torch.zeros_like(F.conv2d(padded, H, stride=stride))
    for _ in range(layers):
        residual = F.elu(padded - torch.exp(F.conv_transpose2d(x, H, stride=stride)), bound)
        x = torch.relu(x + F.conv2d(residual, We, stride=stride) - b)
    z = F.conv_transpose2d(x, Wd, stride=stride)
    return x, z[:, :, stride - i :, stride - j :][:, :, : y.shape[2], : y.shape[3]]


def agrees_with_the_recurrence(net, arrays, y, *, layers, stride, bound, shifts):
    weights = {name: torch.from_numpy(array).double() for name, array in arrays.items()}
    H = weights["H"]
    We, Wd = weights.get("We", H), weights.get("Wd", H)
    found = [
        recurrence(y, shift, H, We, Wd, weights["b"], layers=layers, stride=stride, bound=bound)
        for shift in shifts
    ]
    with torch.no_grad():
        for shift, (code, _) in zip(shifts, found, strict=True):
            torch.testing.assert_close(net.encode(y, shift=shift), code, rtol=1e-10, atol=1e-10)
        mean = torch.stack([log_rate for _, log_rate in found]).mean(0)
        torch.testing.assert_close(net(y, shifts=shifts), mean, rtol=1e-10, atol=1e-10)
    assert 0 < (found[-1][0] > 0).double().mean() < 1


@pytest.mark.parametrize("kind", ["tied", "untied"])
def test_a_network_in_the_layout_of_the_release_follows_its_recurrence(tmp_path, kind, rng):
    path, arrays = write_release(tmp_path, kind=kind)
    net = UnfoldedAutoencoder.load_reference(path)
    assert net.atoms.dtype == torch.float32
    y = torch.from_numpy(rng.poisson(2.0, (2, 1, 14, 17)).astype(np.float64))
    net = net.double()
    shifts = net.all_shifts()
    assert len(shifts) == 9
    agrees_with_the_recurrence(net, arrays, y, layers=4, stride=3, bound=2.0, shifts=shifts)
    assert torch.equal(net(y), net(y, shifts=shifts))


@pytest.mark.parametrize(("kind", "peak"), RELEASED)
def test_the_released_networks_follow_their_recurrence(public_data, kind, peak, rng):
    path = public_data / "dcea_reference_weights" / f"dcea_{kind}_peak{peak}.npz"
    net = UnfoldedAutoencoder.load_reference(path).double()
    with np.load(path, allow_pickle=False) as file:
        arrays = dict(file)
    bright = np.linspace(0, peak, 20)[:, None] * np.ones(18)
    y = torch.from_numpy(rng.poisson(bright)[None, None].astype(np.float64))
    agrees_with_the_recurrence(
        net, arrays, y, layers=15, stride=7, bound=float(peak), shifts=[(0, 0), (3, 6)]
    )
    assert net(y.long()).shape == y.shape


def test_what_was_loaded_is_saved_and_loaded_again(tmp_path, rng):
    path, _ = write_release(tmp_path)
    net = UnfoldedAutoencoder.load_reference(path)
    net.save(tmp_path / "net.safetensors")
    y = torch.from_numpy(rng.poisson(2.0, (1, 1, 12, 12)))
    assert torch.equal(UnfoldedAutoencoder.load(tmp_path / "net.safetensors")(y), net(y))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"without": ("We",)}, "lacks We: it holds H, Wd, b"),
        ({"without": ("b",)}, "lacks b"),
        ({"without": ("T", "stride")}, "net.json lacks T, stride"),
        ({"model": "half"}, "describes model 'half'"),
        ({"nonlin": "tanh"}, "nonlin 'tanh', expected .* 'ELU'"),
        ({"b": np.zeros(3, dtype=np.float32)}, r"holds .* b \(3,\): expected filters .* n biases"),
        ({"Wd": np.zeros((4, 1, 3, 3), dtype=np.float32)}, r"Wd \(4, 1, 3, 3\).* of one shape"),
        ({"H": np.full((4, 1, 5, 5), np.nan, dtype=np.float32)}, "holds H of float32, expected finite"),
        ({"H": np.array([{}], dtype=object)}, "is not a readable npz file of plain arrays"),
    ],
)
def test_what_is_missing_in_a_file_is_named(tmp_path, changes, message):
    path, _ = write_release(tmp_path, **changes)
    with pytest.raises(FileFormatError, match=message):
        UnfoldedAutoencoder.load_reference(path)


def test_files_that_are_no_network_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file: .*net.npz"):
        UnfoldedAutoencoder.load_reference(tmp_path / "net.npz")
    path, _ = write_release(tmp_path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(FileFormatError, match="is not a readable npz file of plain arrays"):
        UnfoldedAutoencoder.load_reference(path)
    (tmp_path / "net.json").write_text("{")
    with pytest.raises(FileFormatError, match="net.json is not a readable JSON file"):
        UnfoldedAutoencoder.load_reference(path)
    (tmp_path / "net.json").unlink()
    with pytest.raises(FileNotFoundError, match="needs its settings in the same folder"):
        UnfoldedAutoencoder.load_reference(path)
