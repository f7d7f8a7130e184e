"""The folder of the study: what is written, and that it says what the numbers say."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from art_ext.reproduce import STUDIES, get_study
from art_ext.reproduce.piat_toy import Settings, judging, run, study
from art_ext.reproduce.piat_toy.claims import judged
from art_ext.reproduce.piat_toy.pictures import PICTURES
from art_ext.reproduce.piat_toy.planes import worst_change
from art_ext.reproduce.piat_toy.results import Results
from art_ext.reproduce.piat_toy.settings import METHODS
from art_ext.reproduce.piat_toy.text import page
from art_ext.reproduce.piat_toy.training import perceptron, train

PANELS = {"robust_accuracy.png": 4, "lambda.png": 3}  # the others have two


@pytest.fixture(scope="module")
def folder(results: Results, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("study") / "new"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study, "carry_out", lambda *_: results)
        text = run(path, results.settings, progress=False)
    assert text in (path / "README.md").read_text(encoding="utf-8")
    return path


def test_the_folder_holds_page_numbers_and_figures(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {"README.md", "results.json", *PICTURES}
    assert all((folder / name).read_bytes().startswith(b"\x89PNG") for name in PICTURES)


def test_all_numbers_are_written(folder: Path, results: Results) -> None:
    written = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    assert written == json.loads(json.dumps(results.to_dict()))
    assert (written["study"], written["command"]) == ("piat-toy", "art-ext reproduce piat-toy")
    assert written["settings"]["circles"]["radii"] == [1.0, 2.0]
    runs = [(run["mu"], run["lambda"], run["seed"]) for run in written["runs"]]
    assert runs == [(m.mu, "dynamic" if m.weight is None else m.weight, s) for m, s in results.settings.plan()]
    assert [run["robust"] for run in written["runs"]] == [list(run.robust) for run in results.runs]


def test_weights_behind_a_boundary_give_its_accuracies(folder: Path, small: Settings) -> None:
    written = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    x, y = judging.test_points(small, written["shown_seed"])
    for change in written["boundaries"].values():
        for stage in ("before", "after"):
            network = perceptron(small.width).eval()
            network.load_state_dict({name: torch.tensor(w) for name, w in change["weights"][stage].items()})
            robust = judging.held_by(network, x, y, small, written["shown_seed"])[1]
            assert robust.double().mean().item() == change[f"robust_{stage}"]


@pytest.mark.parametrize("name", ["PGD-AT", "PIAT"])
def test_the_worst_epoch_is_shown(name: str, small: Settings) -> None:
    change = worst_change(train(METHODS[name], 0, small), (0.5, 0.9, 0.1, 0.8, 0.8), small, 0)
    assert change.epoch == 2
    assert list(change.stages) == (["before", "after"] if name == "PGD-AT" else ["before", "trained", "after"])


@pytest.mark.parametrize("name", PICTURES)
def test_figures_have_their_panels_and_a_caption(name: str, results: Results) -> None:
    figure = PICTURES[name].draw(results)
    assert len(figure.axes) == PANELS.get(name, 2)
    assert all(axes.has_data() for axes in figure.axes)
    assert PICTURES[name].caption(results).endswith(".")


def test_surfaces_have_one_scale(results: Results) -> None:
    limits = {axes.get_zlim() for axes in PICTURES["landscape_weights.png"].draw(results).axes}  # type: ignore[attr-defined]
    assert len(limits) == 1


def test_the_page_shows_all_figures_and_the_verdicts_of_the_claims(folder: Path, results: Results) -> None:
    text = page(results)
    assert re.findall(r"!\[.*?\]\((.*?)\)", text) == list(PICTURES)
    cells = re.findall(r"p [=<] [\d.]+: \*\*(\w+)\*\*", text)
    assert sorted(cells) == sorted(claim.verdict for claim in results.claims)


def test_other_numbers_make_other_verdicts(results: Results) -> None:
    """With the rôles of PIAT and its baseline exchanged, what held is contradicted."""
    other = {METHODS[a]: METHODS[b] for a, b in (("PIAT", "PGD-AT"), ("PGD-AT", "PIAT"))}
    six = [replace(r, seed=seed) for seed in range(6) for r in results.runs if r.seed == 0]
    apart = [replace(r, robust=(0.9, 0.5, 0.9) if r.method == METHODS["PGD-AT"] else (0.5, 0.9, 0.9)) for r in six]
    exchanged = [replace(r, method=other.get(r.method, r.method)) for r in apart]
    texts = [page(replace(results, runs=runs, claims=judged(runs, tail=1))) for runs in (apart, exchanged)]
    told = [re.findall(r"PIAT beside PGD-AT: robust accuracy oscillates less: \*\*(\w+)\*\*", text) for text in texts]
    assert told == [["holds"], ["contradicted"]]


def test_progress_is_shown(
    small: Settings, coarse: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("art_ext.reproduce.piat_toy.study.PICTURES", {})
    run(tmp_path, replace(small, epochs=1), progress=True)
    assert f"{len(small.plan())}/{len(small.plan())} step" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_told_before_the_work(tmp_path: Path, small: Settings) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(OSError, match="taken"):
        run(tmp_path / "taken", small, progress=True)


def test_studies_have_names_and_the_seeds_of_their_settings() -> None:
    assert all(name == study.name for name, study in STUDIES.items())
    assert get_study("piat-toy").seeds == Settings().seeds
    with pytest.raises(ValueError, match="did you mean 'piat-toy'"):
        get_study("piat_toy")
