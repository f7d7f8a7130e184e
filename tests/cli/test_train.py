"""``art-ext train``."""

from pathlib import Path

import pytest

from art_ext.cli import main
from art_ext.recipes import read_recipe, shipped
from art_ext.recipes.text import parse

QUICK = (
    "--data.name digits --data.train_examples 64 --data.validation_split 0.25 --trainer.steps 1 --trainer.nb_epochs 1"
)
RECIPE = "fashion-mnist-5k-piat"


def command(words: str) -> None:
    main(words.split())


def test_train_writes_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command(f"train {RECIPE} --output {tmp_path}/run {QUICK} --trainer.loss trades --threat.eps 4/255")
    recipe = read_recipe(tmp_path / "run" / "recipe.yaml")
    assert (recipe.trainer.loss, recipe.trainer.loss_options, recipe.threat.eps) == ("trades", {"beta": 6.0}, 4 / 255)
    assert (tmp_path / "run" / "last.safetensors").is_file()
    assert "last epoch 1" in capsys.readouterr().out


def test_a_run_is_not_written_over_but_resumed(tmp_path: Path) -> None:
    words = f"train {RECIPE} --output {tmp_path}/run {QUICK}"
    command(words)
    with pytest.raises(SystemExit, match="holds a run already"):
        command(words)
    command(words.replace("train ", "train --resume "))
    with pytest.raises(SystemExit, match=r"trainer.loss: 'nmse' there, 'mart' here"):
        command(f"{words} --resume --trainer.loss mart")


@pytest.mark.parametrize(
    "words, section, key, value",
    [
        ("--threat.eps=8/255", "threat", "eps", 8 / 255),
        ("--trainer.step_size 2/255", "trainer", "step_size", 2 / 255),
        ("--trainer.loss_options.mu 2", "trainer", "loss_options", {"mu": 2.0, "ce_on": "adv"}),
        ("--trainer.averaging null", "trainer", "averaging", None),
        ("--trainer.progress false", "trainer", "progress", False),
        ("--evaluation.suite [fgsm,pgd-20]", "evaluation", "suite", ["fgsm", "pgd-20"]),
        ("--model.options {width: 8}", "model", "options", {"width": 8}),
        ("--trainer.loss_options.mu 1/2", "trainer", "loss_options", {"mu": 0.5, "ce_on": "adv"}),
        ("--data.root 2024/05", "data", "root", "2024/05"),
        ("--data.root=2024/05", "data", "root", "2024/05"),
        ("--schedule.name=cosine --schedule.options {minimum: 1/4}", "schedule", "options", {"minimum": 0.25}),
    ],
)
def test_every_field_is_an_option(
    words: str, section: str, key: str, value: object, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["train", RECIPE, "--print_config", *words.split(maxsplit=2 if "schedule" in words else 1)])
    assert parse(capsys.readouterr().out)[section][key] == value


@pytest.mark.parametrize(
    "words, told",
    [
        ("--trainer.lss nmse", "did you mean '--trainer.loss'"),
        ("--trainer.steps 2.5", "trainer.steps"),
        ("--threat.eps wide", "threat.eps"),
        ("--threat.eps 8/0", "error: --threat.eps: division by zero in '8/0'"),
        ("--threat.eps=8/0", "error: --threat.eps: division by zero in '8/0'"),
        ("--trainer.checkpoint_dir x", "--trainer.checkpoint_dir"),
    ],
)
def test_wrong_options_are_told(words: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        command(f"train {RECIPE} {words}")
    assert stop.value.code == 2
    assert told in capsys.readouterr().err


INSIDE = {
    "loss": ("--trainer.loss_options.mu=abc", r"trainer.loss_options \{'mu': 'abc'.* has a value of a wrong type"),
    "averaging": (
        "--trainer.averaging=ema --trainer.averaging_options.decay=abc",
        r"trainer.averaging_options \{'decay'",
    ),
    "optimizer": ("--optimizer.options.eps=abc", r"optimizer.options \{'eps': 'abc'.* has a value of a wrong type"),
    "schedule": ("--schedule.name=multistep --schedule.options.milestones=[a]", r"schedule.options \{'milestones'"),
    "steps": ("--trainer.steps=0", "steps must be at least 1; got 0"),
}


@pytest.mark.parametrize("words, told", INSIDE.values(), ids=INSIDE)
def test_what_is_wrong_inside_options_is_told_before_any_work(words: str, told: str) -> None:
    with pytest.raises(SystemExit, match=told):
        command(f"train {RECIPE} --print_config {words}")


@pytest.mark.parametrize(
    "words, told",
    [
        ("train fashion-mnist-5k-pait", "did you mean 'fashion-mnist-5k-piat'"),
        ("train missing.yaml", "missing.yaml"),
        (f"train {RECIPE} --trainer.loss nmsee", "did you mean 'nmse'"),
        (f"train {RECIPE} --model.input_shape [3,32,32] --output {{}}/run", "model.input_shape"),
        (f"train {RECIPE} --data.name cifar100 --data.root {{}}/none --output {{}}/run", "cifar100"),
        (f"train {RECIPE} --output {{}}/file", "cannot be written"),
    ],
    ids=["name", "file", "loss", "shape", "data", "folder"],
)
def test_bad_input_is_told_in_a_line(words: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("taken")
    with pytest.raises(SystemExit, match=told):
        command(words.replace("{}", str(tmp_path)))


@pytest.mark.parametrize("stop, status", [(KeyboardInterrupt(), 130), (SystemExit(143), 143)], ids=["INT", "TERM"])
def test_a_signal_ends_with_the_command_that_goes_on(
    stop: BaseException,
    status: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def stopped(*args: object, **options: object) -> None:
        raise stop

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("art_ext.recipes.run.fit", stopped)
        with pytest.raises(SystemExit) as ended:
            command(f"train {RECIPE} --output {tmp_path}/run {QUICK} --trainer.loss mart")
    assert ended.value.code == status
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == f"art-ext train {tmp_path}/run/recipe.yaml --output {tmp_path}/run --resume goes on"
    command(last.removeprefix("art-ext ").removesuffix(" goes on"))
    assert read_recipe(tmp_path / "run" / "recipe.yaml").trainer.loss == "mart"


def test_a_signal_before_anything_was_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("art_ext.recipes.run.make_data", stopped)
    with pytest.raises(SystemExit):
        command(f"train {RECIPE} --output {tmp_path}/run {QUICK}")
    assert "nothing was begun yet" in capsys.readouterr().err


def test_recipes_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    command("list recipes")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(shipped())
