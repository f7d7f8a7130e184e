"""Training on a stream of images is training on their arrays, and goes on in the middle of an epoch."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from art.estimators.classification import PyTorchClassifier
from PIL import Image
from torch import Tensor

from art_ext import RobustTrainer, ThreatModel
from art_ext.data import CentreCrop, ImageFolder, RandomCrop, image_folder, read_arrays
from art_ext.engine import History
from art_ext.engine.resident import image_batches

SHAPE = (3, 8, 8)


class Killed(BaseException):
    """What ends a run here as a kill would."""


@pytest.fixture
def photographs(tmp_path: Path) -> ImageFolder:
    """18 images of noise in four classes."""
    noise = np.random.default_rng(0)
    for i in range(18):
        (tmp_path / "images" / str(i % 4)).mkdir(parents=True, exist_ok=True)
        pixels = noise.integers(0, 256, (12, 10, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / str(i % 4) / f"{i}.png")
    return image_folder(tmp_path / "images")


@pytest.fixture
def classifier(conv_model: torch.nn.Module, trainable: Any) -> PyTorchClassifier:
    made: PyTorchClassifier = trainable(conv_model, device_type="cpu")
    return made


def trainer_of(classifier: PyTorchClassifier, folder: Path | None = None, **options: Any) -> RobustTrainer:
    given = {"steps": 2, "precision": "fp32", "progress": False, "augment": "flip", "checkpoint_dir": folder} | options
    return RobustTrainer(classifier, threat=ThreatModel("linf", 0.05), **given)


def stream(folder: ImageFolder, **options: Any) -> Any:
    return image_batches(folder, **{"shape": SHAPE, "batch_size": 4, "device": "cpu", "workers": 0} | options)


def copies(classifier: PyTorchClassifier) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in classifier.model.state_dict().items()}


@pytest.mark.parametrize("resident", [False, True], ids=["streamed", "kept"])
def test_one_epoch_is_that_of_the_arrays(
    photographs: ImageFolder, classifier: PyTorchClassifier, resident: bool
) -> None:
    start, optimizer = copies(classifier), classifier.optimizer.state_dict()
    trainer_of(classifier).fit(*read_arrays(photographs, SHAPE), nb_epochs=1, batch_size=4)
    expected = copies(classifier)
    classifier.model.load_state_dict(start)
    classifier.optimizer.load_state_dict(optimizer)
    trainer_of(classifier).fit_stream(stream(photographs, crop=CentreCrop(), resident=resident), nb_epochs=1)
    for name, value in copies(classifier).items():
        assert torch.equal(value, expected[name]), name


@pytest.mark.parametrize("workers", [0, 2])
def test_a_killed_run_goes_on_in_the_middle_of_an_epoch(
    photographs: ImageFolder,
    classifier: PyTorchClassifier,
    workers: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(History, "plot", lambda self, path: None)
    start, optimizer = copies(classifier), classifier.optimizer.state_dict()
    trainer_of(classifier).fit_stream(stream(photographs, crop=RandomCrop()), nb_epochs=3)
    expected = copies(classifier)

    classifier.model.load_state_dict(start)
    classifier.optimizer.load_state_dict(optimizer)
    batches = stream(photographs, crop=RandomCrop(), workers=workers)
    dying = trainer_of(classifier, tmp_path / "run", checkpoint_every=2)
    kill_at(dying, 8, monkeypatch)  # in the fourth batch of the second epoch; saved after its second
    with pytest.raises(Killed):
        dying.fit_stream(batches, nb_epochs=3)
    batches.close()

    classifier.model.load_state_dict(start)
    classifier.optimizer.load_state_dict(optimizer)
    going_on = trainer_of(classifier, tmp_path / "run", checkpoint_every=2)
    going_on.resume()
    again = stream(photographs, crop=RandomCrop(), workers=workers)
    going_on.fit_stream(again, nb_epochs=3)
    again.close()
    assert len(going_on.history) == 3
    for name, value in copies(classifier).items():
        assert torch.equal(value, expected[name]), name


def kill_at(trainer: RobustTrainer, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    take_step, taken = trainer.get_classifier().optimizer.step, []

    def dying(*args: Any, **kwargs: Any) -> Any:
        if len(taken) == step:
            monkeypatch.setattr(trainer.get_classifier().optimizer, "step", take_step)
            raise Killed
        taken.append(True)
        return take_step(*args, **kwargs)

    monkeypatch.setattr(trainer.get_classifier().optimizer, "step", dying)


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "shape": ({"shape": (3, 16, 16)}, r"batches\.shape is \(3, 16, 16\), the classifier's is \(3, 8, 8\)"),
    "classes": ({}, r"batches\.num_classes is 2, the classifier's is 4"),
}


@pytest.mark.parametrize("kind", BAD)
def test_batches_of_something_else_are_refused(
    photographs: ImageFolder, classifier: PyTorchClassifier, kind: str
) -> None:
    options, message = BAD[kind]
    folder = photographs.subset(["0", "3"]) if kind == "classes" else photographs
    with pytest.raises(ValueError, match=message):
        trainer_of(classifier).fit_stream(stream(folder, **options))
