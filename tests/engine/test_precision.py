"""Number formats, memory layout and compilation of a model."""

import warnings

import pytest
import torch
from torch import nn

from art_ext.engine.precision import Compiled, InPrecision, eager, has_bf16, resolve_precision, to_memory_format

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    "capabilities, native",
    [
        ({}, False),
        ({"avx512_f": True, "amx_bf16": False}, False),
        ({"avx512_bf16": True}, True),
        ({"amx_bf16": True}, True),
    ],
    ids=["nothing", "AVX-512", "AVX-512 BF16", "AMX"],
)
def test_auto_is_bf16_where_the_processor_has_it(monkeypatch, capabilities, native):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert has_bf16(CPU) is native
    assert resolve_precision("auto", CPU) == ("bf16" if native else "fp32")
    assert resolve_precision("fp32", CPU) == "fp32"
    assert resolve_precision("bf16", CPU) == "bf16"


def test_a_torch_that_cannot_tell_has_no_bf16(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert not has_bf16(CPU)


def test_emulated_bf16_on_a_gpu_does_not_count(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation)
    assert resolve_precision("auto", torch.device("cuda")) == "fp32"


def test_unknown_precision():
    with pytest.raises(ValueError, match="precision must be one of auto, fp32, bf16; got 'fp64'"):
        resolve_precision("fp64", CPU)


@pytest.mark.parametrize("precision, inside", [("bf16", torch.bfloat16), ("fp32", torch.float32)])
def test_only_what_is_inside_is_bf16(conv_model, images, precision, inside):
    x, y = images
    seen = []
    conv_model[0].register_forward_hook(lambda module, args, out: seen.append(out.dtype))
    logits = InPrecision(conv_model, CPU, precision)(x)
    loss = nn.functional.cross_entropy(logits, y)
    loss.backward()
    assert seen == [inside]
    assert logits.dtype == loss.dtype == torch.float32
    assert {p.dtype for p in conv_model.parameters()} == {p.grad.dtype for p in conv_model.parameters()}
    assert conv_model[0].weight.dtype == torch.float32


def test_fp32_is_the_model_itself_also_inside_somebody_elses_autocast(conv_model, images):
    expected = conv_model(images[0])
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(InPrecision(conv_model, CPU, "fp32")(images[0]), expected)


def test_bf16_is_near_fp32(conv_model, images):
    exact, coarse = (InPrecision(conv_model, CPU, precision)(images[0]) for precision in ("fp32", "bf16"))
    assert not torch.equal(exact, coarse)
    torch.testing.assert_close(coarse, exact, rtol=0, atol=0.05)  # 8 bits of mantissa, logits below 1


class Broken:
    """A compiled model that fails as a compiler without a C++ toolchain does, when it is first used."""

    calls = 0

    def __init__(self, model, dynamic):
        pass

    def __call__(self, x):
        type(self).calls += 1
        raise RuntimeError("no C++ compiler\nand many lines more")


def test_a_failing_compiler_is_told_once_and_left_alone(monkeypatch, conv_model, images):
    monkeypatch.setattr(torch, "compile", Broken)
    model = Compiled(conv_model, [16])
    with pytest.warns(
        UserWarning, match=r"torch.compile failed, going on without it: RuntimeError: no C\+\+ compiler$"
    ):
        out = model(images[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = model(images[0])
    assert torch.equal(out, conv_model(images[0]))
    assert torch.equal(again, out)
    assert Broken.calls == 1


def test_only_full_batches_and_their_doubles_are_compiled(monkeypatch, conv_model, images):
    sizes = []
    monkeypatch.setattr(torch, "compile", lambda model, dynamic: lambda x: sizes.append(len(x)) or model(x))
    model = Compiled(conv_model, [8, 5])
    for n in (8, 3, 8, 16, 9, 5, 10):
        assert torch.equal(model(images[0][:n]), conv_model(images[0][:n]))
    assert sizes == [8, 8, 16, 5, 10]


def test_eager_lets_compiled_models_rest_and_wakes_them_again(monkeypatch, conv_model, images):
    calls = []
    monkeypatch.setattr(torch, "compile", lambda model, dynamic: lambda x: calls.append("compiled") or model(x))
    model = InPrecision(Compiled(conv_model, [16]), CPU, "fp32")
    hook = conv_model[0].register_forward_hook(lambda *_: calls.append("hook"))
    with pytest.raises(RuntimeError), eager(model):
        model(images[0][:, :1])  # too few channels
    with eager(model):
        model(images[0])
    hook.remove()
    model(images[0])
    assert calls == ["hook", "compiled"]  # hooks of the eager model are what a compiled one would have missed


def test_an_error_of_the_model_itself_is_raised(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda model, dynamic: model)
    with pytest.warns(UserWarning, match="going on without"), pytest.raises(RuntimeError, match="shapes cannot"):
        Compiled(nn.Linear(3, 2), [4])(torch.zeros(4, 5))


def test_the_layout_changes_in_place(conv_model):
    weight = conv_model[0].weight
    before = weight.detach().clone()
    for channels_last, layout in ((True, torch.channels_last), (False, torch.contiguous_format)):
        to_memory_format(conv_model, channels_last)
        assert conv_model[0].weight is weight
        assert weight.is_contiguous(memory_format=layout)
        assert torch.equal(weight, before)
