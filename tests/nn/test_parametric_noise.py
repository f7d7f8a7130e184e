"""Parametric noise: its values and gradients against numpy, what it acts on, and that it goes without a trace."""

import copy
import inspect
import re
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

from art_ext.losses import get_loss
from art_ext.nn import add_parametric_noise, remove_parametric_noise
from art_ext.nn.parametric_noise import GRANULARITIES, ParametricNoise, has_noise, noise_scales, parameter_groups


class Tied(nn.Module):
    """Two layers with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4, bias=False)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x).relu())


class Attention(nn.Module):
    def __init__(self, **sizes: int) -> None:
        super().__init__()
        self.attend = nn.MultiheadAttention(8, 2, batch_first=True, **sizes)
        self.other = sizes.get("kdim", 8)

    def forward(self, x: Tensor) -> Tensor:
        keys = x[..., : self.other]
        return self.attend(x, keys, keys)[0]


def vit() -> nn.Module:
    return timm.create_model("vit_tiny_patch16_224", img_size=16, patch_size=8, depth=1, num_classes=3)


NETS = {  # network, shape of an input, weights under noise
    "linear": (lambda: nn.Linear(4, 3), (4,), 1),
    "no bias": (lambda: nn.Linear(4, 3, bias=False), (4,), 1),
    "1-D": (lambda: nn.Conv1d(2, 3, 3), (2, 8), 1),
    "2-D, groups": (lambda: nn.Conv2d(4, 6, 3, groups=2), (4, 8, 8), 1),
    "3-D": (lambda: nn.Conv3d(1, 2, 3), (1, 4, 4, 4), 1),
    "BatchNorm": (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 3)),
        (3, 4, 4),
        2,
    ),
    "tied": (Tied, (4,), 2),
    "attention": (Attention, (5, 8), 2),
    "cross attention": (lambda: Attention(kdim=4, vdim=4), (5, 8), 4),
    "encoder": (lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), (5, 8), 4),
    "ViT": (vit, (3, 16, 16), 6),
    "weight norm": (lambda: parametrizations.weight_norm(nn.Linear(4, 3)), (4,), 1),
}


def net_of(key: str) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return NETS[key][0]().eval()


def inputs(key: str) -> Tensor:
    return torch.rand(2, *NETS[key][1], generator=torch.Generator().manual_seed(0))


def drawn(*shape: int) -> np.ndarray:
    torch.manual_seed(7)
    return torch.randn(*shape, dtype=torch.float64).numpy()


@pytest.mark.parametrize("granularity, shape", {"layer": (1, 1), "channel": (3, 1), "element": (3, 4)}.items())
def test_values_and_gradients_are_those_of_the_formula(granularity, shape):
    layer = nn.Linear(4, 3, bias=False).double()
    w, x, g = layer.weight.detach().clone().numpy(), torch.rand(5, 4).double(), torch.rand(5, 3).double()
    add_parametric_noise(layer, granularity)
    (alpha,) = noise_scales(layer).values()
    assert alpha.shape == shape
    with torch.no_grad():
        alpha.copy_(torch.linspace(0.1, 0.9, alpha.numel()).view(shape))
    eta = drawn(3, 4) * w.std(ddof=1)
    noisy = w + alpha.detach().numpy() * eta
    torch.manual_seed(7)
    out = layer(x)
    np.testing.assert_allclose(out.detach(), x.numpy() @ noisy.T, rtol=1e-12)
    out.backward(g)
    slope = g.numpy().T @ x.numpy()  # with respect to the noisy weight
    np.testing.assert_allclose(layer.parametrizations.weight.original.grad, slope, rtol=1e-12)  # none through std(w)
    summed = {"layer": (0, 1), "channel": (1,), "element": ()}[granularity]
    np.testing.assert_allclose(alpha.grad, (slope * eta).sum(summed, keepdims=True), rtol=1e-12)


def test_spread_of_the_noise():
    layer = nn.Conv2d(8, 4, 3)
    std = float(layer.weight.detach().std())
    add_parametric_noise(layer, "channel")
    with torch.no_grad():
        noise_scales(layer)["weight"][:, 0, 0, 0] = torch.tensor([0.1, 0.25, -0.5, 1.0])  # α may become negative
        draws = torch.stack([layer.weight for _ in range(500)]) - layer.parametrizations.weight.original
    assert draws.std((0, 2, 3, 4)).tolist() == pytest.approx([0.1 * std, 0.25 * std, 0.5 * std, std], rel=0.02)
    assert float(draws.mean()) == pytest.approx(0, abs=0.01 * std)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("key", NETS)
def test_fresh_in_each_pass_and_repeatable_by_the_global_seed(key, training):
    net, x = net_of(key), inputs(key)
    for dropout in (m for m in net.modules() if isinstance(m, nn.Dropout)):
        dropout.p = 0.0
    state = torch.get_rng_state()
    add_parametric_noise(net.train(training))
    assert torch.equal(state, torch.get_rng_state())
    with torch.no_grad():  # where torch has fast paths
        torch.manual_seed(0)
        one, two = net(x), net(x)
        torch.manual_seed(0)
        assert torch.equal(net(x), one)
    assert not torch.equal(one, two)


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("key", NETS)
def test_every_size_is_learnt_and_every_weight_still_is(key, granularity):
    net = net_of(key)
    weights = list(net.parameters())
    add_parametric_noise(net, granularity)
    assert len(noise_scales(net)) == NETS[key][2]
    assert {id(p) for p in weights} | {id(p) for p in noise_scales(net).values()} == {id(p) for p in net.parameters()}
    net(inputs(key)).square().sum().backward()
    assert all(bool(p.grad.any()) for p in noise_scales(net).values())
    assert all(p.grad is not None for p in weights)


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("key", NETS)
def test_removal_leaves_no_trace(key, granularity):
    net, x = net_of(key), inputs(key)

    def traits() -> list[tuple]:
        return [(name, id(m), type(m), list(m.__dict__), list(m._parameters)) for name, m in net.named_modules()]

    before, objects, expected = traits(), dict(net.named_parameters(remove_duplicate=False)), net(x)
    state = copy.deepcopy(net.state_dict())
    add_parametric_noise(net, granularity)
    assert has_noise(net.state_dict())
    remove_parametric_noise(net)
    assert traits() == before
    assert not has_noise(net.state_dict())
    assert list(net.state_dict()) == list(state)
    assert all(torch.equal(net.state_dict()[name], value) for name, value in state.items())
    now = dict(net.named_parameters(remove_duplicate=False))
    assert {name: id(p) for name, p in now.items()} == {name: id(p) for name, p in objects.items()}
    assert torch.equal(net(x), expected)
    add_parametric_noise(net, granularity)  # once more is no twice


class Doubled(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return 2 * weight


def test_what_others_put_on_top_stays():
    net = nn.Linear(4, 3)
    weight = net.weight.detach().clone()
    add_parametric_noise(net)
    parametrize.register_parametrization(net, "weight", Doubled(), unsafe=True)
    assert not torch.equal(net.weight, net.weight)
    remove_parametric_noise(net)
    assert torch.equal(net.weight, 2 * weight)


def test_a_single_weight_has_no_spread():
    layer = nn.Linear(1, 1)
    expected = layer.weight.item()
    add_parametric_noise(layer)
    assert layer.weight.item() == expected


def test_only_the_layers_that_mix_have_noise():
    net = nn.Sequential(nn.ConvTranspose2d(3, 3, 2), nn.Embedding(2, 3), nn.LayerNorm(3), nn.PReLU(), nn.Linear(3, 2))
    add_parametric_noise(net)
    assert list(noise_scales(net)) == ["4.weight"]


def test_nothing_waits_for_the_device(conv_model):
    add_parametric_noise(conv_model)
    on_meta = copy.deepcopy(conv_model).to("meta")  # a number from there is an error
    assert on_meta(torch.empty(2, 3, 8, 8, device="meta")).shape == (2, 4)


def test_one_graph_and_fresh_noise_for_the_compiler(conv_model, images):
    add_parametric_noise(conv_model, "channel")
    compiled = torch.compile(conv_model, backend="eager", fullgraph=True)
    torch.manual_seed(0)
    expected = conv_model(images[0])
    torch.manual_seed(0)
    assert torch.equal(compiled(images[0]), expected)
    assert not torch.equal(compiled(images[0]), expected)


def test_copies_have_their_own_sizes(conv_model):
    add_parametric_noise(conv_model)
    other = copy.deepcopy(conv_model)
    with torch.no_grad():
        noise_scales(other)["0.weight"].fill_(3.0)
    assert noise_scales(conv_model)["0.weight"].item() == 0.25
    remove_parametric_noise(other)
    assert not noise_scales(other)
    assert len(noise_scales(conv_model)) == 2


def test_precision_and_layout_of_the_weights():
    layer = nn.Conv2d(3, 4, 3).bfloat16().to(memory_format=torch.channels_last)
    add_parametric_noise(layer, "element")
    assert layer.weight.dtype == noise_scales(layer)["weight"].dtype == torch.bfloat16
    assert layer.weight.is_contiguous(memory_format=torch.channels_last)
    assert bool(layer.weight.isfinite().all())


def stepped(optimizer: torch.optim.Optimizer) -> None:
    """A step without any gradient but that of the weight decay."""
    for group in optimizer.param_groups:
        for p in group["params"]:
            p.grad = torch.zeros_like(p)
    optimizer.step()


@pytest.mark.parametrize("when", ["before", "after"])
def test_decay_spares_the_sizes_alone(conv_model, when):
    decaying = {"lr": 0.5, "weight_decay": 0.2}
    if when == "before":
        sgd = torch.optim.SGD(conv_model.parameters(), **decaying)
        add_parametric_noise(conv_model, "channel", optimizer=sgd)
    else:
        add_parametric_noise(conv_model, "channel")
        sgd = torch.optim.SGD(parameter_groups(conv_model), **decaying)
    sizes = {id(p) for p in noise_scales(conv_model).values()}
    before = {p: p.detach().clone() for p in conv_model.parameters()}
    assert sorted(id(p) for g in sgd.param_groups for p in g["params"]) == sorted(map(id, before))
    stepped(sgd)
    for p, value in before.items():
        torch.testing.assert_close(p.detach(), value if id(p) in sizes else 0.9 * value)


def test_removal_makes_the_optimizer_forget(conv_model):
    adam = torch.optim.Adam(conv_model.parameters())
    before = copy.deepcopy(adam.state_dict()["param_groups"])
    add_parametric_noise(conv_model, optimizer=adam)
    stepped(adam)
    remove_parametric_noise(conv_model, optimizer=adam)
    assert adam.state_dict()["param_groups"] == before
    assert set(adam.state) == set(conv_model.parameters())


def test_without_noise_there_is_one_group(conv_model):
    (group,) = parameter_groups(conv_model)
    assert list(map(id, group["params"])) == list(map(id, conv_model.parameters()))


def test_the_loss_of_the_paper_is_alp_without_its_pairing():
    z, z_adv, y = torch.randn(6, 4).double(), torch.randn(6, 4).double().requires_grad_(), torch.arange(6) % 4
    halves = (F.cross_entropy(z, y) + F.cross_entropy(z_adv, y)) / 2
    loss = get_loss("alp", weight=0)(z, z_adv, y)
    torch.testing.assert_close(loss, halves, rtol=1e-14, atol=0)
    torch.testing.assert_close(*(torch.autograd.grad(value, z_adv)[0] for value in (loss, halves)), rtol=1e-14, atol=0)


def noisy(net: nn.Module) -> nn.Module:
    add_parametric_noise(net)
    return net


def pruned() -> nn.Module:
    return nn.Sequential(prune.identity(nn.Linear(2, 2), "weight"))


BAD = {
    "no weights": (lambda: nn.BatchNorm2d(3), {}, "BatchNorm2d has no weights of linear layers, convolutions"),
    "twice": (lambda: noisy(nn.Linear(2, 2)), {}, "Linear has parametric noise already; remove_parametric_noise"),
    "granularity": (
        lambda: nn.Linear(2, 2),
        {"granularity": "chanel"},
        "unknown granularity 'chanel'; did you mean 'channel'",
    ),
    "alpha": (lambda: nn.Linear(2, 2), {"alpha": 0.0}, "alpha must be a finite number > 0; got 0.0"),
    "lazy": (lambda: nn.Sequential(nn.LazyLinear(2)), {}, "0.weight belongs to a lazy layer"),
    "hook": (pruned, {}, "0.weight is computed by a hook"),
}


@pytest.mark.parametrize("make, arguments, message", BAD.values(), ids=BAD)
def test_bad_input(make, arguments, message):
    net = make()
    before = list(net.state_dict()), type(net)
    with pytest.raises(ValueError, match=message):
        add_parametric_noise(net, **arguments)
    assert (list(net.state_dict()), type(net)) == before


def test_no_module():
    with pytest.raises(TypeError, match=r"model must be a torch.nn.Module; got str"):
        add_parametric_noise("resnet18")


def test_nothing_to_remove(conv_model):
    with pytest.raises(ValueError, match="Sequential has no parametric noise to remove"):
        remove_parametric_noise(conv_model)


@pytest.mark.parametrize(
    "options, message", [({"granularity": "layers"}, "did you mean 'layer'"), ({"alpha": -1}, "alpha")]
)
def test_the_module_itself_refuses_too(options, message):
    with pytest.raises(ValueError, match=message):
        ParametricNoise(torch.zeros(2, 2), **options)


PAGE = Path(__file__).resolve().parents[2] / "docs" / "defenses" / "parametric-noise.md"


def test_the_page_runs_and_names_every_argument():
    page = PAGE.read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        exec(block, {})
    told = re.findall(r"^\| `(\w+)` \|", page, flags=re.MULTILINE)
    assert told == [name for name in inspect.signature(add_parametric_noise).parameters if name != "model"]
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", page)
    assert [link for link in links if not (PAGE.parent / link).exists()] == []
