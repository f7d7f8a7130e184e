"""INNTrainer: what a batch holds, the copy that is trained, the snapshots, the vote, and what is refused."""

import copy
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from art.attacks.evasion import ProjectedGradientDescentPyTorch
from art.estimators.classification import PyTorchClassifier
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from art_ext import INNTrainer, ThreatModel
from art_ext.data import CentreCrop, image_folder
from art_ext.engine import History
from art_ext.engine.resident import image_batches
from art_ext.engine.validation import Validation
from art_ext.processes import Processes
from art_ext.trainers.appended import WithBackgrounds
from art_ext.trainers.interfered import Interfering
from art_ext.trainers.snapshots import Snapshots

CLASSES = 4
BACKGROUNDS = np.stack([np.full((3, 8, 8), value, np.float32) for value in (0.2, 0.6, 0.9)])
OPTIONS: dict[str, Any] = {"progress": False, "precision": "fp32", "backgrounds": BACKGROUNDS, "snapshots": 2}


@pytest.fixture(autouse=True)
def without_pictures(monkeypatch):
    monkeypatch.setattr(History, "plot", lambda self, path: None)


@pytest.fixture
def arrays(images):
    return tuple(t.numpy() for t in images)


def fitted(classifier, arrays, *, epochs=3, **options):
    trainer = INNTrainer(classifier, **(OPTIONS | options))
    trainer.fit(*arrays, nb_epochs=epochs, batch_size=8)
    return trainer


def batches_of(trainer, arrays, **options) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """(Inputs of the network, labels) of each training batch."""
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    attack = trainer.attack

    def watched(model, x, y, generator):
        x_int = attack(model, x, y, generator)
        seen.append((x_int.clone(), y.clone()))
        return x_int

    trainer.attack = watched
    trainer.fit(*arrays, nb_epochs=2, batch_size=8, **options)
    return seen


# ---- what a batch holds ---------------------------------------------------------------------------------------------


def test_a_batch_is_images_under_interference_and_backgrounds_under_noise(trainable, conv_model, arrays):
    x = np.zeros_like(arrays[0])
    seen = batches_of(INNTrainer(trainable(conv_model), beta=0.0, gamma=0.0, **OPTIONS), (x, arrays[1]))
    values = set()
    for inputs, labels in seen:
        assert labels[8:].tolist() == [CLASSES, CLASSES + 1, CLASSES + 2]
        assert labels[:8].max() < CLASSES
        flat = inputs.flatten(1)
        torch.testing.assert_close(flat.amin(1), flat.amax(1))  # without noise each is of one grey
        torch.testing.assert_close(flat[8:, 0], torch.tensor([0.2, 0.6, 0.9]))  # whole, and not on top of another
        values |= {round(value, 3) for value in flat[:8, 0].tolist()}
    assert values == {0.02, 0.06, 0.09}


def test_the_noise_is_on_backgrounds_too_and_fresh(trainable, conv_model, arrays):
    seen = batches_of(INNTrainer(trainable(conv_model), gamma=0.0, beta=0.05, **OPTIONS), arrays)
    first, second = (inputs[8] - 0.2 for inputs, _ in seen[:2])
    assert first.std().item() == pytest.approx(0.05, rel=0.2)
    assert not torch.equal(first, second)


ABLATIONS = {
    "without labels": ({"label_backgrounds": False}, 8, 4),
    "without backgrounds": ({"backgrounds": ()}, 8, 4),
    "no background on images": ({"alpha": 0.0}, 11, 7),
    "nothing at all": ({"alpha": 0.0, "beta": 0.0, "gamma": 0.0, "label_backgrounds": False}, 8, 4),
}


@pytest.mark.parametrize("options, rows, outputs", ABLATIONS.values(), ids=ABLATIONS)
def test_ablations(trainable, conv_model, arrays, options, rows, outputs):
    trainer = INNTrainer(trainable(conv_model), **(OPTIONS | options))
    seen = batches_of(trainer, arrays)
    assert {len(labels) for _, labels in seen} == {rows}
    assert trainer.model.network[-1].out_features == outputs
    assert trainer.get_classifier().predict(arrays[0]).shape == (16, CLASSES)
    if not any(options.get(name, 0.1) for name in ("alpha", "beta", "gamma")):
        untouched = torch.cat([inputs for inputs, _ in seen[:2]])
        torch.testing.assert_close(
            untouched.sum((1, 2, 3)).sort()[0], torch.from_numpy(arrays[0]).sum((1, 2, 3)).sort()[0]
        )


def test_backgrounds_are_brought_to_the_device_of_the_images_once(trainable, conv_model, arrays):
    interfering = INNTrainer(trainable(conv_model), **OPTIONS).attack
    for device in ("cpu", "meta"):
        kept = interfering._choices(torch.empty(1, device=device))
        assert (kept.device.type, len(kept)) == (device, 4)
        assert interfering._choices(torch.empty(2, device=device)) is kept


def test_interfering_tells_a_run_from_one_with_other_backgrounds(trainable, conv_model):
    trainers = [
        INNTrainer(trainable(conv_model), **(OPTIONS | {"backgrounds": b})) for b in (BACKGROUNDS, BACKGROUNDS[:2])
    ]
    told = [repr(trainer.attack) for trainer in trainers]
    assert told[0] != told[1]
    assert isinstance(trainers[0].attack, Interfering)


# ---- batches of several processes -----------------------------------------------------------------------------------


class Numbered:
    """Batches whose images are their numbers."""

    def __init__(self, size: int, batch_size: int) -> None:
        self.size, self.batch_size, self.processes = size, batch_size, Processes()

    def per_epoch(self) -> int:
        return -(-self.size // self.batch_size)

    def fingerprint(self) -> str:
        return "numbers"

    def epoch(self, generator, skip=0):
        numbers = torch.arange(self.size)
        for batch in numbers.split(self.batch_size)[skip:]:
            mine = batch[self.processes.rows(len(batch))]
            yield mine.float().view(-1, 1, 1, 1).expand(-1, 3, 8, 8), mine % CLASSES


@pytest.mark.parametrize("count", [1, 2, 3, 5, 12])
@pytest.mark.parametrize("size", [16, 19, 17], ids=["even", "uneven", "one left"])
@pytest.mark.parametrize("skip", [0, 1])
def test_processes_share_images_and_backgrounds(count, size, skip):
    backgrounds = torch.from_numpy(BACKGROUNDS) + 100
    alone = WithBackgrounds(Numbered(size, 8), backgrounds, CLASSES)
    expected = list(alone.epoch(torch.Generator(), skip))
    assert [len(y) for _, y in expected] == [min(11, alone.size - 11 * n) for n in range(skip, alone.per_epoch())]
    shares = []
    for rank in range(count):
        batches = WithBackgrounds(Numbered(size, 8), backgrounds, CLASSES)
        batches.processes = Processes(rank, count)
        shares.append(list(batches.epoch(torch.Generator(), skip)))
    for number, (x, y) in enumerate(expected):
        parts = [share[number] for share in shares]
        rows = [Processes(rank, count).rows(len(y)) for rank in range(count)]
        for (mine, labels), row in zip(parts, rows, strict=True):
            assert torch.equal(mine, x[row])
            assert torch.equal(labels, y[row])


def test_streams(tmp_path, trainable, conv_model):
    noise = np.random.default_rng(0)
    for i in range(18):
        (tmp_path / str(i % 4)).mkdir(exist_ok=True)
        Image.fromarray(noise.integers(0, 256, (12, 10, 3), dtype=np.uint8)).save(tmp_path / str(i % 4) / f"{i}.png")
    trainer = INNTrainer(trainable(conv_model, device_type="cpu"), **OPTIONS)
    batches = image_batches(image_folder(tmp_path), shape=(3, 8, 8), batch_size=8, device="cpu", crop=CentreCrop())
    trainer.fit_stream(batches, nb_epochs=2)
    assert len(trainer.history) == 2
    assert trainer.get_classifier().model.passes == 2 * 3


# ---- the copy -------------------------------------------------------------------------------------------------------


def test_old_rows_are_kept_and_the_copy_is_optimised(trainable, conv_model, arrays):
    classifier = trainable(conv_model)
    trainer = INNTrainer(classifier, **OPTIONS)
    torch.testing.assert_close(trainer.model.network[-1].weight[:CLASSES], conv_model[-1].weight)
    assert trainer.model.network[-1].out_features == CLASSES + 3
    held = {id(p) for group in trainer.optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for p in trainer.model.network.parameters()}
    assert classifier.model[-1].out_features == classifier.nb_classes == CLASSES


def test_the_copy_of_an_optimizer_with_a_scheduler_steps_itself(trainable, conv_model, arrays):
    """A scheduler replaces ``optimizer.step`` by a closure on the original."""
    classifier = trainable(conv_model)
    torch.optim.lr_scheduler.StepLR(classifier.optimizer, 1)
    before = conv_model[-1].weight.clone()
    trainer = INNTrainer(classifier, **OPTIONS)
    drawn = trainer.model.network[-1].weight.clone()
    trainer.fit(*arrays, nb_epochs=2, batch_size=8)
    assert torch.equal(conv_model[-1].weight, before)
    assert not torch.equal(trainer.model.network[-1].weight, drawn)


def test_a_scheduler_of_the_given_optimizer_is_refused(trainable, conv_model, arrays):
    classifier = trainable(conv_model)
    scheduler = torch.optim.lr_scheduler.StepLR(classifier.optimizer, 1)
    with pytest.raises(ValueError, match=r"another optimizer than the classifier's.*trainer\.optimizer"):
        INNTrainer(classifier, **OPTIONS).fit(*arrays, nb_epochs=2, scheduler=scheduler)


def test_an_art_mean_and_std_come_after_the_interference(trainable, conv_model, arrays):
    classifier = trainable(conv_model, preprocessing=((0.5,) * 3, (0.25,) * 3))
    trainer = fitted(classifier, arrays, beta=0.0, gamma=0.0, backgrounds=BACKGROUNDS[:1], snapshots=1)
    voting = trainer.get_classifier()
    x = torch.from_numpy(arrays[0])
    with torch.no_grad():
        disturbed = (x + 0.1 * 0.2).clamp(0, 1)
        expected = trainer.model.network((disturbed - 0.5) / 0.25)[:, :CLASSES].log_softmax(1)
    torch.testing.assert_close(torch.from_numpy(voting.predict(arrays[0])), expected, rtol=1e-4, atol=1e-5)


# ---- snapshots and vote ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("snapshots", [1, 2, 3])
def test_the_vote_is_over_the_last_epochs(trainable, conv_model, arrays, tmp_path, snapshots):
    trainer = fitted(
        trainable(conv_model), arrays, snapshots=snapshots, beta=0.0, gamma=0.0, epochs=4, checkpoint_dir=tmp_path
    )
    files = sorted((tmp_path / "snapshots").iterdir())
    kept = min(4, snapshots + 2)  # each of the two checkpoints still has those that it names
    assert [path.name for path in files] == [f"epoch-{n:04}.safetensors" for n in range(5 - kept, 5)]
    files = files[-snapshots:]
    x, votes = torch.from_numpy(arrays[0]), []
    for path in files:
        net = copy.deepcopy(trainer.model.network)
        net.load_state_dict(load_file(path))
        for background in torch.from_numpy(BACKGROUNDS):
            with torch.no_grad():
                votes.append(net((x + 0.1 * background).clamp(0, 1)).softmax(1))
    share = torch.stack(votes).mean(0)[:, :CLASSES]
    expected = (share / share.sum(1, keepdim=True)).log()
    found = torch.from_numpy(trainer.get_classifier().predict(arrays[0]))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


VOTES = {
    "every background": ({}, 2 * 3),
    "one at random": ({"vote_backgrounds": False}, 2),
    "draws": ({"draws": 5}, 2 * 3 * 5),
    "draws of one snapshot": ({"draws": 5, "vote_backgrounds": False, "snapshots": 1}, 5),
}


@pytest.mark.parametrize("options, passes", VOTES.values(), ids=VOTES)
def test_what_votes(trainable, conv_model, arrays, options, passes):
    assert fitted(trainable(conv_model), arrays, **options).get_classifier().model.passes == passes


def test_snapshots_are_loaded_when_they_are_needed(trainable, conv_model, arrays):
    trainer = fitted(trainable(conv_model), arrays)
    voting = trainer.get_classifier()
    assert voting is trainer.get_classifier()
    assert not list(voting.model.models.parameters())
    voting.predict(arrays[0][:1])
    assert len(list(voting.model.models.parameters())) == 2 * 6


def test_a_temporary_folder_lives_as_long_as_it_is_needed(trainable, conv_model, arrays):
    trainer = fitted(trainable(conv_model), arrays)
    first, folder = trainer.get_classifier(), trainer.averaging.folder
    assert len(list(folder.iterdir())) == 2
    trainer.fit(*arrays, nb_epochs=2, batch_size=8)
    second = trainer.get_classifier()
    assert trainer.averaging.folder != folder
    assert not np.allclose(first.predict(arrays[0]), second.predict(arrays[0]), atol=1e-3)
    copied = copy.deepcopy(first.model)
    del first, copied
    assert not folder.exists()


def test_art_attacks_the_vote(trainable, conv_model, arrays):
    voting = fitted(trainable(conv_model), arrays).get_classifier()
    assert isinstance(voting, PyTorchClassifier)
    attack = ProjectedGradientDescentPyTorch(voting, eps=0.1, eps_step=0.02, max_iter=5, verbose=False)
    x_adv = attack.generate(arrays[0], arrays[1])
    assert 0.05 < np.abs(x_adv - arrays[0]).max() <= 0.1 + 1e-6


def test_validation_sees_the_classes_alone_under_one_draw(trainable, conv_model, arrays):
    trainer = INNTrainer(trainable(conv_model), threat=ThreatModel("linf", 0.01), **OPTIONS)
    trainer.fit(*arrays, validation_data=arrays, nb_epochs=3, batch_size=8)
    assert all(0 <= row["robust"] <= row["clean"] <= 1 for row in trainer.history.rows)
    x = torch.from_numpy(arrays[0])
    assert trainer.model(x).shape == (16, CLASSES)
    assert not torch.equal(trainer.model(x), trainer.model(x))
    assert trainer.model.train()(x).shape == (16, CLASSES + 3)


# ---- files ----------------------------------------------------------------------------------------------------------


def test_another_process_can_restore_the_vote(trainable, conv_model, arrays, tmp_path):
    classifier = trainable(conv_model)
    quiet = {"beta": 0.0, "gamma": 0.0, "checkpoint_dir": tmp_path}
    trainer = INNTrainer(classifier, **(OPTIONS | quiet))
    trainer.fit(*arrays, nb_epochs=3, batch_size=8, validation_data=arrays)
    other = INNTrainer(classifier, **(OPTIONS | quiet))
    other.restore("last")
    np.testing.assert_allclose(other.predict(arrays[0]), trainer.predict(arrays[0]), atol=1e-6)
    other.restore("best")
    assert other.get_classifier().model.passes == 3
    for name, value in trainer.best.items():
        assert torch.equal(other.model.network.state_dict()[name], value)


def test_fewer_snapshots_on_disk_than_asked(trainable, conv_model, arrays, tmp_path):
    trainer = fitted(trainable(conv_model), arrays, checkpoint_dir=tmp_path)
    more = INNTrainer(trainable(conv_model), **(OPTIONS | {"snapshots": 8, "checkpoint_dir": tmp_path}))
    with pytest.raises(ValueError, match=r"8 snapshots are asked for, 3 are in .*snapshots"):
        more.restore("last")
    (tmp_path / "snapshots" / "epoch-0002.safetensors").unlink()
    with pytest.raises(ValueError, match=r"2 snapshots are asked for, 1 are in .*missing: epoch-0002\.safetensors"):
        trainer.get_classifier()


def test_a_new_run_in_the_folder_of_an_old_one_leaves_none_of_its_snapshots(trainable, conv_model, arrays, tmp_path):
    fitted(trainable(conv_model), arrays, epochs=5, checkpoint_dir=tmp_path)
    fitted(trainable(conv_model), arrays, epochs=2, checkpoint_dir=tmp_path)
    assert sorted(p.name for p in (tmp_path / "snapshots").iterdir()) == [f"epoch-000{n}.safetensors" for n in (1, 2)]


class Killed(BaseException):
    """What ends a run here as a kill would."""


def test_a_killed_run_goes_on_to_the_same_vote(trainable, conv_model, arrays, tmp_path):
    options = {"checkpoint_every": 1, "beta": 0.05, "gamma": 0.0, "augment": "flip"}

    def trainer_in(name: str) -> INNTrainer:
        return INNTrainer(trainable(conv_model), checkpoint_dir=tmp_path / name, **(OPTIONS | options))

    whole = trainer_in("whole")
    whole.fit(*arrays, nb_epochs=4, batch_size=8)
    dying, steps = trainer_in("killed"), []

    def die(*_: Any) -> None:
        steps.append(1)
        if len(steps) == 8:  # the second batch of the fourth epoch
            raise Killed

    dying.optimizer.register_step_pre_hook(die)
    with pytest.raises(Killed):
        dying.fit(*arrays, nb_epochs=4, batch_size=8)
    going_on = trainer_in("killed")
    assert going_on.resume() == 3
    going_on.fit(*arrays, nb_epochs=4, batch_size=8)
    files = [sorted((tmp_path / name / "snapshots").iterdir()) for name in ("whole", "killed")]
    assert [p.name for p in files[0]] == [p.name for p in files[1]]
    assert all(one.read_bytes() == other.read_bytes() for one, other in zip(*files, strict=True))


DEATHS = {"the newest": 0, "the one before": 1}


@pytest.mark.parametrize("damaged", DEATHS.values(), ids=DEATHS)
def test_a_run_that_dies_while_it_validates_goes_on_from_a_checkpoint(
    trainable, conv_model, arrays, tmp_path, monkeypatch, damaged
):
    """The snapshot of the epoch is written by then, and its checkpoint is not."""
    trainer = INNTrainer(trainable(conv_model), checkpoint_dir=tmp_path, **OPTIONS)
    calls, accuracies = [], Validation.accuracies

    def die(self, model):
        calls.append(1)
        if len(calls) == 4:
            raise Killed
        return accuracies(self, model)

    monkeypatch.setattr(Validation, "accuracies", die)
    with pytest.raises(Killed):
        trainer.fit(*arrays, validation_data=arrays, nb_epochs=5, batch_size=8)
    for checkpoint in sorted((tmp_path / "checkpoints").iterdir(), reverse=True)[:damaged]:
        (checkpoint / "tensors.safetensors").write_bytes(b"half")
    again = INNTrainer(trainable(conv_model), checkpoint_dir=tmp_path, **OPTIONS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert again.resume() == 3 - damaged
    again.fit(*arrays, validation_data=arrays, nb_epochs=5, batch_size=8)
    assert [path.name for path in again.averaging.paths()] == [f"epoch-000{n}.safetensors" for n in (4, 5)]
    assert again.get_classifier().predict(arrays[0]).shape == (16, CLASSES)


def test_snapshots_of_an_abandoned_future_go(conv_model, tmp_path):
    snapshots = Snapshots(2, tmp_path, spare=1)
    snapshots.start(conv_model)
    for epoch in range(6):
        snapshots.after_epoch(epoch, 9, None)
    snapshots.load_state_dict({"names": ["epoch-0004.safetensors", "epoch-0005.safetensors"]})
    (tmp_path / "epoch-0009.safetensors").touch()
    snapshots.after_epoch(5, 9, None)
    assert [path.name[6:10] for path in sorted(tmp_path.iterdir())] == ["0004", "0005", "0006"]


@pytest.mark.parametrize("own", ["folder", None], ids=["another folder", "a temporary one"])
def test_a_run_goes_on_in_another_folder(trainable, conv_model, arrays, tmp_path, own):
    quiet = OPTIONS | {"beta": 0.0, "gamma": 0.0}
    first = INNTrainer(trainable(conv_model), checkpoint_dir=tmp_path / "first", **quiet)
    first.fit(*arrays, nb_epochs=3, batch_size=8)
    mine = {"checkpoint_dir": tmp_path / own} if own else {}
    other = INNTrainer(trainable(conv_model), **(quiet | mine))
    assert other.resume(tmp_path / "first") == 3
    other.fit(*arrays, nb_epochs=4, batch_size=8)
    paths = other.averaging.paths()
    assert [path.name for path in paths] == ["epoch-0003.safetensors", "epoch-0004.safetensors"]
    assert {path.parent for path in paths} == {other.averaging.folder} != {first.averaging.folder}
    assert paths[0].read_bytes() == first.averaging.paths()[1].read_bytes()
    assert other.get_classifier().model.passes == 2 * 3


def test_a_resumed_run_misses_snapshots_at_once(trainable, conv_model, arrays, tmp_path):
    fitted(trainable(conv_model), arrays, checkpoint_dir=tmp_path)
    (tmp_path / "snapshots" / "epoch-0003.safetensors").unlink()
    again = INNTrainer(trainable(conv_model), checkpoint_dir=tmp_path, **OPTIONS)
    again.resume()
    with pytest.raises(ValueError, match="2 snapshots are asked for, 1 are in"):
        again.fit(*arrays, nb_epochs=5, batch_size=8)


# ---- bad input ------------------------------------------------------------------------------------------------------


def unreadable(folder: Path) -> Path:
    (folder / "a.png").write_bytes(b"no picture")
    return folder


BAD: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "alpha": ({"alpha": 1.5}, ValueError, r"alpha must be a number in \[0, 1\]; got 1\.5"),
    "beta": ({"beta": -0.1}, ValueError, "beta must be a number"),
    "gamma": ({"gamma": float("nan")}, ValueError, "gamma must be a number"),
    "density": ({"density": 2}, ValueError, "density must be a number"),
    "snapshots": ({"snapshots": 0}, ValueError, "snapshots must be a whole number of at least 1; got 0"),
    "draws": ({"draws": 0}, ValueError, "draws must be a whole number of at least 1; got 0"),
    "channels": ({"backgrounds": np.zeros((2, 1, 8, 8))}, ValueError, r"backgrounds must be \(K, 3, H, W\)"),
    "range": ({"backgrounds": BACKGROUNDS * 2}, ValueError, r"backgrounds must lie in \[0, 1\]"),
    "no such head": ({"head": "fc"}, ValueError, "head='fc' is no layer of Sequential; its last layers are .*'5'"),
    "another head": ({"head": "0"}, ValueError, r"head='0' is Conv2d.*cannot be widened: .* with 4 outputs"),
    "option": ({"steps": 3}, TypeError, "unknown option 'steps'"),
    "clip": ({"threat": ThreatModel("linf", 0.1, clip=None)}, ValueError, "clip"),
}


@pytest.mark.parametrize("options, error, told", BAD.values(), ids=BAD)
def test_bad_arguments(trainable, conv_model, options, error, told):
    with pytest.raises(error, match=told):
        INNTrainer(trainable(conv_model), **(OPTIONS | options))


FOLDERS = {
    "no folder": (lambda folder: folder / "nowhere", "nowhere is not a folder"),
    "empty": (lambda folder: folder, "has no images"),
    "unreadable": (unreadable, r"a\.png"),
}


@pytest.mark.parametrize("make, told", FOLDERS.values(), ids=FOLDERS)
def test_bad_folders(trainable, conv_model, tmp_path, make, told):
    with pytest.raises(ValueError, match=told):
        INNTrainer(trainable(conv_model), backgrounds=make(tmp_path))


def test_a_head_that_cannot_be_found(trainable):
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(192, CLASSES)

        def forward(self, x):
            return 2 * self.fc(x.flatten(1))

    with pytest.raises(ValueError, match=r"the last layer of Scaled cannot be found .*'fc'\); give head="):
        INNTrainer(trainable(Scaled()), **OPTIONS)
    named = INNTrainer(trainable(Scaled()), head="fc", **OPTIONS)
    assert named.model.network.fc.out_features == CLASSES + 3


def test_a_head_whose_outputs_are_not_the_logits(trainable):
    class Inner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(192, CLASSES), nn.Linear(192, CLASSES)

        def forward(self, x):
            return torch.cat((self.a(x.flatten(1)), self.b(x.flatten(1))), 1)[:, -CLASSES:]

    with pytest.raises(ValueError, match="after widening 'b' by 3 the network should return"):
        INNTrainer(trainable(Inner()), head="b", **OPTIONS)


def test_stopping_before_the_snapshots_are_there(trainable, conv_model, arrays):
    told = r"early_stopping=1 may end the training after 2 epochs, before there are snapshots=3; it must be at least 2"
    with pytest.raises(ValueError, match=told):
        fitted(trainable(conv_model), arrays, snapshots=3, early_stopping=1)
    trainer = INNTrainer(trainable(conv_model), early_stopping=1, **OPTIONS)
    trainer.fit(*arrays, validation_data=arrays, nb_epochs=6, batch_size=8)
    assert trainer.get_classifier().model.passes == 2 * 3


def test_too_few_epochs(trainable, conv_model, arrays):
    with pytest.raises(ValueError, match="2 snapshots need as many epochs; nb_epochs is 1"):
        fitted(trainable(conv_model), arrays, epochs=1)


@pytest.mark.parametrize("labelled", [True, False])
def test_another_number_of_classes_than_the_network(trainable, labelled):
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 7))
    with pytest.raises(ValueError, match=r"the network returns \(2, 7\) for 2 images; nb_classes is 4"):
        INNTrainer(trainable(net), label_backgrounds=labelled, **OPTIONS)
