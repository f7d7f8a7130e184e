"""Streams of images: the generator alone decides what comes, and nothing of the machinery can be seen in it."""

import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from art_ext.data import CentreCrop, ImageFolder, RandomCrop, UnreadableImageError, image_folder, image_shards
from art_ext.engine.resident import ResidentImages, image_batches
from art_ext.engine.streams import ImageBatches
from art_ext.processes import Processes
from tests import forking
from tests.data.pictures import cut_short, scene, write_folder, write_shard

SHAPE = (3, 8, 8)
Epoch = list[tuple[Tensor, Tensor]]


@pytest.fixture
def numbered(tmp_path: Path) -> ImageFolder:
    """11 images that are filled with their number, in three classes."""
    write_folder(tmp_path / "numbered", {"a": 4, "b": 3, "c": 4})
    return image_folder(tmp_path / "numbered")


@pytest.fixture
def scenes(tmp_path: Path) -> ImageFolder:
    """Ten pictures that look different everywhere."""
    for i in range(10):
        (tmp_path / "scenes" / str(i % 2)).mkdir(parents=True, exist_ok=True)
        scene(30 + i, 24).save(tmp_path / "scenes" / str(i % 2) / f"{i}.png")
    return image_folder(tmp_path / "scenes")


def stream(source: Any, **options: Any) -> ImageBatches:
    return ImageBatches(source, **{"shape": SHAPE, "batch_size": 4, "device": "cpu", "workers": 0} | options)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def numbers(epoch: Any) -> list[list[int]]:
    return [(x[:, 0, 0, 0] * 255).round().int().tolist() for x, _ in epoch]


def flat(epoch: Any) -> list[int]:
    return [number for batch in numbers(epoch) for number in batch]


def assert_same(epochs: Any, others: Any) -> None:
    for (x, y), (x2, y2) in zip(epochs, others, strict=True):
        assert torch.equal(x, x2)
        assert torch.equal(y, y2)


def test_batches_are_the_images_with_their_labels(numbered: ImageFolder) -> None:
    batches = stream(numbered)
    assert (batches.size, batches.num_classes, batches.per_epoch()) == (11, 3, 3)
    seen = []
    for x, y in batches.epoch(generator()):
        assert (x.dtype, x.shape[1:], y.dtype) == (torch.float32, SHAPE, torch.int64)
        number = (x[:, 0, 0, 0] * 255).round().long()
        assert torch.equal(x, (number / 255)[:, None, None, None].expand_as(x))
        assert y.tolist() == numbered.labels[number].tolist()
        seen += number.tolist()
    assert sorted(seen) == [*range(11)]


SIZES = {"incomplete": (4, [4, 4, 3]), "a single one left": (5, [5, 5]), "one batch": (20, [11])}


@pytest.mark.parametrize("batch_size,sizes", SIZES.values(), ids=SIZES)
def test_sizes(numbered: ImageFolder, batch_size: int, sizes: list[int]) -> None:
    batches = stream(numbered, batch_size=batch_size)
    assert [len(y) for _, y in batches.epoch(generator())] == sizes
    assert batches.per_epoch() == len(sizes)


def test_order_is_that_of_arrays_and_new_in_each_epoch(numbered: ImageFolder) -> None:
    batches, g = stream(numbered), generator(5)
    first, second = (flat(batches.epoch(g)) for _ in range(2))
    assert first == torch.randperm(11, generator=generator(5)).tolist() != second
    assert flat(stream(numbered, shuffle=False).epoch(g)) == [*range(11)]


@pytest.mark.parametrize("crop", [CentreCrop(), RandomCrop()], ids=["centre", "random"])
def test_workers_make_no_difference(scenes: ImageFolder, crop: Any) -> None:
    g, epochs = generator(), []
    alone = stream(scenes, crop=crop)
    for _ in range(2):
        epochs += list(alone.epoch(g))
    for workers in (1, 2):
        several, g = stream(scenes, crop=crop, workers=workers), generator()
        assert_same([*several.epoch(g), *several.epoch(g)], epochs)
        several.close()


@pytest.mark.parametrize("skip", [1, 2, 3])
def test_an_epoch_can_be_continued(scenes: ImageFolder, skip: int) -> None:
    g, batches = generator(), stream(scenes, crop=RandomCrop())
    for _ in range(2):  # the second: the state of the generator goes on alike
        state = g.get_state()
        whole = list(batches.epoch(g))
        after = g.get_state()
        g.set_state(state)
        assert_same(batches.epoch(g, skip), whole[skip:])
        assert torch.equal(g.get_state(), after)


def test_what_is_skipped_is_not_decoded(numbered: ImageFolder) -> None:
    order = torch.randperm(11, generator=generator()).tolist()
    for number in order[:8]:
        numbered.path(number).unlink()
    assert numbers(stream(numbered).epoch(generator(), skip=2)) == [order[8:]]


def test_an_abandoned_epoch_leaves_nothing_behind(scenes: ImageFolder) -> None:
    batches = stream(scenes, workers=2, batch_size=2)
    next(batches.epoch(generator(1)))
    assert_same(batches.epoch(generator(2)), stream(scenes, batch_size=2).epoch(generator(2)))
    older = batches.epoch(generator(1))
    next(older)
    next(batches.epoch(generator(1)))
    with pytest.raises(RuntimeError, match="another epoch"):
        next(older)
    batches.close()


def test_crops_differ_between_epochs_and_images(scenes: ImageFolder) -> None:
    g, batches = generator(), stream(scenes, crop=RandomCrop(), batch_size=10, shuffle=False)
    ((first, _),), ((second, _),) = batches.epoch(g), batches.epoch(g)
    assert (first != second).flatten(1).any(1).all()


def test_global_random_state_is_left_alone(scenes: ImageFolder) -> None:
    before = torch.get_rng_state()
    list(stream(scenes, crop=RandomCrop()).epoch(generator()))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("channels_last", [True, False])
def test_memory_format(scenes: ImageFolder, channels_last: bool) -> None:
    layout = torch.channels_last if channels_last else torch.contiguous_format
    for x, _ in stream(scenes, channels_last=channels_last).epoch(generator()):
        assert x.is_contiguous(memory_format=layout)


@pytest.mark.parametrize("count,batch_size", [(2, 4), (3, 5)])
@pytest.mark.parametrize("resident", [False, True], ids=["streamed", "kept"])
def test_processes_share_each_batch(scenes: ImageFolder, count: int, batch_size: int, resident: bool) -> None:
    options: dict[str, Any] = {"shape": SHAPE, "batch_size": batch_size, "device": "cpu", "workers": 0}
    options["crop"] = CentreCrop() if resident else RandomCrop()
    parts = []
    for rank in range(count):
        mine = image_batches(scenes, resident=resident, **options)
        mine.processes = Processes(rank, count)
        parts.append(list(mine.epoch(generator())))
    together = [[torch.cat(rows) for rows in zip(*batch, strict=True)] for batch in zip(*parts, strict=True)]
    assert_same(together, stream(scenes, **options).epoch(generator()))


def test_waiting_is_counted(numbered: ImageFolder) -> None:
    batches = stream(numbered)
    assert batches.waited == 0
    began = time.perf_counter()
    list(batches.epoch(generator()))
    assert 0 < batches.waited <= time.perf_counter() - began


def test_unreadable_image_stops_with_its_path(numbered: ImageFolder) -> None:
    numbered.path(6).write_bytes(b"no image")
    with pytest.raises(UnreadableImageError, match=rf"cannot identify .*{numbered.path(6)}' \(on_error='skip' goes on"):
        list(stream(numbered).epoch(generator()))


def test_another_image_stands_in_for_an_unreadable_one(numbered: ImageFolder, caplog: pytest.LogCaptureFixture) -> None:
    for number in (1, 7):
        cut_short(numbered.path(number))
    batches = stream(numbered, on_error="skip", shuffle=False)
    with caplog.at_level(logging.WARNING, "art_ext"):
        for _ in range(2):
            epoch = list(batches.epoch(generator()))
            assert numbers(epoch) == [[0, 2, 2, 3], [4, 5, 6, 4], [8, 9, 10]]
            assert (
                torch.cat([y for _, y in epoch]).tolist()
                == numbered.labels[[0, 2, 2, 3, 4, 5, 6, 4, 8, 9, 10]].tolist()
            )
    assert [str(numbered.path(i)) in caplog.text for i in (1, 7)] == [True, True]
    assert len(caplog.records) == 2


def test_a_batch_of_unreadable_images_stops_in_any_case(numbered: ImageFolder) -> None:
    for number in range(4):
        cut_short(numbered.path(number))
    with pytest.raises(UnreadableImageError, match="nor any other of its batch"):
        list(stream(numbered, on_error="skip", shuffle=False).epoch(generator()))


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "two channels": ({"shape": (2, 8, 8)}, "1 or 3 channels; got"),
    "no height": ({"shape": (8, 8)}, "shape must be"),
    "batch size": ({"batch_size": 0}, "batch_size must be"),
    "workers": ({"workers": -1}, "workers must be at least 0"),
    "prefetch": ({"prefetch": 0}, "prefetch must be"),
    "on_error": ({"on_error": "stop"}, "unknown on_error 'stop'"),
}


@pytest.mark.parametrize("options,message", BAD.values(), ids=BAD)
def test_bad_arguments(numbered: ImageFolder, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        stream(numbered, **options)


def test_no_images(numbered: ImageFolder) -> None:
    with pytest.raises(ValueError, match="holds no images"):
        stream(numbered.select(np.arange(0)))


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_shards_are_streamed_alike(tmp_path: Path) -> None:
    pytest.importorskip("webdataset")
    names = [write_shard(tmp_path / f"{i}.tar", range(6 * i, 6 * i + 6)) for i in range(3)]
    source = image_shards(names, num_classes=10, buffer=5)
    batches, g = stream(source), generator()
    whole = list(batches.epoch(g))
    assert sorted(flat(whole)) == [*range(18)]
    for x, y in whole:
        assert y.tolist() == ((x[:, 0, 0, 0] * 255).round().int() % 10).tolist()
    assert_same(batches.epoch(generator(), skip=3), whole[3:])
    too_large = stream(image_shards(names, num_classes=10, size=19))
    with pytest.raises(ValueError, match="fewer images than 19"):
        list(too_large.epoch(generator()))


def test_kept_images_are_the_streamed_ones(scenes: ImageFolder, caplog: pytest.LogCaptureFixture) -> None:
    options: dict[str, Any] = {"shape": SHAPE, "batch_size": 3, "device": "cpu", "workers": 0}
    with caplog.at_level(logging.INFO, "art_ext"):
        kept = image_batches(scenes, **options)
        streamed = image_batches(scenes, share=1e-12, **options)
    assert isinstance(kept, ResidentImages)
    assert isinstance(streamed, ImageBatches)
    assert [r.message.rsplit(": ")[-1] for r in caplog.records] == ["kept in its memory", "streamed"]
    assert "10 images of 3×8×8 bytes" in caplog.text
    assert kept.images.dtype == torch.uint8
    assert kept.fingerprint() == streamed.fingerprint()
    assert (kept.size, kept.batch_size, kept.per_epoch()) == (streamed.size, streamed.batch_size, streamed.per_epoch())
    g, g2 = generator(), generator()
    for skip in (0, 1, 0):
        assert_same(kept.epoch(g, skip), streamed.epoch(g2, skip))


def test_images_that_are_left_out_make_another_set(scenes: ImageFolder) -> None:
    options: dict[str, Any] = {"shape": SHAPE, "batch_size": 3, "device": "cpu", "workers": 0, "on_error": "skip"}
    cut_short(scenes.root / os.fsdecode(scenes.files[0]))
    kept, streamed = (image_batches(scenes, resident=resident, **options) for resident in (True, False))
    assert (kept.size, streamed.size) == (len(scenes) - 1, len(scenes))
    assert kept.fingerprint() != streamed.fingerprint()


def test_half_of_the_free_memory_is_for_the_images(scenes: ImageFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    needed = 10 * 3 * 8 * 8
    for free, kind in ((2 * needed, ResidentImages), (2 * needed - 1, ImageBatches)):
        monkeypatch.setattr("art_ext.engine.memory.free_bytes", lambda device, free=free: free)
        assert isinstance(image_batches(scenes, shape=SHAPE, batch_size=4, device="cpu", workers=0), kind)


def test_what_changes_each_epoch_cannot_be_kept(scenes: ImageFolder) -> None:
    options: dict[str, Any] = {"shape": SHAPE, "batch_size": 4, "device": "cpu", "workers": 0, "crop": RandomCrop()}
    assert isinstance(image_batches(scenes, **options), ImageBatches)
    with pytest.raises(ValueError, match="resident=True needs a folder of images and a CentreCrop"):
        image_batches(scenes, resident=True, **options)
    with pytest.raises(ValueError, match=r"share must be in \(0, 1\]; got 2"):
        image_batches(scenes, share=2, **options)


def test_unreadable_images_are_not_kept(numbered: ImageFolder) -> None:
    cut_short(numbered.path(3))
    options: dict[str, Any] = {"shape": SHAPE, "batch_size": 4, "device": "cpu", "workers": 0}
    with pytest.raises(UnreadableImageError, match=str(numbered.path(3))):
        image_batches(numbered, resident=True, **options)
    assert image_batches(numbered, resident=True, on_error="skip", **options).size == 10


SIGNALLED = """if True:
    import os, signal, sys, time, torch
    from art_ext.data import image_folder
    from art_ext.engine.streams import ImageBatches
    told = []
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda number, frame: told.append(number))
    batches = ImageBatches(image_folder(sys.argv[1]), shape=(3, 8, 8), batch_size=2, device="cpu", workers=2)
    epoch = batches.epoch(torch.Generator().manual_seed(0))
    next(epoch)
    os.killpg(0, getattr(signal, sys.argv[2]))
    time.sleep(0.5)  # an error would be raised here: the loader hears of a dead worker by a signal
    print("going on", len(told), flush=True)
    if sys.argv[2] == "SIGINT":
        print(sum(1 for _ in epoch), flush=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs POSIX signals")
@pytest.mark.parametrize("name,lines", [("SIGINT", ["going on 1", "4"]), ("SIGTERM", ["going on 1"])])
def test_a_signal_to_the_group_leaves_the_decision_to_the_main_process(
    scenes: ImageFolder, name: str, lines: list[str]
) -> None:
    run = forking.python("-c", SIGNALLED, str(scenes.root), name)
    assert run.stdout.split("\n")[:-1] == lines, run.stderr
    assert run.returncode == 0, run.stderr


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks into /proc")
def test_workers_end_with_a_killed_main_process(scenes: ImageFolder) -> None:
    code = (
        SIGNALLED.split("    os.killpg")[0]
        + "    print(*[w.pid for w in __import__('multiprocessing').active_children()],"
    )
    code += " flush=True)\n    time.sleep(60)\n"
    main = subprocess.Popen([sys.executable, "-c", code, str(scenes.root)], stdout=subprocess.PIPE, text=True)
    assert main.stdout is not None
    with main.stdout:
        workers = main.stdout.readline().split()
        os.kill(main.pid, signal.SIGKILL)
        main.wait()
    assert len(workers) == 2
    deadline = time.monotonic() + 20
    while any(Path("/proc", worker).exists() for worker in workers) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not [worker for worker in workers if Path("/proc", worker).exists()]
