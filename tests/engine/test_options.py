"""Options of the engine: refused before any work, by name, with what was seen and what is allowed."""

from dataclasses import FrozenInstanceError

import pytest

from art_ext.engine import EngineOptions

BAD = {
    "precision": ({"precision": "fp16"}, ValueError, "precision must be one of auto, fp32, bf16; got 'fp16'"),
    "no clipping is None": ({"grad_clip": 0}, ValueError, "grad_clip must be > 0, or None for no clipping; got 0"),
    "NaN clipping": ({"grad_clip": float("nan")}, ValueError, "grad_clip must be > 0, .* got nan"),
    "augmentation": (
        {"augment": "crop_flip"},
        ValueError,
        "unknown augmentation 'crop_flip'; did you mean 'crop-flip'",
    ),
    "steps": ({"validation_steps": 0}, ValueError, "validation_steps must be a whole number of at least 1; got 0"),
    "half steps": ({"validation_steps": 2.5}, ValueError, "validation_steps must be a whole number .* got 2.5"),
    "patience": ({"early_stopping": 0}, ValueError, "early_stopping must be a whole number of at least 1; got 0"),
    "half an epoch": ({"early_stopping": 0.5}, ValueError, "early_stopping must be a whole number .* got 0.5"),
    "seed": ({"seed": -1}, ValueError, r"seed must be a whole number in 0\.\.4294967295; got -1"),
    "half a seed": ({"seed": 0.5}, ValueError, "seed must be a whole number .* got 0.5"),
    "near name": ({"checkpoint_dirs": "x"}, TypeError, "unknown option 'checkpoint_dirs'; did you mean '.*_dir'"),
    "no near name": ({"beta": 6}, TypeError, "unknown option 'beta'; known: precision, compile, .*progress"),
}


@pytest.mark.parametrize("options, error, message", BAD.values(), ids=BAD)
def test_bad_options(options, error, message):
    with pytest.raises(error, match=message):
        EngineOptions.of(options)


ENDS = {  # early stopping, restore_best -> ends with the best epoch
    "plain": (None, None, False),
    "early stopping": (3, None, True),
    "asked for": (None, True, True),
    "early stopping, last wanted": (3, False, False),
}


@pytest.mark.parametrize("early_stopping, restore_best, best", ENDS.values(), ids=ENDS)
def test_which_weights_a_run_ends_with(early_stopping, restore_best, best):
    assert EngineOptions(early_stopping=early_stopping, restore_best=restore_best).ends_with_best is best


def test_options_stay_as_they_were_checked():
    options = EngineOptions.of({"precision": "fp32", "seed": 3})
    assert (options.precision, options.seed, options.compile) == ("fp32", 3, False)
    with pytest.raises(FrozenInstanceError):
        options.precision = "fp16"
