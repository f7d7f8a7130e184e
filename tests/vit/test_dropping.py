"""Attention dropping: the gradient it gives, in closed form; the forward it leaves alone; nothing it leaves behind."""

from contextlib import ExitStack

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.autograd.functional import jacobian
from torch.func import functional_call

from art_ext.attacks import pgd
from art_ext.engine.precision import InPrecision
from art_ext.threat import ThreatModel
from art_ext.vit import attention_branches, attention_dropping

from .conftest import NETWORKS


def gradient(net: nn.Module, x: Tensor) -> Tensor:
    leaf = x.clone().requires_grad_()
    logits = net(leaf)
    (found,) = torch.autograd.grad(logits.square().sum(), leaf)
    return found


def draws(seed: int, blocks: int, keep: float) -> list[bool]:
    """Which blocks a backward pass keeps: the last one draws first."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand((), generator=generator).item() < keep for _ in range(blocks)][::-1]


def detached(net: nn.Module, kept: list[bool]) -> ExitStack:
    """The reference: attention through which autograd knows no way."""

    def cut(module, args, out):
        return (out[0].detach(), *out[1:]) if isinstance(out, tuple) else out.detach()

    stack = ExitStack()
    for branch, passes in zip(attention_branches(net), kept, strict=True):
        if not passes:
            stack.callback(branch.register_forward_hook(cut).remove)
    return stack


def hooks(net: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._backward_hooks) + len(m._forward_pre_hooks) for m in net.modules())


@pytest.mark.parametrize("name", NETWORKS)
def test_the_attention_of_every_block_is_found(make_vit, name):
    assert len(attention_branches(make_vit(name))) == 3


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("seed", range(3))
def test_gradients_are_those_without_the_dropped_attention(make_vit, make_images, name, seed):
    net, x = make_vit(name), make_images(name)
    kept = draws(seed, 3, 0.5)
    with detached(net, kept):
        expected = gradient(net, x)
    with attention_dropping(net, keep=0.5, generator=torch.Generator().manual_seed(seed)):
        found = gradient(net, x)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    assert torch.equal(found, gradient(net, x)) == all(kept)


@pytest.mark.parametrize("seed, passes", [(1, (True, False)), (0, (False, True)), (4, (False, False))])
def test_the_jacobian_is_that_of_the_paper(make_vit, seed, passes):
    """(I + J_mlp) (I + γ J_attn) for each block, γ as drawn."""
    blocks = make_vit().blocks[:2]
    tokens = torch.randn(1, 5, 16, generator=torch.Generator().manual_seed(4)).double()
    assert draws(seed, 2, 0.5) == list(passes)

    def matrix(function, at):
        return jacobian(function, at).reshape(80, 80)

    expected, h = torch.eye(80).double(), tokens
    for block, passed in zip(blocks, passes, strict=True):
        attended = h + block.attn(block.norm1(h))
        of_attention = matrix(lambda t, b=block: b.attn(b.norm1(t)), h)
        of_mlp = matrix(lambda t, b=block: b.mlp(b.norm2(t)), attended)
        expected = (torch.eye(80) + of_mlp) @ (torch.eye(80) + passed * of_attention) @ expected
        h = attended + block.mlp(block.norm2(attended))
    rows = []
    for i in range(80):  # each row is a backward pass of its own, with the same draws
        leaf = tokens.clone().requires_grad_()
        with attention_dropping(blocks, keep=0.5, generator=torch.Generator().manual_seed(seed)):
            rows.append(torch.autograd.grad(blocks(leaf).flatten()[i], leaf)[0].flatten())
    torch.testing.assert_close(torch.stack(rows), expected.detach(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("grad", [True, False])
def test_the_forward_is_the_same_bit_for_bit(make_vit, make_images, name, grad):
    net, x = make_vit(name), make_images(name)
    with torch.set_grad_enabled(grad):
        expected = net(x)
        with attention_dropping(net, keep=0.3):
            assert torch.equal(net(x), expected)


@pytest.mark.parametrize(
    "name, sees",
    [("vit", False), ("deit-distilled", False), ("torchvision", False), ("beit", True), ("swin", True)],
)
def test_at_zero_a_class_token_sees_no_image_and_a_mean_of_all_tokens_does(make_vit, make_images, name, sees):
    net, x = make_vit(name), make_images(name)
    with attention_dropping(net, keep=0.0):
        assert bool(gradient(net, x).any()) == sees


@pytest.mark.parametrize("name", NETWORKS)
def test_at_one_nothing_is_dropped(make_vit, make_images, name):
    net, x = make_vit(name), make_images(name)
    expected = gradient(net, x)
    with attention_dropping(net, keep=1.0):
        torch.testing.assert_close(gradient(net, x), expected, rtol=1e-12, atol=0)


def test_each_backward_draws_anew_and_each_forward_nothing(make_vit, make_images):
    net, x, generator = make_vit(), make_images(), torch.Generator().manual_seed(0)
    with attention_dropping(net, keep=0.5, generator=generator), torch.no_grad():
        net(x)
    assert torch.equal(generator.get_state(), torch.Generator().manual_seed(0).get_state())
    with attention_dropping(net, keep=0.5, generator=generator):
        found = {tuple(gradient(net, x).flatten().tolist()) for _ in range(30)}
    assert len(found) == 2**3


def test_how_often_attention_is_kept(make_vit, make_images):
    net, x = make_vit(), make_images()[:1]
    attention = net.blocks[2].attn
    passes = []
    hook = attention.qkv.register_full_backward_hook(lambda m, i, o: passes.append(o[0] is not None))
    with attention_dropping(net, keep=0.25, generator=torch.Generator().manual_seed(0)):
        for _ in range(200):
            gradient(net, x)
    hook.remove()
    assert abs(sum(passes) / 200 - 0.25) < 4 * (0.25 * 0.75 / 200) ** 0.5


def test_what_is_dropped_costs_no_backward(make_vit, make_images):
    net, x, seen = make_vit(), make_images(), []

    class Watched(torch.autograd.Function):
        @staticmethod
        def forward(ctx, t):
            ctx.set_materialize_grads(False)
            return t.view_as(t)

        @staticmethod
        def backward(ctx, grad):
            seen.append(grad is not None)
            return grad

    hook = net.blocks[0].attn.qkv.register_forward_hook(lambda m, a, out: Watched.apply(out))
    for keep in (0.0, 1.0):
        with attention_dropping(net, keep=keep):
            gradient(net, x)
    hook.remove()
    assert seen == [False, True]


def test_inside_wrappers_and_pgd(make_vit, make_images):
    net, x = make_vit("vit"), make_images()
    wrapped = InPrecision(net, torch.device("cpu"), "fp32")
    with attention_dropping(wrapped, keep=0.0) as given:
        assert given is wrapped
        x_adv = pgd(wrapped, x, torch.tensor([0, 1]), threat=ThreatModel("linf", 0.1), random_start=False, steps=2)
    assert torch.equal(x_adv, x)


def test_nothing_stays_behind_also_after_an_error(make_vit, make_images):
    net, x = make_vit(), make_images()
    net.blocks[0].train()
    modes, flags = [m.training for m in net.modules()], [p.requires_grad for p in net.parameters()]
    with pytest.raises(RuntimeError, match="channels"), attention_dropping(net, keep=0.5):
        net(x[:, :1])
    assert hooks(net) == 0
    assert [m.training for m in net.modules()] == modes
    assert [p.requires_grad for p in net.parameters()] == flags
    assert all(p.grad is None for p in net.parameters())


def test_weights_of_a_dropped_attention_get_no_gradient(make_vit, make_images):
    net = make_vit()
    with attention_dropping(net, keep=0.0):
        net(make_images()).sum().backward()
    assert all(block.attn.qkv.weight.grad is None for block in net.blocks)
    assert all(block.mlp.fc1.weight.grad is not None for block in net.blocks)


def test_the_global_generator_is_the_default(make_vit, make_images):
    net, x = make_vit(), make_images()
    found = []
    for _ in range(2):
        with torch.random.fork_rng(devices=[]), attention_dropping(net, keep=0.5):
            torch.manual_seed(3)
            found.append(gradient(net, x))
    assert torch.equal(*found)


def test_functional_calls_are_hooked_too(make_vit, make_images):
    net, x = make_vit(), make_images()
    weights = dict(net.named_parameters())
    with attention_dropping(net, keep=0.0):
        assert not gradient(lambda t: functional_call(net, weights, (t,)), x).any()


@pytest.mark.parametrize("keep", [-0.1, 1.1, float("nan"), True, "half"])
def test_a_share_that_is_none(make_vit, keep):
    net = make_vit()
    with pytest.raises(ValueError, match="keep must be a share"), attention_dropping(net, keep=keep):
        pass
    assert hooks(net) == 0


@pytest.mark.parametrize("wrap", [lambda net: net, lambda net: InPrecision(net, torch.device("cpu"), "fp32")])
def test_a_network_without_attention_is_told_what_to_do(conv_model, wrap):
    with (
        pytest.raises(ValueError, match=r"network \(Sequential\) has no transformer blocks.*leave vit"),
        attention_dropping(wrap(conv_model), keep=0.5),
    ):
        pass


@pytest.mark.parametrize("name", ["seresnet50", "eca_nfnet_l0", "resnet18", "convnext_atto", "mixer_s16_224"])
def test_gates_over_channels_and_mixers_are_no_attention(name):
    with torch.device("meta"):
        net = timm.create_model(name)
    with pytest.raises(ValueError, match="no transformer blocks"):
        attention_branches(net)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu(make_vit, make_images):
    net, x = make_vit().cuda(), make_images().cuda()
    there = torch.Generator("cuda")
    with pytest.raises(ValueError, match="on the CPU"), attention_dropping(net, keep=0.5, generator=there):
        pass
    with attention_dropping(net, keep=0.0, generator=torch.Generator()):
        assert not gradient(net, x).any()
