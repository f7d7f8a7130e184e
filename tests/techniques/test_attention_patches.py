"""A&P in training: its schedule, what it does to the attack, what it refuses."""

import copy
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import nn

from art_ext.attacks import InnerPGD, MixedAdversaries
from art_ext.engine import History
from art_ext.processes import Processes
from art_ext.technique import Technique
from art_ext.techniques import VIT, AttentionAndPatches, AttentionDropping, EpsWarmUp, PatchMasking, with_vit
from art_ext.threat import ThreatModel
from art_ext.trainers import PIATTrainer, RobustTrainer

THREAT = ThreatModel("linf", 8 / 255)
QUIET: dict[str, Any] = {"precision": "fp32", "progress": False, "steps": 2, "step_size": 4 / 255}
NAMES = ["ard", "prm", "a&p"]
SIZES = {"img_size": 8, "patch_size": 4, "embed_dim": 16, "num_classes": 4, "num_heads": 2, "depth": 2}


@pytest.fixture(scope="module")
def vit() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = timm.create_model("vit_tiny_patch16_224", **SIZES)
        nn.init.normal_(net.head.weight)
    return net


@pytest.fixture
def make_classifier(trainable, vit):
    """Makes classifiers of the same untrained ViT of 3×8×8 images."""
    return lambda **options: trainable(copy.deepcopy(vit), **options)


@pytest.fixture
def data() -> tuple[np.ndarray, np.ndarray]:
    return np.random.default_rng(0).random((16, 3, 8, 8), np.float32), np.arange(16) % 4


def train(classifier, data, techniques, *, nb_epochs=1, trainer=RobustTrainer, **options) -> RobustTrainer:
    made = trainer(classifier, threat=THREAT, techniques=techniques, **(QUIET | options))
    made.fit(*data, nb_epochs=nb_epochs, batch_size=8, shuffle=False)
    return made


class Watch(Technique):
    """Writes down the perturbations of each batch, and how many hooks there are outside of the attack."""

    name = "watch"

    def __init__(self) -> None:
        self.found: list[torch.Tensor] = []

    def after_loss(self, x, x_adv, logits_adv, y):
        assert not any(m._forward_hooks for m in self.network.modules())
        self.found.append((x_adv - x).detach())


@pytest.mark.parametrize("name", NAMES)
def test_q_grows_with_the_batches_and_stays_at_one(make_classifier, data, name):
    technique = {"ard": AttentionDropping, "prm": PatchMasking, "a&p": AttentionAndPatches}[name](warm_up=2)
    assert technique.name == name
    found, before = [], technique.before_batch
    technique.before_batch = lambda done, epochs: (before(done, epochs), found.append(technique.keep))
    trainer = train(make_classifier(), data, technique, nb_epochs=3)
    assert found == [0, 0.25, 0.5, 0.75, 1, 1]
    assert trainer.history.column("keep") == [0.25, 0.75, 1]


def test_at_the_start_there_is_no_attack_and_at_the_end_the_whole(make_classifier, data):
    """Without weight steps between: q = 0 leaves a class token no gradient, q = 1 is plain PGD with the same draws."""
    watch, plain = Watch(), Watch()
    train(make_classifier(lr=0.0), data, [AttentionAndPatches(warm_up=1), watch], nb_epochs=2)
    train(make_classifier(lr=0.0), data, plain, nb_epochs=2)
    assert not watch.found[0].any()
    assert watch.found[1].any()
    assert not torch.equal(watch.found[1], plain.found[1])
    assert torch.equal(watch.found[2], plain.found[2])
    assert torch.equal(watch.found[3], plain.found[3])


def test_masking_alone_leaves_the_last_step(make_classifier, data):
    """At q = 0 each step starts from the clean image, so that only the last one is left of the attack."""
    watch = Watch()
    train(make_classifier(lr=0.0), data, [PatchMasking(warm_up=1), watch])
    x = torch.from_numpy(data[0][:8])
    inside = ((x > 4 / 255) & (x < 1 - 4 / 255)).expand_as(watch.found[0])
    torch.testing.assert_close(watch.found[0].abs()[inside], torch.full((int(inside.sum()),), 4 / 255))


@pytest.mark.parametrize("name", VIT)
@pytest.mark.parametrize("trainer", [RobustTrainer, PIATTrainer])
def test_the_keyword_is_the_technique(make_classifier, data, name, trainer):
    by_keyword = train(make_classifier(), data, (), trainer=trainer, vit=name)
    by_name = train(make_classifier(), data, [name], trainer=trainer)
    without = train(make_classifier(), data, (), trainer=trainer)
    assert by_keyword.history.column("loss") == by_name.history.column("loss") != without.history.column("loss")


def test_the_keyword_goes_on_top():
    assert with_vit((), None) == ()
    assert with_vit(["awp"], "prm") == ["awp", "prm"]
    watch = Watch()
    assert with_vit(watch, "ard") == [watch, "ard"]
    assert set(VIT) == {*NAMES, EpsWarmUp.name}


def test_decisions_are_those_of_every_process(make_classifier):
    """All processes hold the same generator, on the CPU."""
    one, other = AttentionAndPatches(), AttentionAndPatches()
    one.start(nn.Identity(), 4, 7)
    other.start(nn.Identity(), 4, 7, Processes(1, 2))
    assert torch.equal(one.random.get_state(), other.random.get_state())
    assert one.random.device.type == "cpu"


def test_a_resumed_run_is_the_whole_run(monkeypatch, make_classifier, data, tmp_path):
    monkeypatch.setattr(History, "plot", lambda self, path: None)
    name = "a&p"
    whole = train(make_classifier(), data, name, nb_epochs=2, checkpoint_dir=tmp_path / "whole")
    train(make_classifier(), data, name, nb_epochs=1, checkpoint_dir=tmp_path / "parts")
    second = RobustTrainer(
        make_classifier(), threat=THREAT, techniques=name, **QUIET, checkpoint_dir=tmp_path / "parts"
    )
    second.resume()
    second.fit(*data, nb_epochs=2, batch_size=8, shuffle=False)
    assert second.history.column("loss") == whole.history.column("loss")
    weights = (t.model.state_dict().values() for t in (second, whole))
    assert all(torch.equal(a, b) for a, b in zip(*weights, strict=True))


def test_in_bf16_the_twin_of_the_network_is_hooked(make_classifier, data):
    """The attack sees a copy with weights in bf16; at q = 0 it does not move from its random start there either."""
    watches = {precision: Watch() for precision in ("fp32", "bf16")}
    for precision, watch in watches.items():
        trainer = train(make_classifier(lr=0.0), data, [AttentionDropping(warm_up=1), watch], precision=precision)
    assert trainer._run is not None
    assert trainer._run.twin is not None
    assert torch.equal(watches["bf16"].found[0], watches["fp32"].found[0])
    assert not torch.equal(watches["bf16"].found[1], watches["fp32"].found[1])
    plain = Watch()
    train(make_classifier(lr=0.0), data, plain, precision="bf16")
    assert not torch.equal(watches["bf16"].found[0], plain.found[0])
    assert not any(m._forward_hooks for m in trainer._run.twin.model.modules())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_compiled_networks_rest_while_attention_is_dropped(monkeypatch, make_classifier, data, precision):
    calls: list[str] = []

    def compiled(model, dynamic):
        return lambda x: calls.append("compiled") or model(x)

    monkeypatch.setattr(torch, "compile", compiled)
    train(make_classifier(), data, AttentionDropping(warm_up=1), nb_epochs=2, compile=True, precision=precision)
    assert len(calls) == 2 + 2 * (2 + 1)  # the loss in the first epoch, then attack and loss


def test_adversaries_of_several_norms_are_masked_too(make_classifier, data):
    watch, plain = Watch(), Watch()
    options = {"attack": MixedAdversaries((THREAT, ThreatModel("l2", 0.5)), steps=2), "steps": None, "step_size": None}
    train(make_classifier(lr=0.0), data, [AttentionAndPatches(warm_up=1), watch], **options)
    train(make_classifier(lr=0.0), data, plain, **options)
    assert not watch.found[0].any()
    assert plain.found[0].any()


def test_an_attack_of_the_users_own_meets_the_hooks_too(make_classifier, data):
    gradients = []

    def attack(model, x, y):
        leaf = x.clone().requires_grad_()
        gradients.append(torch.autograd.grad(model(leaf).sum(), leaf)[0])
        return x

    train(make_classifier(), data, AttentionDropping(warm_up=1), nb_epochs=2, attack=attack)
    assert [bool(g.any()) for g in gradients] == [False, True, True, True]


@pytest.mark.parametrize(
    "technique, options, message",
    [
        pytest.param(
            "prm", {"attack": lambda model, x, y: x}, "'prm' masks .* leave attack out for PGD, or use 'ard'", id="prm"
        ),
        pytest.param("a&p", {"attack": lambda model, x, y: x}, "'a&p' masks .* leave attack out", id="a&p"),
        pytest.param(["a&p", "ard"], {}, "'a&p' does not go with 'ard': it is a part of it", id="a part of it"),
        pytest.param(["a&p", "free"], {}, "does not go with", id="free"),
        pytest.param((), {"vit": "ap"}, r"unknown vit \(or None\) 'ap'; did you mean 'a&p'", id="keyword"),
        pytest.param(
            (), {"vit": "awp"}, "unknown vit .* known: a&p, ard, eps-warm-up, prm", id="no technique for ViTs"
        ),
        pytest.param(["ard"], {"vit": "ard"}, "given twice", id="twice"),
    ],
)
def test_refused(make_classifier, technique, options, message):
    with pytest.raises(ValueError, match=message):
        RobustTrainer(make_classifier(), threat=THREAT, techniques=technique, **QUIET, **options)


@pytest.mark.parametrize("name", NAMES)
def test_a_network_that_is_no_vit_is_refused_before_any_work(trainable, conv_model, name):
    with pytest.raises(ValueError, match="leave vit and the techniques"):
        RobustTrainer(trainable(conv_model), threat=THREAT, vit=name, **QUIET)


def test_patches_must_tile_the_images(trainable):
    net = timm.create_model("vit_tiny_patch16_224", **(SIZES | {"img_size": 10, "dynamic_img_pad": True}))
    classifier = trainable(net, (3, 10, 10))
    with pytest.raises(ValueError, match=r"4 × 4 pixels do not tile inputs of shape \(3, 10, 10\)"):
        RobustTrainer(classifier, threat=THREAT, vit="prm", **QUIET)
    RobustTrainer(classifier, threat=THREAT, vit="ard", **QUIET)


@pytest.mark.parametrize("make", [AttentionDropping, PatchMasking, AttentionAndPatches, EpsWarmUp])
@pytest.mark.parametrize("warm_up", [0, -1, float("nan"), float("inf"), True])
def test_a_warm_up_that_is_none(make, warm_up):
    with pytest.raises(ValueError, match="warm_up must be > 0"):
        make(warm_up=warm_up)


# The baseline


@pytest.mark.parametrize(
    "done, share", [(0, 0.01), (1, 0.109), (5, 0.505), (9.99, 0.99901), (10, 1.0), (30, 1.0)], ids=str
)
def test_radius_and_step_grow_together(done, share):
    technique = EpsWarmUp(warm_up=10, start=0.01)
    technique.before_batch(done, 40)
    changed = technique.attack_for(InnerPGD(THREAT, 10, 2 / 255), torch.zeros(1), torch.zeros(1))
    assert changed.threat.eps == pytest.approx(share * 8 / 255)
    assert changed.step_size == pytest.approx(share * 2 / 255)
    by_default = technique.attack_for(InnerPGD(THREAT, 10), torch.zeros(1), torch.zeros(1))
    assert by_default.step_size is None
    radii = technique.attack_for(InnerPGD(THREAT.with_eps([0.1, 0.2])), torch.zeros(1), torch.zeros(1)).threat.eps
    torch.testing.assert_close(radii, share * torch.tensor([0.1, 0.2]))


def test_perturbations_of_the_warm_up(make_classifier, data):
    watch = Watch()
    trainer = train(make_classifier(), data, [EpsWarmUp(warm_up=1, start=0.5), watch], nb_epochs=2)
    sizes = [delta.abs().max().item() * 255 / 8 for delta in watch.found]
    assert sizes == pytest.approx([0.5, 0.75, 1, 1], rel=1e-4)
    assert trainer.history.column("eps_share") == [0.75, 1]


@pytest.mark.parametrize("start", [0, -0.1, 1.1, float("nan")])
def test_a_start_that_is_none(start):
    with pytest.raises(ValueError, match=r"start must be in \(0, 1\]"):
        EpsWarmUp(start=start)


def test_a_radius_that_is_not_ours_to_change(make_classifier):
    with pytest.raises(ValueError, match="'eps-warm-up' changes the radius of the trainer's own PGD"):
        RobustTrainer(make_classifier(), threat=THREAT, vit="eps-warm-up", attack=lambda model, x, y: x, **QUIET)
