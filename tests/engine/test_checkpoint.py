"""Weights on disk: whole or not at all, in both directions."""

import errno
import os
from pathlib import Path

import pytest
import torch
from torch import nn

from art_ext.averaging import snapshot
from art_ext.engine import checkpoint
from art_ext.engine.checkpoint import load_weights, or_warn, prepare_folder, save_weights


class Tied(nn.Module):
    """Two layers that share one weight."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(self.first(x))


NETWORKS = {
    "linear": (lambda: nn.Linear(4, 3), (2, 4)),
    "BatchNorm": (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), (2, 3, 8, 8)),
    "channels last": (lambda: nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last), (2, 3, 8, 8)),
    "tied weights": (Tied, (2, 3)),
}


@pytest.mark.parametrize("build, shape", NETWORKS.values(), ids=NETWORKS)
def test_a_fresh_network_computes_the_same(tmp_path, build, shape):
    network, fresh, x = build(), build(), torch.rand(shape)
    network(x)  # moves BatchNorm's statistics
    save_weights(network, tmp_path / "w.safetensors")
    load_weights(fresh, tmp_path / "w.safetensors")
    assert torch.equal(fresh.eval()(x), network.eval()(x))
    assert [p.name for p in tmp_path.iterdir()] == ["w.safetensors"]


def fail_half_way(network, path):
    Path(path).write_bytes(b"half")
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path, network, fresh = tmp_path / "w.safetensors", nn.Linear(4, 3), nn.Linear(4, 3)
    save_weights(network, path)
    monkeypatch.setattr(checkpoint, "save_model", fail_half_way)
    with pytest.raises(OSError, match=r"cannot write .*w\.safetensors: No space left"):
        save_weights(nn.Linear(4, 3), path)
    assert [p.name for p in tmp_path.iterdir()] == ["w.safetensors"]
    load_weights(fresh, path)
    assert torch.equal(fresh.weight, network.weight)


def test_during_a_run_a_full_disk_is_a_warning(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "save_model", fail_half_way)
    path = tmp_path / "w.safetensors"
    told = pytest.warns(UserWarning, match=r"w\.safetensors could not be written .*No space left.*; training goes on")
    with told, or_warn(path):
        save_weights(nn.Linear(4, 3), path)
    assert not list(tmp_path.iterdir())


def test_an_interruption_is_not_swallowed(tmp_path):
    with pytest.raises(KeyboardInterrupt), or_warn(tmp_path):
        raise KeyboardInterrupt


def test_a_folder_is_made_and_left_empty(tmp_path):
    folder = prepare_folder(str(tmp_path / "runs" / "1"))
    assert folder == tmp_path / "runs" / "1"
    assert not list(folder.iterdir())
    assert prepare_folder(folder) == folder


def test_two_processes_may_try_a_folder_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one removes the probe that the other was about to remove."""
    unlink = Path.unlink

    def twice(path: Path, missing_ok: bool = False) -> None:
        unlink(path)
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", twice)
    assert prepare_folder(tmp_path) == tmp_path
    assert list(tmp_path.iterdir()) == []


def refuse(*args, **kwargs):
    raise PermissionError(errno.EACCES, "Permission denied")


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match=r"checkpoint_dir .*file/runs cannot be written: Not a directory"):
        prepare_folder(tmp_path / "file" / "runs")


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(PermissionError, match=r"checkpoint_dir .* cannot be written: .*Permission denied"):
        prepare_folder(tmp_path)
    assert not list(tmp_path.iterdir())


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*gone\.safetensors"):
        load_weights(nn.Linear(4, 3), tmp_path / "gone.safetensors")


OTHERS = {
    "another shape": nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 5)),
    "a layer less": nn.Sequential(nn.Linear(4, 3)),
    "a layer more": nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2), nn.Linear(2, 2)),
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_another_architecture_is_refused_and_nothing_loaded(tmp_path, other):
    path, network = tmp_path / "w.safetensors", nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    save_weights(other, path)
    before = snapshot(network)
    with pytest.raises(ValueError, match=r"checkpoint .*w\.safetensors does not fit Sequential: .*"):
        load_weights(network, path)
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize("content", [b"", b"half of a file"], ids=["empty", "broken"])
def test_a_broken_file_is_refused(tmp_path, content):
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"checkpoint .*w\.safetensors is not a whole safetensors file"):
        load_weights(nn.Linear(4, 3), path)
