"""Bad input is refused before any work: the message names the argument, what was seen and what is allowed."""

import warnings

import numpy as np
import pytest
import torch
from art.attacks.evasion import ProjectedGradientDescent
from art.data_generators import KerasDataGenerator, NumpyDataGenerator
from art.defences.postprocessor import Rounded
from art.defences.preprocessor import SpatialSmoothing
from art.estimators.classification import BlackBoxClassifier, SklearnClassifier
from sklearn.linear_model import LogisticRegression
from torch import nn
from torch.optim.lr_scheduler import StepLR

from art_ext.threat import ThreatModel
from art_ext.trainers import PIATTrainer, RobustTrainer
from art_ext.validation import ProbabilitiesWarning

THREAT = ThreatModel("linf", 8 / 255)
TRAINERS = {"RobustTrainer": RobustTrainer, "PIATTrainer": PIATTrainer}
trainers = pytest.mark.parametrize("trainer", TRAINERS.values(), ids=TRAINERS)


@pytest.fixture
def arrays(images) -> tuple[np.ndarray, np.ndarray]:
    return tuple(t.numpy() for t in images)


def fitted(trainer, classifier, x, y, *, fit=(), **options):
    """`fit` for an epoch; bad options fail before it."""
    made = trainer(classifier, **({"threat": THREAT, "steps": 2, "precision": "fp32", "progress": False} | options))
    made.fit(x, y, **({"nb_epochs": 1, "batch_size": 8} | dict(fit)))
    return made


# ---- data -----------------------------------------------------------------------------------------------------------


def one_bad_pixel(value):
    def change(x, y):
        x = x.copy()
        x[3, 0, 2, 2] = value
        return x, y

    return change


DATA = {  # how x and y are spoilt, error, message
    "label too high": (lambda x, y: (x, y + 1), ValueError, r"y must lie in 0\.\.3 \(4 classes\); got 4 at position"),
    "negative label": (lambda x, y: (x, y - 1), ValueError, r"y must lie in 0\.\.3 \(4 classes\); got -1 at position"),
    "float labels": (
        lambda x, y: (x, y + 0.5),
        TypeError,
        "y must be integer labels .* or one-hot .*; got dtype float64",
    ),
    "fewer labels": (lambda x, y: (x, y[1:]), ValueError, "same length; got 16 examples and 15 labels"),
    "soft labels": (lambda x, y: (x, np.full((16, 4), 0.25)), ValueError, "row 0 is .*soft labels are not supported"),
    "five classes": (lambda x, y: (x, np.eye(5)[y]), ValueError, r"one-hot y must have shape \(N, 4\); got \(16, 5\)"),
    "0 to 255": (lambda x, y: (255 * x, y), ValueError, r"x must lie in \[0, 1\]; it covers .*: divide 8-bit values"),
    "below the range": (one_bad_pixel(-0.1), ValueError, r"x must lie in \[0, 1\]; it covers \[-0\.1, "),
    "above the range": (one_bad_pixel(1.1), ValueError, r"x must lie in \[0, 1\]; it covers \[.*, 1\.1\]"),
    "NaN": (one_bad_pixel(np.nan), ValueError, "x must be finite; 1 of 16 examples"),
    "infinity": (one_bad_pixel(np.inf), ValueError, "x must be finite; 1 of 16 examples"),
    "uint8": (lambda x, y: ((255 * x).astype(np.uint8), y), TypeError, "got uint8: divide by 255"),
    "tensors": (lambda x, y: (torch.from_numpy(x), y), TypeError, "x must be a numpy array; got Tensor"),
    "a list": (lambda x, y: (x, y.tolist()), TypeError, "y must be a numpy array; got list"),
    "channels last": (
        lambda x, y: (x.transpose(0, 2, 3, 1), y),
        ValueError,
        r"\(N, 3, 8, 8\), .* channels-last images",
    ),
    "other size": (
        lambda x, y: (x[..., :4], y),
        ValueError,
        r"\(N, 3, 8, 8\), as the model takes; got \(16, 3, 8, 4\)",
    ),
    "one image": (lambda x, y: (x[0], y[:1]), ValueError, r"x must have shape \(N, 3, 8, 8\).*got \(3, 8, 8\)"),
    "empty": (lambda x, y: (x[:0], y[:0]), ValueError, r"non-empty array .* at least one example; got shape \(0,"),
    "a single example": (
        lambda x, y: (x[:1], y[:1]),
        ValueError,
        "BatchNorm cannot train on batches of one example .x has 1",
    ),
}


def without(*names):
    return {name: case for name, case in DATA.items() if name not in names}


@trainers
@pytest.mark.parametrize("change, error, message", DATA.values(), ids=DATA)
def test_data(trainable, conv_model, arrays, trainer, change, error, message):
    untouched = _forbid_training(conv_model)
    with pytest.raises(error, match=message):
        fitted(trainer, trainable(conv_model), *change(*arrays))
    assert untouched()


HELD_OUT = without("a single example")  # is enough to validate on


@pytest.mark.parametrize("change, error, message", HELD_OUT.values(), ids=HELD_OUT)
def test_validation_data(trainable, conv_model, arrays, change, error, message):
    untouched = _forbid_training(conv_model)
    with pytest.raises(error, match=message):
        fitted(RobustTrainer, trainable(conv_model), *arrays, fit={"validation_data": change(*arrays)})
    assert untouched()


GENERATED = without(
    "fewer labels", "one image", "empty", "tensors", "a list"
)  # ART's generator refuses or converts these


@pytest.mark.parametrize("change, error, message", GENERATED.values(), ids=GENERATED)
def test_data_of_a_generator(trainable, conv_model, arrays, change, error, message):
    x, y = change(*arrays)
    trainer = RobustTrainer(trainable(conv_model), threat=THREAT, progress=False)
    with pytest.raises(error, match=message):
        trainer.fit_generator(NumpyDataGenerator(x, y, batch_size=len(x)), nb_epochs=1)


def _forbid_training(net):
    """Whether the network has not been run in train mode since."""
    runs = []
    net.register_forward_hook(lambda net, args, out: runs.append(1) if net.training else None)
    return lambda: not runs


ACCEPTED = {
    "float64": lambda x, y: (x.astype(np.float64), y),
    "float16": lambda x, y: (x.astype(np.float16), y),
    "not contiguous": lambda x, y: (x[:, :, ::-1][:, :, ::-1], y),
    "Fortran order": lambda x, y: (np.asfortranarray(x), y),
    "read-only": lambda x, y: (_read_only(x), y),
    "uint8 labels": lambda x, y: (x, y.astype(np.uint8)),
    "a column of labels": lambda x, y: (x, y[:, None]),
    "one-hot, bool": lambda x, y: (x, np.eye(4, dtype=bool)[y]),
}


def _read_only(x):
    x = x.copy()
    x.flags.writeable = False
    return x


@pytest.mark.parametrize("change", ACCEPTED.values(), ids=ACCEPTED)
def test_what_means_the_same_gives_the_same(trainable, conv_model, arrays, change):
    """float16 holds the 10 bits that are left of these images."""
    x, y = (arrays[0] * 1024).round() / 1024, arrays[1]
    given, states = {name: value.clone() for name, value in conv_model.state_dict().items()}, []
    for data in ((x, y), change(x, y)):
        conv_model.load_state_dict(given)
        fitted(RobustTrainer, trainable(conv_model), *data)
        states.append({name: value.clone() for name, value in conv_model.state_dict().items()})
    for name in given:
        assert torch.equal(states[0][name], states[1][name]), name


@pytest.mark.filterwarnings("error")
def test_a_single_example_without_batchnorm(trainable, linear_model, arrays):
    assert len(fitted(RobustTrainer, trainable(linear_model), arrays[0][:1], arrays[1][:1]).history) == 1


# ---- arguments of fit -----------------------------------------------------------------------------------------------


def _scheduler():
    return StepLR(torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0), 1)


FIT = {
    "batch size": ({"batch_size": 0}, ValueError, "batch_size must be a whole number of at least 1; got 0"),
    "half a batch": ({"batch_size": 0.5}, ValueError, "batch_size must be a whole number of at least 1; got 0.5"),
    "epochs": ({"nb_epochs": 0}, ValueError, "nb_epochs must be a whole number of at least 1; got 0"),
    "no whole epochs": ({"nb_epochs": 1.5}, ValueError, "nb_epochs must be a whole number of at least 1; got 1.5"),
    "batches of one": ({"batch_size": 1}, ValueError, "BatchNorm cannot train .*batch_size is 1.*at least 2"),
    "all held out": ({"validation_split": 1.0}, ValueError, r"validation_split must be in \[0, 1\); got 1.0"),
    "negative split": ({"validation_split": -0.1}, ValueError, r"validation_split must be in \[0, 1\); got -0.1"),
    "nothing left": ({"validation_split": 0.99}, ValueError, "validation_split=0.99 leaves nothing of 16 examples"),
    "one left": ({"validation_split": 0.94}, ValueError, "BatchNorm cannot train .*x has 1"),
    "scheduler": ({"scheduler": "cosine"}, TypeError, "scheduler must be an object of torch.*; got 'cosine'"),
    "a class": ({"scheduler": StepLR}, TypeError, "scheduler must be an object of torch.*; got <class"),
    "another's scheduler": ({"scheduler": _scheduler()}, ValueError, "scheduler belongs to another optimizer"),
    "unit": ({"scheduler_step": "step"}, ValueError, "scheduler_step must be one of auto, epoch, batch; got 'step'"),
    "unknown": ({"epochs": 3}, TypeError, "unexpected keyword argument 'epochs'"),
}


@trainers
@pytest.mark.parametrize("arguments, error, message", FIT.values(), ids=FIT)
def test_arguments_of_fit(trainable, conv_model, arrays, trainer, arguments, error, message):
    untouched = _forbid_training(conv_model)
    with pytest.raises(error, match=message):
        fitted(trainer, trainable(conv_model), *arrays, fit=arguments)
    assert untouched()


def test_validation_twice(trainable, conv_model, arrays):
    with pytest.raises(ValueError, match="give validation_data or validation_split, not both"):
        fitted(RobustTrainer, trainable(conv_model), *arrays, fit={"validation_data": arrays, "validation_split": 0.5})


@pytest.mark.parametrize("option, value", [("early_stopping", 3), ("restore_best", True)])
def test_what_needs_validation(trainable, conv_model, arrays, option, value):
    with pytest.raises(ValueError, match=f"{option} needs validation_data or a validation_split"):
        fitted(RobustTrainer, trainable(conv_model), *arrays, **{option: value})


@trainers
def test_no_optimizer(trainable, conv_model, arrays, trainer):
    with pytest.raises(ValueError, match=r"the classifier has no optimizer: give PyTorchClassifier\(.*optimizer="):
        fitted(trainer, trainable(conv_model, optimizer=None), *arrays)


GENERATORS = {
    "arrays": (lambda x, y: x, TypeError, r"generator must be an art\.data_generators\.DataGenerator; got ndarray"),
    "no size": (lambda x, y: KerasDataGenerator(iter(()), None, 8), ValueError, "generator must know the size"),
    "batches of one": (
        lambda x, y: NumpyDataGenerator(x, y, 1),
        ValueError,
        "BatchNorm cannot train on batches of one",
    ),
}


@trainers
@pytest.mark.parametrize("make, error, message", GENERATORS.values(), ids=GENERATORS)
def test_generators(trainable, conv_model, arrays, trainer, make, error, message):
    with pytest.raises(error, match=message):
        trainer(trainable(conv_model), threat=THREAT).fit_generator(make(*arrays), nb_epochs=1)


# ---- arguments of the trainer ---------------------------------------------------------------------------------------


def targeted(classifier):
    return ProjectedGradientDescent(classifier, targeted=True, verbose=False)


OPTIONS = {  # options, or a function of the classifier
    "steps": ({"steps": 0}, ValueError, "steps must be a whole number of at least 1; got 0"),
    "step size": ({"step_size": 0.0}, ValueError, r"step_size must be > 0 .*2/255\); got 0.0"),
    "negative step size": ({"step_size": -0.1}, ValueError, "step_size must be > 0 .* got -0.1"),
    "threat": ({"threat": 8 / 255}, TypeError, r"threat must be a ThreatModel, e\.g\. .*; got 0\.03"),
    "eps per example": (
        {"threat": ThreatModel("linf", torch.full((16,), 0.1))},
        ValueError,
        "eps must be one number for all training examples; got 16",
    ),
    "clip": (
        {"threat": ThreatModel("linf", 8, clip=(0, 255))},
        ValueError,
        r"clip_values are \(0\.0, 1\.0\), the threat model's clip is \(0\.0, 255\.0\)",
    ),
    "no clip": ({"threat": ThreatModel("linf", 0.1, clip=None)}, ValueError, "the threat model's clip is None"),
    "loss": ({"loss": "trade"}, ValueError, "unknown loss 'trade'; did you mean 'trades'"),
    "type of loss": ({"loss": 3}, TypeError, "loss must be a registered name, a Loss or a function; got int"),
    "attack": ({"attack": 3}, TypeError, "attack must be None, a name, a function or an ART EvasionAttack; got int"),
    "attack by a wrong name": ({"attack": "fgsm"}, ValueError, "did you mean 'fgsm-rs'"),
    "targeted": (lambda c: {"attack": targeted(c)}, ValueError, "ProjectedGradientDescent is targeted"),
    "option": ({"precison": "bf16"}, TypeError, "unknown option 'precison'; did you mean 'precision'"),
    "precision": ({"precision": "fp16"}, ValueError, "precision must be one of auto, fp32, bf16; got 'fp16'"),
    "patience": ({"early_stopping": 0}, ValueError, "early_stopping must be a whole number of at least 1; got 0"),
    "augmentation": ({"augment": "mixup"}, ValueError, "unknown augmentation 'mixup'; known: crop, crop-flip, flip"),
}


@trainers
@pytest.mark.parametrize("options, error, message", OPTIONS.values(), ids=OPTIONS)
def test_arguments_of_the_trainer(trainable, conv_model, trainer, options, error, message):
    classifier = trainable(conv_model)
    with pytest.raises(error, match=message):
        trainer(classifier, **{"threat": THREAT} | (options(classifier) if callable(options) else options))


@pytest.mark.parametrize(
    "averaging, error, message",
    [
        ("swaa", ValueError, "unknown averaging 'swaa'; did you mean 'swa'"),
        (0.99, TypeError, "averaging must be None, a name or an Averaging; got float"),
    ],
    ids=["unknown", "a number"],
)
def test_averaging(trainable, conv_model, averaging, error, message):
    with pytest.raises(error, match=message):
        RobustTrainer(trainable(conv_model), threat=THREAT, averaging=averaging)


@pytest.mark.parametrize("eps", [0, -8 / 255, float("nan"), float("inf")])
def test_eps(eps):
    with pytest.raises(ValueError, match=r"eps must be > 0 .*8/255"):
        ThreatModel("linf", eps)


# ---- the classifier -------------------------------------------------------------------------------------------------


CLASSIFIERS = {
    "a network": (lambda make, net: net, TypeError, "classifier must be an art.*PyTorchClassifier; got Sequential"),
    "scikit-learn": (
        lambda make, net: SklearnClassifier(LogisticRegression()),
        TypeError,
        "got ScikitlearnLogisticReg",
    ),
    "black box": (
        lambda make, net: BlackBoxClassifier(lambda x: x, (3, 8, 8), 4),
        TypeError,
        "got BlackBoxClassifier",
    ),
    "numpy preprocessor": (
        lambda make, net: make(net, preprocessing_defences=[SpatialSmoothing(channels_first=True)]),
        ValueError,
        "SpatialSmoothing works on numpy arrays only.*SpatialSmoothingPyTorch|PreprocessorPyTorch",
    ),
    "postprocessor": (
        lambda make, net: make(net, postprocessing_defences=[Rounded()]),
        ValueError,
        r"postprocessing defences \(Rounded\)",
    ),
}


@trainers
@pytest.mark.parametrize("make, error, message", CLASSIFIERS.values(), ids=CLASSIFIERS)
def test_classifiers(trainable, conv_model, trainer, make, error, message):
    with pytest.raises(error, match=message):
        trainer(make(trainable, conv_model), threat=THREAT)


class Outputs(nn.Module):
    """A network whose logits go through a function."""

    def __init__(self, function):
        super().__init__()
        self.linear, self.function = nn.Linear(3 * 8 * 8, 4), function

    def forward(self, x):
        return self.function(self.linear(x.flatten(1)))


OUTPUTS = {
    "another number of classes": (
        lambda z: z[:, :3],
        ValueError,
        r"must return logits \(8, 4\); it returns shape \(8, 3\)",
    ),
    "a tuple": (lambda z: (z, z), TypeError, "one tensor of logits .* returns tuple"),
    "NaN": (lambda z: z / 0 * 0, ValueError, "NaN or infinite logits for clean inputs"),
    "another input": (lambda z: z @ torch.ones(5, 4), ValueError, r"does not take x of shape \(N, 3, 8, 8\)"),
}


@pytest.mark.parametrize("function, error, message", OUTPUTS.values(), ids=OUTPUTS)
def test_what_the_network_returns(trainable, arrays, function, error, message):
    with pytest.raises(error, match=message):
        fitted(RobustTrainer, trainable(Outputs(function)), *arrays)


@trainers
def test_probabilities_instead_of_logits_warn_where_fit_was_called(trainable, arrays, trainer):
    made = trainer(trainable(Outputs(lambda z: z.softmax(1))), threat=THREAT, progress=False)
    with pytest.warns(ProbabilitiesWarning, match="take the softmax out of the model") as caught:
        made.fit(*arrays, nb_epochs=1)
    assert [w.filename for w in caught] == [__file__]


def test_logits_do_not_warn(trainable, arrays):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted(RobustTrainer, trainable(Outputs(lambda z: z)), *arrays)
