"""Soft voting: the mean softmax to the last digit, over models, outcomes and draws, and its gradient."""

import copy
import pickle
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from art_ext.nn.interference import Interference
from art_ext.nn.noise import Noise
from art_ext.nn.soft_vote import Lazy, SoftVote

BACKGROUNDS = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def linear(seed: int, classes: int = 6) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(192, classes))


@pytest.fixture
def networks() -> list[nn.Module]:
    return [linear(0), linear(1), linear(2)]


def softmax(logits: Tensor) -> np.ndarray:
    z = logits.detach().double().numpy()
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def test_snapshots_vote_with_their_mean_probability(networks, images):
    x = images[0]
    mean = np.mean([softmax(net(x)) for net in networks], axis=0)
    np.testing.assert_allclose(softmax(SoftVote(networks)(x)), mean, rtol=1e-5)
    np.testing.assert_allclose(SoftVote(networks)(x).detach().exp(), mean, rtol=1e-5)
    first = mean[:, :4] / mean[:, :4].sum(1, keepdims=True)
    np.testing.assert_allclose(SoftVote(networks, classes=4)(x).detach().exp(), first, rtol=1e-5)


def test_one_network_without_a_transform_is_itself_up_to_a_constant(networks, images):
    torch.testing.assert_close(SoftVote(networks[0])(images[0]), networks[0](images[0]).log_softmax(1))


def test_all_backgrounds_vote(networks, images):
    transform = Interference(BACKGROUNDS, alpha=0.3, beta=0, gamma=0)
    vote = SoftVote(networks, transform=transform)
    assert vote.passes == 9
    inputs = [(images[0] + 0.3 * b).clamp(0, 1) for b in BACKGROUNDS]
    mean = np.mean([softmax(net(x)) for net in networks for x in inputs], axis=0)
    np.testing.assert_allclose(vote(images[0]).detach().exp(), mean, rtol=1e-5)
    assert torch.equal(vote(images[0]), vote(images[0]))  # nothing random is left
    single = SoftVote(networks, transform=transform, every_outcome=False)
    torch.manual_seed(0)
    assert single.passes == 3
    assert not torch.equal(single(images[0]), single(images[0]))


@pytest.mark.parametrize("chunk", [1, 3, 5, 100])
def test_draws_share_passes(networks, images, chunk):
    sizes = []
    networks[0].register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    vote = SoftVote(networks[0], transform=Noise(0.2), draws=5, chunk=chunk)
    torch.manual_seed(0)
    many = SoftVote(networks[0], transform=Noise(0.2), draws=400, chunk=chunk)(images[0]).detach().exp()
    sizes.clear()
    out = vote(images[0])
    assert out.shape == (16, 6)
    assert (len(sizes), sum(sizes)) == (-(-5 // chunk), 80)
    torch.manual_seed(1)
    other = SoftVote(networks[0], transform=Noise(0.2), draws=400)(images[0]).detach().exp()
    assert float((many - other).abs().max()) < 0.05  # the same mean


def test_huge_logits_and_vanishing_probabilities_stay_finite(images):
    net = linear(0)
    with torch.no_grad():
        net[1].weight.mul_(1e4)
    x = images[0].clone().requires_grad_()
    out = SoftVote([net, linear(1)], classes=4)(x)
    (grad,) = torch.autograd.grad(nn.functional.cross_entropy(out, images[1]), x)
    assert bool(out.isfinite().all())
    assert bool(grad.isfinite().all())


def test_the_gradient_is_that_of_finite_differences(images):
    transform = Interference(BACKGROUNDS, alpha=0.1, beta=0, gamma=0)
    vote = SoftVote([linear(0), linear(1)], transform=transform, classes=4).double()
    x = images[0][:2].double().mul(0.5).add(0.2).requires_grad_()
    assert torch.autograd.gradcheck(vote, x)


def test_recomputing_changes_neither_values_nor_gradients(networks, images):
    found = []
    for recompute in (False, True):
        vote = SoftVote(networks, transform=Interference(BACKGROUNDS), draws=3, chunk=2, recompute=recompute)
        x = images[0].clone().requires_grad_()
        torch.manual_seed(0)
        out = vote(x)
        found.append((out.detach(), torch.autograd.grad(out.logsumexp(0).sum() + out[:, 0].sum(), x)[0]))
    torch.testing.assert_close(found[1], found[0])


def test_networks_are_loaded_when_needed_and_once(images):
    loads = []

    def load(seed):
        loads.append(seed)
        return linear(seed)

    vote = SoftVote([partial(load, 0), partial(load, 1)])
    assert loads == []
    expected = SoftVote([linear(0), linear(1)])(images[0])
    assert torch.equal(vote(images[0]), expected.detach())
    assert torch.equal(vote(images[0]), expected.detach())
    assert loads == [0, 1]
    assert not any(p.requires_grad for p in vote.parameters())


def test_what_is_saved_is_whole(images):
    state = SoftVote([partial(linear, 0), linear(1)]).state_dict()
    assert sorted(state) == [
        "models.0.model.1.bias",
        "models.0.model.1.weight",
        "models.1.1.bias",
        "models.1.1.weight",
    ]
    assert torch.equal(state["models.0.model.1.weight"], linear(0)[1].weight)
    lazy = Lazy(partial(linear, 0))
    lazy.state_dict()
    assert torch.equal(lazy(images[0]), linear(0)(images[0]))


def test_a_vote_that_was_not_used_yet_is_pickled_whole(tmp_path, images):
    path = tmp_path / "weights.pt"
    torch.save(linear(0), path)
    vote = SoftVote([partial(torch.load, path, weights_only=False)])
    copied = copy.deepcopy(vote)
    assert not list(copied.parameters()) + list(vote.parameters())  # a copy waits, too
    again = pickle.loads(pickle.dumps(vote))
    path.unlink()
    assert torch.equal(again(images[0]), SoftVote(linear(0))(images[0]))
    assert torch.equal(copy.deepcopy(again)(images[0]), again(images[0]))


def test_half_precision_networks_vote_in_float32(images):
    net = linear(0).bfloat16()
    vote = SoftVote(net)
    assert vote(images[0].bfloat16()).dtype == torch.float32
    assert SoftVote(linear(0).double())(images[0].double()).dtype == torch.float64


BAD = {
    "nobody": (lambda: SoftVote([]), "models must be at least one network"),
    "draws": (lambda: SoftVote(linear(0), draws=0), "draws must be a whole number of at least 1; got 0"),
    "chunk": (lambda: SoftVote(linear(0), chunk=1.5), "chunk must be a whole number of at least 1; got 1.5"),
    "one class": (lambda: SoftVote(linear(0), classes=1), "classes must be a whole number of at least 2; got 1"),
    "classes": (
        lambda: SoftVote(linear(0), classes=7)(torch.rand(2, 3, 8, 8)),
        "classes must be at most the models' 6 outputs; got 7",
    ),
    "outputs": (
        lambda: SoftVote([linear(0), linear(1, classes=4)])(torch.rand(2, 3, 8, 8)),
        r"the models must have the same number of outputs; they have \[4, 6\]",
    ),
}


@pytest.mark.parametrize("call, message", BAD.values(), ids=BAD)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()
