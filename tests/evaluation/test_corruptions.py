"""Corruptions: closed forms, what each promises of its random numbers, and the report on them."""

import json
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from art.estimators.classification import PyTorchClassifier
from matplotlib.figure import Figure
from PIL import Image
from torch import Generator, Tensor, nn

import art_ext.nn.cifar  # noqa: F401  (registers resnet20_cifar)
from art_ext.data import load
from art_ext.evaluation.corruptions import CORRUPTIONS, SEVERITIES, CorruptionReport, evaluate_corruptions
from art_ext.nn.normalize import Normalized

NAMES = list(CORRUPTIONS)
BLURS = [c.name for c in CORRUPTIONS.values() if c.family == "blur"]
DETERMINISTIC = [
    "gaussian-blur", "defocus-blur", "zoom-blur", "brightness", "contrast", "saturation", "pixelate", "jpeg",
]  # fmt: skip


def seed(number: int = 0) -> Generator:
    return Generator().manual_seed(number)


def smooth(n: int = 8, channels: int = 3, size: int = 32) -> Tensor:
    """Random smooth images that cover most of [0, 1]."""
    coarse = torch.rand(n, channels, 5, 5, generator=seed(1))
    return F.interpolate(coarse, size=(size, size), mode="bicubic", align_corners=True).clamp(0, 1)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("severity", [1, 5])
@pytest.mark.parametrize(
    "shape",
    [
        pytest.param((3, 3, 32, 32), id="colour"),
        pytest.param((2, 1, 28, 28), id="grey"),
        pytest.param((2, 3, 8, 8), id="tiny"),
        pytest.param((1, 3, 20, 48), id="not square"),
        pytest.param((1, 3, 96, 96), id="large"),
    ],
)
def test_shape_range_and_input_untouched(name: str, severity: int, shape: tuple[int, ...]) -> None:
    if CORRUPTIONS[name].needs_colour and shape[1] == 1:
        return
    x = torch.rand(shape, generator=seed())
    before = x.clone()
    out = CORRUPTIONS[name].apply(x, severity, seed())
    assert out.shape == x.shape
    assert out.dtype == torch.float32
    assert out.min() >= 0
    assert out.max() <= 1
    assert not torch.equal(out, x)
    assert torch.equal(x, before)
    assert out.data_ptr() != x.data_ptr()


@pytest.mark.parametrize("name", NAMES)
def test_the_generator_decides_and_nothing_global(name: str) -> None:
    x, state = smooth(), torch.get_rng_state()
    one, two, other = (CORRUPTIONS[name].apply(x, 3, seed(number)) for number in (0, 0, 1))
    assert torch.equal(one, two)
    assert torch.equal(one, other) == (name in DETERMINISTIC)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", NAMES)
def test_an_image_does_not_depend_on_the_others(name: str) -> None:
    x = smooth()
    whole = CORRUPTIONS[name].apply(x, 4, seed())
    generator = seed()
    cut = torch.cat([CORRUPTIONS[name].apply(part, 4, generator) for part in x.split([3, 1, 4])])
    changed = x.clone()
    changed[:-1] = torch.rand(changed[:-1].shape, generator=seed(2))
    torch.testing.assert_close(cut, whole, rtol=0, atol=1e-6)
    torch.testing.assert_close(CORRUPTIONS[name].apply(changed, 4, seed())[-1], whole[-1], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in DETERMINISTIC])
def test_equal_images_are_corrupted_differently(name: str) -> None:
    out = CORRUPTIONS[name].apply(smooth(1).expand(8, -1, -1, -1), 5, seed())
    assert len(out.flatten(1).unique(dim=0)) >= (2 if name == "rotation" else 8)  # a rotation draws its side only


ORDERED = dict.fromkeys(NAMES, SEVERITIES) | {
    "saturation": (3, 4, 5),  # the published severities take away first and add then
    "pixelate": (1, 2, 4, 5),  # 28 of 32 pixels (severity 2) are on a worse grid than 27 (severity 3)
}


@pytest.mark.parametrize("name", NAMES)
def test_distance_grows_with_severity(name: str) -> None:
    x = smooth(64)
    distances = [(CORRUPTIONS[name].apply(x, s, seed()) - x).flatten(1).norm(dim=1).mean() for s in ORDERED[name]]
    assert distances == sorted(distances)
    assert distances[0] > 0


@pytest.mark.parametrize("name", [*BLURS, "pixelate", "contrast", "jpeg", "elastic", "rotation", "translation"])
@pytest.mark.parametrize("severity", SEVERITIES)
def test_constant_images_stay(name: str, severity: int) -> None:
    x = torch.tensor([0.0, 51 / 255, 1.0]).view(3, 1, 1, 1).expand(3, 3, 16, 16)
    out = CORRUPTIONS[name].apply(x, severity, seed())
    tolerance = 1.01 / 255 if name == "jpeg" else 1e-5  # its mean value is quantised too
    torch.testing.assert_close(out, x, rtol=0, atol=tolerance)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_closed_forms(severity: int) -> None:
    x = torch.rand(4, 1, 6, 6, generator=seed())
    (more,), (factor,) = (CORRUPTIONS[name].parameters[severity - 1] for name in ("brightness", "contrast"))
    mean = x.double().mean((2, 3), keepdim=True)
    torch.testing.assert_close(CORRUPTIONS["brightness"].apply(x, severity, seed()), (x + more).clamp(max=1))
    contrast = CORRUPTIONS["contrast"].apply(x, severity, seed())
    torch.testing.assert_close(contrast.double(), (factor * x + (1 - factor) * mean).clamp(0, 1), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "name, change",
    [
        pytest.param("brightness", lambda hue, sat, val, p: (hue, sat, min(val + p[0], 1)), id="brightness"),
        pytest.param("saturation", lambda hue, sat, val, p: (hue, min(sat * p[0] + p[1], 1), val), id="saturation"),
    ],
)
@pytest.mark.parametrize("severity", SEVERITIES)
def test_brightness_and_saturation_are_those_of_hsv(name: str, change: object, severity: int) -> None:
    from colorsys import hsv_to_rgb, rgb_to_hsv

    x = torch.rand(1, 3, 4, 4, generator=seed())
    pixels = x[0].flatten(1).T.tolist()
    expected = [hsv_to_rgb(*change(*rgb_to_hsv(*p), CORRUPTIONS[name].parameters[severity - 1])) for p in pixels]
    out = CORRUPTIONS[name].apply(x, severity, seed())[0].flatten(1).T
    torch.testing.assert_close(out, torch.tensor(expected), rtol=0, atol=1e-5)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_pixelate_is_that_of_pillow(severity: int) -> None:
    pixels = torch.randint(256, (3, 32, 32), generator=seed(), dtype=torch.uint8)
    side = int(32 * CORRUPTIONS["pixelate"].parameters[severity - 1][0])
    image = Image.fromarray(pixels.permute(1, 2, 0).numpy())
    there_and_back = image.resize((side, side), Image.Resampling.BOX).resize((32, 32), Image.Resampling.BOX)
    ours = CORRUPTIONS["pixelate"].apply(pixels[None] / 255, severity, seed())[0].permute(1, 2, 0)
    np.testing.assert_allclose(255 * ours.numpy(), np.asarray(there_and_back, np.float32), atol=1.1)


MOMENTS = {
    "gaussian-noise": lambda p, x: p**2,
    "speckle-noise": lambda p, x: (p * x) ** 2,
    "shot-noise": lambda p, x: x / p,
    "impulse-noise": lambda p, x: p / 2 * ((1 - x) ** 2 + x**2),
}


@pytest.mark.parametrize("name", MOMENTS)
@pytest.mark.parametrize("severity", SEVERITIES)
def test_variance_of_the_noises(name: str, severity: int) -> None:
    x = torch.full((4, 3, 64, 64), 0.5)
    noise = CORRUPTIONS[name].apply(x, severity, seed()) - x
    assert noise.square().mean().item() == pytest.approx(
        MOMENTS[name](*CORRUPTIONS[name].parameters[severity - 1], 0.5), rel=0.06
    )
    assert noise.mean().item() == pytest.approx(0, abs=0.005)


def test_a_rotation_of_nothing_and_a_known_translation() -> None:
    from art_ext.evaluation.corruptions.filters import _warp, rotation

    x = smooth(2)
    torch.testing.assert_close(rotation(x, seed(), 0.0), x, rtol=0, atol=1e-5)
    torch.testing.assert_close(rotation(x, seed(), 180.0), x.flip(2, 3), rtol=0, atol=1e-4)
    moved = _warp(x, torch.tensor([2.0, -1.0]).view(1, 2, 1, 1))
    torch.testing.assert_close(moved[:, :, 1:, :-2], x[:, :, :-1, 2:], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "x, severity, generator, error, message",
    [
        pytest.param(torch.zeros(1, 3, 8, 8), 0, seed(), ValueError, "severity .* 1 to 5; got 0", id="severity 0"),
        pytest.param(torch.zeros(1, 3, 8, 8), 6, seed(), ValueError, "got 6", id="severity 6"),
        pytest.param(torch.zeros(1, 3, 8, 8), 2.5, seed(), ValueError, "got 2.5", id="half a severity"),
        pytest.param(torch.zeros(3, 8, 8), 1, seed(), ValueError, r"got shape \(3, 8, 8\)", id="no batch"),
        pytest.param(torch.zeros(0, 3, 8, 8), 1, seed(), ValueError, "N ≥ 1", id="empty"),
        pytest.param(torch.zeros(1, 8, 8, 3), 1, seed(), ValueError, "1 or 3 channels", id="channels last"),
        pytest.param(torch.full((1, 3, 8, 8), 2.0), 1, seed(), ValueError, r"\[2, 2\]", id="out of range"),
        pytest.param(torch.full((1, 3, 8, 8), np.nan), 1, seed(), ValueError, r"in \[0, 1\]", id="NaN"),
        pytest.param(torch.zeros(1, 3, 8, 8).byte(), 1, seed(), TypeError, "float32 .* got torch.uint8", id="uint8"),
        pytest.param(np.zeros((1, 3, 8, 8)), 1, seed(), TypeError, "got ndarray", id="numpy"),
        pytest.param(torch.zeros(1, 3, 8, 8), 1, 0, TypeError, "torch.Generator; got int", id="a seed"),
    ],
)
def test_apply_refuses(x: object, severity: object, generator: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        CORRUPTIONS["fog"].apply(x, severity, generator)


# the evaluation


@pytest.fixture
def problem() -> tuple[nn.Module, np.ndarray, np.ndarray]:
    """Images whose class is the channel with the larger mean, and a network that knows it."""
    net = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    x = smooth(20, size=16)
    return net, x.numpy(), net(x).argmax(1).numpy()


def test_report_of_an_evaluation(problem: tuple[nn.Module, np.ndarray, np.ndarray]) -> None:
    net, x, y = problem
    y = y.copy()
    y[:5] = (y[:5] + 1) % 3
    before, state = x.copy(), torch.get_rng_state()
    report = evaluate_corruptions(net.train(), x, y, severities=(5, 1), progress=False)
    assert report.clean_accuracy == 0.75
    assert list(report.accuracies) == NAMES
    assert report.severities == (5, 1)
    assert report.accuracies["contrast"] == (0.75, 0.75)  # means per channel stay
    assert report.means["fog"] == np.mean(report.accuracies["fog"])
    assert report.mean_corruption_accuracy == pytest.approx(np.mean(list(report.accuracies.values())))
    assert report.n_examples == 20
    assert net.training
    assert (x == before).all()
    assert torch.equal(torch.get_rng_state(), state)


def test_batch_size_and_company_change_nothing(problem: tuple[nn.Module, np.ndarray, np.ndarray]) -> None:
    net, x, y = problem
    names = ["impulse-noise", "shot-noise", "fog", "elastic"]
    all_at_once = evaluate_corruptions(net, x, y, corruptions=names, seed=3, progress=False)
    alone = evaluate_corruptions(net, x, y, corruptions=names[1:2], batch_size=7, seed=3, progress=False)
    assert alone.accuracies["shot-noise"] == all_at_once.accuracies["shot-noise"]
    assert evaluate_corruptions(net, x, y, corruptions=names, seed=3, progress=False) == all_at_once


def test_the_whole_defense_is_judged_in_eval_mode(problem: tuple[nn.Module, np.ndarray, np.ndarray]) -> None:
    from art.preprocessing.standardisation_mean_std.pytorch import StandardisationMeanStdPyTorch

    net, x, y = problem
    flip = StandardisationMeanStdPyTorch(mean=[0.0] * 3, std=[-1.0] * 3)  # the largest channel becomes the smallest
    classifier = PyTorchClassifier(
        nn.Sequential(nn.Dropout(0.9), *net),
        nn.CrossEntropyLoss(),
        x.shape[1:],
        3,
        clip_values=(0, 1),
        preprocessing_defences=flip,
        preprocessing=None,
    )
    report = evaluate_corruptions(classifier, x, y, corruptions=["contrast"], severities=[1], progress=False)
    assert report.clean_accuracy == report.accuracies["contrast"][0] == 0.0


def test_grey_images_have_no_saturation() -> None:
    net, x = nn.Sequential(nn.Flatten(), nn.Linear(64, 2)), smooth(4, channels=1, size=8).numpy()
    report = evaluate_corruptions(net, x, np.zeros(4, int), severities=[1], progress=False)
    assert set(NAMES) - set(report.accuracies) == {"saturation"}
    with pytest.raises(ValueError, match="saturation needs colour images"):
        evaluate_corruptions(net, x, np.zeros(4, int), corruptions=["saturation"], progress=False)


@pytest.mark.parametrize(
    "options, error, message",
    [
        pytest.param({"corruptions": ["fogg"]}, ValueError, "unknown corruption 'fogg'; did you mean 'fog'", id="name"),
        pytest.param({"corruptions": []}, ValueError, "at least one corruption", id="no names"),
        pytest.param({"severities": (1, 6)}, ValueError, "from 1 to 5; got 6", id="severity"),
        pytest.param({"severities": ()}, ValueError, "at least one", id="no severities"),
        pytest.param({"severities": 3}, ValueError, "a list", id="a number"),
        pytest.param({"batch_size": 0}, ValueError, "batch_size", id="batch size"),
        pytest.param({"seed": -1}, ValueError, "seed", id="seed"),
        pytest.param({"x": np.zeros((4, 192), np.float32)}, ValueError, "must be images", id="vectors"),
        pytest.param({"x": np.zeros((4, 3, 8, 8), np.uint8)}, TypeError, "divide by 255", id="uint8"),
        pytest.param({"x": np.full((4, 3, 8, 8), 2.0)}, ValueError, r"in \[0, 1\]", id="range"),
    ],
)
def test_evaluation_refuses(options: dict[str, object], error: type[Exception], message: str) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
    given = {"x": np.zeros((4, 3, 8, 8), np.float32), "y": np.zeros(4, int), "progress": False} | options
    with pytest.raises(error, match=message):
        evaluate_corruptions(net, given.pop("x"), given.pop("y"), **given)


def test_refuses_another_range() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
    classifier = PyTorchClassifier(net, nn.CrossEntropyLoss(), (3, 8, 8), 2, clip_values=(0, 255))
    with pytest.raises(ValueError, match=r"clip_values are \[0, 255\]"):
        evaluate_corruptions(classifier, np.zeros((2, 3, 8, 8), np.float32), np.zeros(2, int), progress=False)


# the report


@pytest.fixture
def report() -> CorruptionReport:
    return CorruptionReport(
        clean_accuracy=0.95,
        severities=(1, 3, 5),
        accuracies={"fog": (0.9, 0.6, 0.3), "gaussian-noise": (1.0, 0.5, 0.0)},
        n_examples=40,
        seed=7,
        versions={"torch": "2"},
    )


def test_table(report: CorruptionReport) -> None:
    assert str(report) == (
        "                severity 1  severity 3  severity 5     mean\n"
        "clean                                               95.00 %\n"
        "fog                90.00 %     60.00 %     30.00 %  60.00 %\n"
        "gaussian-noise    100.00 %     50.00 %      0.00 %  50.00 %\n"
        "mean               95.00 %     55.00 %     15.00 %  55.00 %\n"
        "40 images; seed 7; in the style of CIFAR-10-C, not comparable with its published files"
    )


def test_json_round_trip(report: CorruptionReport, tmp_path: Path) -> None:
    path = tmp_path / "new" / "corruptions.json"
    text = report.to_json(path)
    assert path.read_text(encoding="utf-8") == text
    assert [CorruptionReport.from_json(source) for source in (text, path, str(path))] == [report] * 3
    assert json.loads(text, parse_constant=pytest.fail)["mean_corruption_accuracy"] == pytest.approx(0.55)


@pytest.mark.parametrize("text, message", [("{}", "missing or unknown: .*'accuracies'"), ('{"x": 1', "Expecting")])
def test_what_is_no_report_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CorruptionReport.from_json(text)


def test_heat_map(report: CorruptionReport) -> None:
    pyplot_was_there = "matplotlib.pyplot" in sys.modules
    axes = Figure().add_subplot()
    report.draw(axes)
    assert axes.images[0].get_array().tolist() == [[90, 60, 30], [100, 50, 0]]
    assert [text.get_text() for text in axes.texts] == ["90.0", "60.0", "30.0", "100.0", "50.0", "0.0"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["fog", "gaussian-noise"]
    assert ("matplotlib.pyplot" in sys.modules) == pyplot_was_there


def test_nothing_warns(problem: tuple[nn.Module, np.ndarray, np.ndarray]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evaluate_corruptions(*problem, severities=[2], progress=False)


@pytest.mark.data
@pytest.mark.slow
def test_accuracy_of_a_real_network_falls(data_dir: Path) -> None:
    file = data_dir / "weights" / "cifar10_resnet20_std.pth"
    if not file.is_file():
        pytest.skip(f"no {file}")
    net = timm.create_model("resnet20_cifar")
    net.load_state_dict(torch.load(file, weights_only=True))
    model = Normalized(net, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    *_, x, y = load("cifar10")
    names = ["gaussian-noise", "gaussian-blur", "contrast", "jpeg", "elastic"]  # one of each family
    report = evaluate_corruptions(model, x[:200], y[:200], corruptions=names, severities=(1, 3, 5), progress=False)
    for name, shares in report.accuracies.items():
        assert shares[0] > shares[1] > shares[2], name
        assert report.clean_accuracy + 0.02 > shares[0], name
    assert report.mean_corruption_accuracy < report.clean_accuracy - 0.1
