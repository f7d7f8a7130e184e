"""Evaluations that are interrupted, run out of time or memory, or are shared by several processes."""

import json
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from art.attacks.evasion import ProjectedGradientDescent
from torch import nn

from art_ext.attacks import apgd, square
from art_ext.evaluation import ATTACKS, SUITES, FunctionAttack, PGDAttack, RobustnessReport, Suite, evaluate
from art_ext.evaluation.memory import BatchHalvedWarning, in_halves
from art_ext.naming import described
from art_ext.threat import ThreatModel
from tests import forking

THREAT = ThreatModel("linf", 0.02)
LIST = [
    "fgsm",
    FunctionAttack(name="APGD-T", function=apgd, options={"steps": 8, "targets": 1}, confirms=True),
    FunctionAttack(name="Square", function=square, options={"queries": 20}, confirms=True),
]
CASCADE = Suite("short", lambda _: [ATTACKS["fgsm"], *LIST[1:]], cascade=True)


@pytest.fixture(autouse=True)
def _short_cascade(monkeypatch):
    monkeypatch.setitem(SUITES, "short", CASCADE)


class Noisy(nn.Module):
    """Two passes never agree."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x + 0.05 * torch.randn_like(x))


class Interrupted(PGDAttack):
    """Ctrl-C in its second batch."""

    def run(self, model, x, y, **kwargs):
        Interrupted.left -= 1
        if not Interrupted.left:
            raise KeyboardInterrupt
        return super().run(model, x, y, **kwargs)


def run(model, suite=LIST, threat=THREAT, **options) -> RobustnessReport:
    options = {"batch_size": 16, "progress": False, "indicators": False} | options
    return evaluate(model.net, model.x, model.y, threat=threat, suite=suite, **options)


def essence(report: RobustnessReport) -> dict:
    """A report without its seconds."""
    data = json.loads(report.to_json())
    data["attacks"] = {label: result | {"seconds": 0} for label, result in data["attacks"].items()}
    return data


# ---- resume ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("noisy", [False, True], ids=["deterministic", "randomised"])
@pytest.mark.parametrize("suite", ["short", LIST], ids=["cascade", "each on all"])
@pytest.mark.parametrize("lines", [1, 3, 6], ids="{} lines left".format)
def test_what_was_cut_off_goes_on_and_ends_in_the_same_report(linear, tmp_path, noisy, suite, lines):
    model = replace(linear, net=Noisy(linear.net)) if noisy else linear
    whole = run(model, suite)
    assert essence(run(model, suite, resume=tmp_path)) == essence(whole)
    journal = tmp_path / "journal-0.jsonl"
    kept = journal.read_text().splitlines(keepends=True)
    assert len(kept) > lines
    journal.write_text("".join(kept[:lines]) + kept[lines][:10])  # killed in the middle of a line
    assert essence(run(model, suite, resume=tmp_path)) == essence(whole)
    assert journal.read_text().count("\n") == len(kept)


def test_finished_batches_are_not_attacked_again(linear, tmp_path):
    Interrupted.left = 2
    attack = Interrupted(name="PGD", steps=3)
    with pytest.raises(KeyboardInterrupt):
        run(linear, [attack], resume=tmp_path)
    Interrupted.left = 0
    resumed = run(linear, [attack], resume=tmp_path)
    assert -Interrupted.left == 3  # of four batches the first was kept
    assert essence(resumed) == essence(run(linear, [attack]))


class Rounded(nn.Module):
    """Another function of the same weights."""

    def __init__(self, net: nn.Module, levels: int) -> None:
        super().__init__()
        self.net, self.levels = net, levels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net((x * self.levels).round() / self.levels)


def test_a_folder_of_another_defense_of_the_same_weights_is_refused(linear, tmp_path):
    run(replace(linear, net=Rounded(linear.net, 2)), ["fgsm"], resume=tmp_path)
    with pytest.raises(ValueError, match="holds another evaluation, with other clean predictions; give another"):
        run(replace(linear, net=Rounded(linear.net, 3)), ["fgsm"], resume=tmp_path)


def test_a_folder_that_cannot_be_written_is_no_failure_of_the_attack(linear, tmp_path, monkeypatch):
    def full(self, *args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("art_ext.evaluation.journal.asdict", full)
    with pytest.raises(OSError, match=r"resume: cannot write .*journal-0.jsonl: No space left on device"):
        run(linear, ["fgsm"], resume=tmp_path)


OTHERS = {
    "weights": lambda m: {"model": replace(m, net=nn.Sequential(nn.Flatten(), nn.Linear(48, 2)))},
    "x": lambda m: {"model": replace(m, x=1 - m.x)},
    "y": lambda m: {"model": replace(m, y=1 - m.y)},
    "threat": lambda m: {"threat": ThreatModel("l2", 0.02)},
    "suite": lambda m: {"suite": [PGDAttack(name="PGD", steps=6)]},
    "seed": lambda m: {"seed": 1},
    "batch_size": lambda m: {"batch_size": 8},
    "eot": lambda m: {"eot": 2},
    "sources": lambda m: {"sources": [m.net]},
}


@pytest.mark.parametrize("name, change", OTHERS.items(), ids=OTHERS)
def test_a_folder_of_another_evaluation_is_refused(linear, tmp_path, name, change):
    options = {"model": linear, "suite": [PGDAttack(name="PGD", steps=5)], "resume": tmp_path}
    run(**options)
    content = (tmp_path / "journal-0.jsonl").read_text()
    with pytest.raises(
        ValueError, match=rf"journal-0.jsonl holds another evaluation, with other .*{name}.*; give another"
    ):
        run(**(options | change(linear)))
    assert (tmp_path / "journal-0.jsonl").read_text() == content


def test_attacks_are_described_alike_in_every_process(linear):
    attack = PGDAttack(name="own", objective=lambda logits, y: -logits[:, 0])
    assert "0x" not in described(attack)
    art = ProjectedGradientDescent(linear.classifier, eps=0.1, max_iter=7, verbose=False)
    assert "'max_iter': 7" in described(art)


# ---- time -----------------------------------------------------------------------------------------------------------


def test_out_of_time_before_the_first_batch(linear):
    report = run(linear, time_budget=1e-9)
    assert {r.accuracy for r in report.attacks.values()} == {None}
    assert {r.n_missed for r in report.attacks.values()} == {55}
    assert np.isnan(report.robust_accuracy)
    assert report.verdict == "broken evaluation"
    assert "no time for 55 of 55" in str(report)


def test_out_of_time_in_the_middle_and_on_later(linear, tmp_path, monkeypatch):
    clock = iter([0.0] + [1.0] * 5 + [100.0] * 100)  # four batches of FGSM and one of PGD
    monkeypatch.setattr("art_ext.evaluation.session.monotonic", lambda: next(clock))
    options = {"suite": ["fgsm", "pgd-20"], "resume": tmp_path}
    short = run(linear, time_budget=50, **options)
    assert [r.n_missed for r in short.attacks.values()] == [0, 39]
    assert short.attacks["PGD-20"].accuracy > short.attacks["FGSM"].accuracy == short.robust_accuracy
    assert short.verdict == "suspect"
    assert "stopped by the time budget 0.35" in str(short)
    assert essence(run(linear, **options)) == essence(run(linear, suite=options["suite"]))


def test_time_that_ends_after_one_step_is_no_sign_of_masked_gradients(linear, monkeypatch):
    clock = iter([0.0] + [1.0] * 4 + [100.0] * 100)  # four batches of FGSM
    monkeypatch.setattr("art_ext.evaluation.session.monotonic", lambda: next(clock))
    report = run(linear, ["fgsm", "pgd-20"], time_budget=50, indicators=True)
    assert report.verdict == "suspect"
    assert [i.name for i in report.indicators if i.flagged] == ["stopped by the time budget"]


def test_what_there_was_no_time_for_is_not_more_robust_than_clean(linear, monkeypatch):
    clock = iter([0.0] + [1.0] + [100.0] * 100)
    monkeypatch.setattr("art_ext.evaluation.session.monotonic", lambda: next(clock))
    report = run(replace(linear, net=Noisy(linear.net)), ["pgd-20"], time_budget=50)
    assert report.robust_accuracy < report.clean_accuracy
    assert report.attacks["PGD-20"].n_missed > 0


def test_enough_time_changes_nothing(linear):
    assert essence(run(linear, time_budget=1000)) == essence(run(linear))


# ---- fewer examples -------------------------------------------------------------------------------------------------


def test_the_first_examples_only(linear):
    eps = torch.linspace(0.001, 0.05, 60)
    few = run(linear, n_examples=20, threat=ThreatModel("linf", eps))
    sliced = run(replace(linear, x=linear.x[:20], y=linear.y[:20]), threat=ThreatModel("linf", eps[:20]))
    assert essence(few) == essence(sliced)
    assert essence(run(linear, n_examples=1000)) == essence(run(linear))


# ---- memory ---------------------------------------------------------------------------------------------------------


class Small(nn.Module):
    """A machine with memory for eight examples."""

    def __init__(self, net: nn.Module, error: Exception) -> None:
        super().__init__()
        self.net, self.error = net, error

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if len(x) > 8:
            raise self.error
        return self.net(x)


ERRORS = {
    "CUDA": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    "CPU": RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"),
}


@pytest.mark.filterwarnings("ignore:a batch of 13")  # of the attacked ones; pytest.warns hands on what does not match
@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
def test_a_batch_larger_than_memory_is_done_in_halves(linear, error):
    with pytest.warns(BatchHalvedWarning, match="a batch of 14 does not fit into memory and is done in halves"):
        report = run(replace(linear, net=Small(linear.net, error)), ["fgsm"], batch_size=14)
    assert torch.equal(report.survivors, run(linear, ["fgsm"]).survivors)


@pytest.mark.filterwarnings("ignore:a batch of")
def test_indicators_need_no_more_memory_than_the_attacks(linear):
    report = run(replace(linear, net=Small(linear.net, ERRORS["CUDA"])), ["fgsm"], batch_size=8, indicators=True)
    assert report.verdict == "trusted"


@pytest.mark.filterwarnings("ignore:a batch of")
def test_draws_share_a_pass_only_where_they_fit(linear):
    noisy = replace(linear, net=Small(Noisy(linear.net), ERRORS["CUDA"]))
    report = run(noisy, ["pgd-20"], batch_size=32, n_examples=12)
    assert report.attacks["PGD-20"].error is None


def test_other_errors_and_single_examples_are_no_matter_of_memory():
    def broken(index):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    def full(index):
        raise ERRORS["CUDA"]

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(RuntimeError, match="mat1"):
            in_halves(broken, torch.arange(4))
    with pytest.warns(BatchHalvedWarning), pytest.raises(torch.OutOfMemoryError):
        in_halves(full, torch.arange(4))


# ---- several processes ----------------------------------------------------------------------------------------------

SHARED = """
import sys
import torch
from art_ext.evaluation import SUITES
from tests.evaluation.conftest import make_linear

from tests.evaluation.test_session import CASCADE, run

SUITES["short"] = CASCADE
report = run(make_linear(0), "short", indicators=True, resume=sys.argv[1])
report.to_json(f"{sys.argv[1]}/report-{torch.distributed.get_rank()}.json")
"""


@pytest.mark.slow
def test_two_processes_make_the_report_of_one(linear, tmp_path):
    script = tmp_path / "shared.py"
    script.write_text(SHARED)
    forking.processes(str(script), str(tmp_path)).check_returncode()
    alone = essence(run(linear, "short", indicators=True))
    for rank in (0, 1):
        assert essence(RobustnessReport.from_json(tmp_path / f"report-{rank}.json")) == alone
        assert len((tmp_path / f"journal-{rank}.jsonl").read_text().splitlines()) > 2
