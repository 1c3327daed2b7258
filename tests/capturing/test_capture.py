"""Choosing, refusing, failing: what a capture holds is what was asked for, and the model never notices."""

import random
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

import glassrun
from glassrun.capturing.capture import capture
from glassrun.errors import CaptureError
from glassrun.models.cnn import CNN
from glassrun.models.language_model import LanguageModel

TOKENS = torch.tensor([[3, 1, 4, 1, 5, 9, 2]])


@pytest.fixture
def model():
    torch.manual_seed(1)
    return LanguageModel(17, 11, num_layers=3, d_model=12, num_heads=4, d_ff=13).eval()


def hooks_of(model):
    return [hook for module in model.modules() for hook in (*module._forward_hooks, *module._forward_pre_hooks)]


# --- choosing --------------------------------------------------------------------------------------------------------


def test_choosing_modules_heads_and_queries(model):
    whole = capture(model, TOKENS).attention
    assert list(whole) == [f"layers.{i}.attention" for i in range(3)]
    for attention, names in {
        "layers.1.attention": [1],
        "layers.1": [1],
        "layers.*.attention": [0, 1, 2],
        "layers": [0, 1, 2],
        ("layers.2", "layers.0"): [0, 2],
        "layers.[!1].*": [0, 2],
    }.items():
        found = capture(model, TOKENS, attention=attention, heads=[3, -4], queries=(5,)).attention
        assert list(found) == [f"layers.{i}.attention" for i in names]
        for name, each in found.items():
            torch.testing.assert_close(each.weights, whole[name].weights[:, [3, 0]][:, :, [5]])
            assert (each.heads, each.queries, each.num_heads) == ((3, 0), (5,), 4)


def test_activations_are_what_the_modules_returned(model):
    expected = {}
    for name in ("norm", "layers.0", "layers.1.feed_forward"):
        model.get_submodule(name).register_forward_hook(lambda _m, _a, out, name=name: expected.update({name: out}))
    seen = capture(model, TOKENS, attention=False, activations=["nor?", "layers.0", "layers.1.*_forward"])
    assert seen.attention == {}
    assert list(seen.activations) == ["layers.0", "layers.1.feed_forward", "norm"]
    for name, found in seen.activations.items():
        torch.testing.assert_close(found, expected[name], rtol=0, atol=0)
        assert not found.requires_grad
    everything = capture(model, TOKENS, attention=False, activations=True).activations
    assert {"", "embedding", "layers.2.attention.projections"} <= set(everything)
    assert torch.equal(everything[""], seen.output)


def test_an_activation_stays_as_it_was_when_the_next_layer_works_in_place():
    model = nn.Sequential(nn.Linear(2, 1, bias=False), nn.ReLU(inplace=True))
    nn.init.constant_(model[0].weight, -1.0)
    seen = capture(model, torch.ones(1, 2), activations=True)
    assert seen.activations["1"].tolist() == [[0.0]]
    assert seen.activations["0"].tolist() == [[-2.0]]


def test_outputs_that_are_no_tensor():
    class Both(nn.Module):
        def forward(self, x):
            return None, [x], x + 1, x + 2

    class Named(nn.Module):
        def forward(self, x):
            return {"loss": 1.0, "hidden": x[2] * 3}

    class Number(nn.Module):
        def forward(self, x):
            return x["hidden"].sum().item()

    model = nn.Sequential(Both(), Named(), Number())
    seen = capture(model, torch.ones(2), activations=["0", "1"])
    assert seen.activations["0"].tolist() == [2.0, 2.0]
    assert seen.activations["1"].tolist() == [6.0, 6.0]
    with pytest.raises(CaptureError, match="'2' returned no tensor"):
        capture(model, torch.ones(2), activations="2")


def test_a_module_that_is_called_twice():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(6, 2)
            self.again = self.attention

        def forward(self, x):
            x = self.attention(x, x, x)[0]
            return self.again(x, x, x)[0]

    seen = capture(Twice(), torch.randn(5, 1, 6), activations="attention")
    assert list(seen.attention) == list(seen.activations) == ["attention", "attention#2"]
    assert not torch.equal(seen.attention["attention"].weights, seen.attention["attention#2"].weights)
    assert {each.name for each in seen.attention.values()} == {"attention"}


# --- the model never notices -----------------------------------------------------------------------------------------


class Moving(nn.Module):
    """Moves everything that a pass can move, and may fail at the end."""

    def __init__(self, fails):
        super().__init__()
        self.norm, self.drop = nn.BatchNorm1d(3), nn.Dropout(0.5)
        self.attention = nn.MultiheadAttention(6, 2, dropout=0.3)
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("last", torch.zeros(4, 3, 6))
        self.fails = fails

    def forward(self, x):
        self.calls += 1
        self.last = x
        x = self.drop(self.norm(x)) + random.random() + np.random.rand()  # noqa: NPY002
        x = self.attention(x, x, x)[0]
        if self.fails:
            raise ValueError("the end")
        return x


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_nothing_is_left_behind(fails, training):
    model = Moving(fails).train(training)
    model.norm.eval()  # modes may be mixed
    model.norm.track_running_stats = True
    calls = []
    model.attention.register_forward_hook(lambda *_: calls.append(1))
    hooks, modes = hooks_of(model), [module.training for module in model.modules()]
    before = {name: (value, value.clone()) for name, value in model.state_dict(keep_vars=True).items()}
    generators = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    x = torch.randn(4, 3, 6, generator=torch.Generator().manual_seed(1))
    if fails:
        with pytest.raises(CaptureError):
            capture(model, x, activations=True)
    else:
        capture(model, x, activations=True)
    assert hooks_of(model) == hooks
    assert [module.training for module in model.modules()] == modes
    after = model.state_dict(keep_vars=True)
    assert all(after[name] is kept and torch.equal(kept, value) for name, (kept, value) in before.items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(torch.get_rng_state(), generators[0])
    assert random.getstate() == generators[1]
    assert np.random.get_state()[1].tolist() == generators[2]  # noqa: NPY002
    assert torch.backends.mha.get_fastpath_enabled()
    assert len(calls) == 1
    assert torch.is_grad_enabled()


def test_batch_norm_in_training_mode_is_put_back():
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3))
    x = torch.randn(4, 1, 8, 8)
    output = capture(model, x, attention=False).output
    assert model[1].num_batches_tracked == 0
    assert model[1].running_mean.eq(0).all()
    assert torch.equal(model(x), output)
    assert model[1].num_batches_tracked == 1


def test_the_output_is_the_plain_pass_to_the_bit(model):
    model.train()
    torch.manual_seed(3)
    watched = capture(model, TOKENS, activations=True).output
    assert torch.equal(watched, model(TOKENS))


def test_a_mode_of_the_users_sees_the_models_calls_and_none_of_ours(model):
    class Counting(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            counted.append(getattr(func, "__name__", ""))
            return func(*args, **(kwargs or {}))

    counted: list[str] = []
    with torch.no_grad(), Counting():
        model(TOKENS)
    plain, counted = counted, []
    with Counting():
        capture(model, TOKENS, attention="layers.1", queries=[0])
    assert [name for name in counted if name in plain and "attention" in name] == ["scaled_dot_product_attention"] * 3
    assert counted.count("softmax") == plain.count("softmax") == 0
    assert counted.count("linear") == plain.count("linear") > 0


def test_under_autocast_the_weights_are_made_in_float32(model):
    with torch.autocast("cpu", torch.bfloat16):
        found = capture(model, TOKENS).attention["layers.0.attention"]
    torch.testing.assert_close(found.weights.sum(-1), torch.ones(1, 4, 7), rtol=0, atol=1e-6)


# --- how much --------------------------------------------------------------------------------------------------------


class Long(nn.Module):
    def forward(self, x):
        return F.scaled_dot_product_attention(x, x, x)


def test_of_100000_tokens_the_whole_is_refused_before_anything_is_computed():
    x = torch.zeros(1, 12, 100_000, 1).expand(1, 12, 100_000, 64)
    with pytest.raises(CaptureError) as error:  # at once: the call itself would take minutes
        capture(Long(), x)
    assert "12 heads × 100000 queries × 100000 keys, would take 447 GiB; the budget is 256 MiB" in str(error.value)
    assert "queries=[…] or heads=[…] (one row of one head takes 391 KiB)" in str(error.value)


def test_a_row_over_100000_keys_is_cheap():
    class Searching(nn.Module):
        def forward(self, query, keys):
            return F.scaled_dot_product_attention(query, keys, keys)

    query, keys = (torch.randn(1, 2, n, 3, generator=torch.Generator().manual_seed(n)) for n in (5, 100_000))
    found = capture(Searching(), (query, keys), queries=[-1], budget=10**6).attention[""]
    torch.testing.assert_close(found.weights, (query[:, :, 4:] @ keys.mT / 3**0.5).softmax(-1))
    assert found.proof < 1e-5
    with pytest.raises(CaptureError, match=r"would take 3\.81 MiB; the budget is 977 KiB"):
        capture(Searching(), (query, keys), budget=10**6)


@pytest.mark.long
def test_a_row_of_100000_tokens():
    x = torch.randn(1, 1, 100_000, 2, generator=torch.Generator().manual_seed(1))
    found = capture(Long(), x, queries=[99_999]).attention[""]
    assert found.weights.shape == (1, 1, 1, 100_000)
    assert found.weights.sum().item() == pytest.approx(1.0, abs=1e-4)
    assert found.proof < 1e-4


def test_the_budget_counts_maps_and_activations_together(model):
    row = 7 * 4  # bytes
    capture(model, TOKENS, heads=[0], queries=[0], budget=3 * row)
    with pytest.raises(CaptureError, match=r"layers\.2\.attention.*28 bytes beside 56 bytes before it.*budget is 83"):
        capture(model, TOKENS, heads=[0], queries=[0], budget=3 * row - 1)
    output = 7 * 12 * 4
    capture(model, TOKENS, attention="layers.0", queries=[0], heads=[0], activations="norm", budget=row + output)
    with pytest.raises(CaptureError, match=r"the output of norm, \(1, 7, 12\), would take 336 bytes"):
        capture(model, TOKENS, attention="layers.0", queries=[0], heads=[0], activations="norm", budget=output)


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (
            {"attention": "layer.1.attention"},
            r"no module of the model is 'layer\.1\.attention'; did you mean 'layers\.1",
        ),
        ({"activations": ["norm", "hidden*"]}, r"activations: no module of the model is 'hidden\*'"),
        ({"attention": "norm"}, r"no attention call was seen in 'norm'; they were in layers\.0\.attention, layers\.1"),
        ({"attention": []}, "give True, False, a module's name"),
        ({"attention": None}, "attention=None: give True, False, a module's name"),
        ({"activations": 3}, "activations=3: give True, False, a module's name"),
        ({"attention": ""}, r"no attention call was seen in ''; they were in layers\.0\.attention"),
        ({"heads": [4]}, r"heads: 4 is out of range, the attention of layers\.0\.attention has 4 heads, 0 to 3"),
        ({"queries": [-8]}, "queries: -8 is out of range.* has 7 queries, 0 to 6"),
        ({"queries": []}, "give a list of whole numbers"),
        ({"heads": [0.5]}, "give a list of whole numbers"),
        ({"heads": [float("inf")]}, "give a list of whole numbers"),
        ({"heads": 2}, "give a list of whole numbers"),
        ({"budget": "1 GB"}, "give a positive number of bytes"),
        ({"budget": 0}, "give a positive number of bytes"),
    ],
)
def test_asking_for_what_is_not_there(model, asked, message):
    with pytest.raises(CaptureError, match=message):
        capture(model, TOKENS, **asked)
    assert hooks_of(model) == []


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ("a text", "the inputs are a str; .*turn texts into tokens first"),
        (3, "the inputs are a int"),
        (torch.zeros(1, 0, dtype=torch.int64), r"the input 0 is empty, its shape is \(1, 0\); give at least one token"),
        ({"tokens": torch.zeros(0, 5, dtype=torch.int64)}, r"the input tokens is empty"),
        (torch.tensor([[1, 17]]), r"failed in embedding \(\w*Embedding, called with Int64\[1, 2\]\): IndexError"),
        ((TOKENS, TOKENS, TOKENS), r"failed in the model \(LanguageModel.*TypeError"),
    ],
)
def test_inputs_that_do_not_fit(model, inputs, message):
    with pytest.raises(CaptureError, match=message):
        capture(model, inputs)
    assert hooks_of(model) == []


def test_an_image_of_the_wrong_size_names_the_layer():
    model = CNN(1, 8, 8, 5, channels=(3,)).eval()
    with pytest.raises(CaptureError, match=r"failed in hidden \(Linear, called with Float32\[1, 75\]\): RuntimeError"):
        capture(model, torch.zeros(1, 1, 10, 10), attention=False)


def test_the_cause_of_a_failure_is_kept(model):
    with pytest.raises(CaptureError) as error:
        capture(model, torch.tensor([[17]]))
    assert isinstance(error.value.__cause__, IndexError)


def test_weights_that_are_not_finite_name_layer_and_parameter(model):
    with torch.no_grad():
        model.layers[1].attention.projections.weight[2, 3] = torch.nan
    with pytest.raises(
        CaptureError, match=r"layers\.1\.attention .*not finite.*layers\.1\.attention\.projections\.weight"
    ):
        capture(model, TOKENS)
    assert list(capture(model, TOKENS, attention="layers.0").attention) == ["layers.0.attention"]


def test_inputs_that_are_not_finite():
    with pytest.raises(CaptureError, match="all parameters are finite, so look at the inputs"):
        capture(nn.MultiheadAttention(6, 2), [torch.full((5, 1, 6), torch.inf)] * 3)


def test_no_attention_is_an_error_only_where_it_is_asked_for():
    model, x = nn.Sequential(nn.Linear(2, 3)), torch.ones(1, 2)
    with pytest.raises(CaptureError, match=r"no attention call was seen in the model.*attention=False"):
        capture(model, x)
    assert dict(capture(model, x, activations="0").attention) == {}
    with pytest.raises(CaptureError, match="no attention call was seen in '0'"):
        capture(model, x, attention="0", activations="0")


def test_a_model_that_takes_care_of_errors_hides_none():
    class Careful(nn.Module):
        def forward(self, x):
            try:
                return F.scaled_dot_product_attention(x, x, x)
            except Exception:
                return x

    with pytest.raises(CaptureError, match="the budget is 1 bytes"):
        capture(Careful(), torch.randn(1, 2, 5, 3), budget=1)


def test_what_is_no_model():
    with pytest.raises(CaptureError, match="the model is a function"):
        capture(lambda x: x, torch.ones(1))


def test_a_module_in_two_places_has_the_name_of_the_first():
    model = nn.ModuleDict({"first": (shared := nn.Linear(2, 2)), "second": shared})
    model.forward = lambda x: model["second"](model["first"](x))
    for asked in ("attention", "activations"):
        with pytest.raises(CaptureError, match=f"{asked}: 'second' is the same module as 'first': ask for that"):
            capture(model, torch.ones(1, 2), **{"attention": False, asked: "second"})
    assert list(capture(model, torch.ones(1, 2), attention=False, activations="first").activations) == [
        "first",
        "first#2",
    ]


def test_buffers_that_were_made_in_inference_mode_are_put_back():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("count", torch.zeros(()))

        def forward(self, x):
            with torch.inference_mode():
                self.count += 1
            return x

    with torch.inference_mode():
        model = Counting()
    capture(model, torch.ones(1), attention=False)
    assert model.count == 0


# --- what cannot be seen ---------------------------------------------------------------------------------------------


def test_a_call_of_the_kernel_itself_is_named():
    class Kernel(nn.Module):
        def forward(self, x):
            return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(x, x, x)[0]

    model = nn.ModuleDict({"kernel": Kernel(), "seen": Long()})
    model.forward = lambda x: model["seen"](model["kernel"](x))
    x = torch.randn(1, 2, 5, 8)
    with pytest.raises(
        CaptureError, match=r"kernel \(Kernel.*torch\.ops\.aten\._scaled_dot_product_flash.*attention=…"
    ):
        capture(model, x)
    assert list(capture(model, x, attention="seen").attention) == ["seen"]


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("known", ["at its first call", "later"])
def test_flex_attention_is_named(known):
    from torch.nn.attention.flex_attention import flex_attention

    if known == "later":
        torch.compile(lambda x: x, backend="eager")

    class Flexible(nn.Module):
        def forward(self, x):
            return flex_attention(x, x, x)

    with pytest.raises(CaptureError, match=r"0 \(Flexible, called with .* calls .*flex_attention.*Let it call .*sdpa"):
        capture(nn.Sequential(Flexible()), torch.randn(1, 2, 16, 16))


def test_a_compiled_function_runs_as_it_was_written():
    compiled = torch.compile(lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True), backend="eager")

    class Calling(nn.Module):
        def forward(self, x):
            return compiled(x)

    assert capture(Calling(), torch.randn(1, 2, 5, 8)).attention[""].masking == "causal"


def test_a_compiled_model_is_named_and_the_way_around_it():
    inside = Long()
    inside.compile(backend="eager")
    for model, message in (
        (torch.compile(Long(), backend="eager"), r"the model is compiled by torch\.compile: .*model\._orig_mod"),
        (nn.Sequential(torch.compile(Long(), backend="eager")), r"0 is compiled by .*model\.0\._orig_mod"),
        (inside, r"was compiled by its compile\(\)"),
    ):
        with pytest.raises(CaptureError, match=message):
            capture(model, torch.randn(1, 2, 5, 8))


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_a_scripted_module_is_named():
    traced = torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2))
    with pytest.raises(CaptureError, match="0 is a TorchScript module"):
        capture(nn.Sequential(traced), torch.ones(1, 2))
    assert torch.is_tensor(capture(nn.Sequential(traced), torch.ones(1, 2), attention=False).output)


@pytest.mark.parametrize("written", [False, True])
def test_tensors_that_hold_no_numbers_to_read(written):
    class Attending(nn.Module):
        def forward(self, x):
            return (x @ x.mT).softmax(-1) @ x if written else F.scaled_dot_product_attention(x, x, x)

    class Mapping(nn.Module):
        def __init__(self):
            super().__init__()
            self.inside = Attending()

        def forward(self, x):
            return torch.vmap(self.inside)(x)

    with pytest.raises(CaptureError, match="attends on the meta device, where tensors hold no numbers"):
        capture(Attending(), torch.ones(2, 5, 3, device="meta"))
    with pytest.raises(CaptureError, match=r"inside .*attends inside torch\.vmap"):
        capture(Mapping(), torch.ones(2, 5, 3))


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_nested_tensors():
    nested = torch.nested.nested_tensor([torch.ones(3, 6), torch.ones(5, 6)])
    with pytest.raises(CaptureError, match=r"MultiheadAttention, called with nested Float32"):
        capture(nn.TransformerEncoderLayer(6, 2, 7, batch_first=True).eval(), nested)


def test_a_lazy_module():
    with pytest.raises(CaptureError, match="0 has no weights yet; call the model once before"):
        capture(nn.Sequential(nn.LazyLinear(2)), torch.ones(1, 2), attention=False)


# --- the package -----------------------------------------------------------------------------------------------------


def test_capture_is_public_and_loads_nothing_until_it_is_used():
    assert glassrun.capture is capture
    code = "import sys, glassrun; assert 'capture' in dir(glassrun); assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
