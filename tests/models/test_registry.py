"""From a recipe's model section to a module."""

import random
import sys

import numpy as np
import pytest
import torch
from torch import nn

from glassrun.config import ImportedModel
from glassrun.errors import ModelError
from glassrun.models.arguments import (
    ARGUMENTS,
    CNNArguments,
    EncoderDecoderArguments,
    LanguageModelArguments,
    LlamaArguments,
)
from glassrun.models.cnn import CNN
from glassrun.models.encoder_decoder import EncoderDecoder
from glassrun.models.language_model import LanguageModel
from glassrun.models.registry import FACTS, MODELS, build

FACTS_OF_ALL = {
    "in_channels": 2,
    "image_height": 11,
    "image_width": 13,
    "num_classes": 17,
    "source_vocabulary_size": 19,
    "target_vocabulary_size": 23,
    "vocabulary_size": 29,
    "max_length": 7,
    "padding_token": 3,
}
SMALL = {
    "cnn": CNNArguments(kind="cnn", channels=(3, 5), convolutions=1, hidden=7),
    "encoder-decoder": EncoderDecoderArguments(
        kind="encoder-decoder", encoder_layers=1, decoder_layers=2, d_model=15, num_heads=3
    ),
    "language-model": LanguageModelArguments(kind="language-model", num_layers=2, d_model=15, num_heads=3),
    "llama": LlamaArguments(kind="llama", num_layers=2, d_model=24, num_heads=4, num_key_value_heads=2),
}
EVERY_KIND = pytest.mark.parametrize("kind", sorted(SMALL))


def states():
    return torch.get_rng_state(), str(np.random.get_state()), random.getstate()  # noqa: NPY002 - the one others use


def equal_states(first, second):
    return torch.equal(first[0], second[0]) and first[1:] == second[1:]


@pytest.fixture(autouse=True)
def keep_random_state():
    """Imported models set the default generators; the next test gets them as they were."""
    torch_state, numpy_state, python_state = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
    yield
    torch.set_rng_state(torch_state)
    np.random.set_state(numpy_state)  # noqa: NPY002
    random.setstate(python_state)


def same(first, second):
    ours, theirs = first.state_dict(), second.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_the_tables_name_the_same_kinds():
    assert set(MODELS) == set(FACTS) == set(ARGUMENTS) == set(SMALL)


@EVERY_KIND
def test_equal_seeds_give_equal_models_and_others_do_not(kind):
    assert same(build(SMALL[kind], FACTS_OF_ALL, 5), build(SMALL[kind], FACTS_OF_ALL, 5))
    assert not same(build(SMALL[kind], FACTS_OF_ALL, 5), build(SMALL[kind], FACTS_OF_ALL, 6))


@EVERY_KIND
def test_the_default_generators_are_not_used(kind):
    first = build(SMALL[kind], FACTS_OF_ALL, 5)
    torch.rand(13)
    np.random.rand(13)  # noqa: NPY002
    random.random()
    assert same(first, build(SMALL[kind], FACTS_OF_ALL, 5))


@EVERY_KIND
def test_the_default_generators_are_not_changed(kind):
    before = states()
    build(SMALL[kind], FACTS_OF_ALL, 5)
    assert equal_states(states(), before)


def test_cnn_gets_arguments_and_facts():
    model = build(SMALL["cnn"], FACTS_OF_ALL, 1)
    assert isinstance(model, CNN)
    assert model.features[0].convolution.weight.shape == (3, 2, 3, 3)
    assert model.hidden.in_features == 5 * 2 * 3
    assert model.dropout.p == 0.25
    assert model(torch.zeros(2, 2, 11, 13)).shape == (2, 17)


def test_encoder_decoder_gets_arguments_and_facts():
    model = build(SMALL["encoder-decoder"], FACTS_OF_ALL, 1)
    assert isinstance(model, EncoderDecoder)
    assert (model.source_embedding.num_embeddings, model.target_embedding.num_embeddings) == (19, 23)
    assert (len(model.encoder), len(model.decoder)) == (1, 2)
    assert (model.max_length, model.padding_token) == (7, 3)
    assert model.encoder[0].feed_forward.expand.out_features == 60  # four times d_model when nothing is said
    assert model.encoder[0].attention.num_heads == 3


def test_language_model_gets_arguments_and_facts():
    arguments = SMALL["language-model"].model_copy(update={"d_ff": 31, "bias": False})
    model = build(arguments, FACTS_OF_ALL, 1)
    assert isinstance(model, LanguageModel)
    assert (model.embedding.num_embeddings, model.max_length, len(model.layers)) == (29, 7, 2)
    assert model.layers[0].feed_forward.expand.out_features == 31
    assert model.layers[0].feed_forward.expand.bias is None


def test_a_layer_more_moves_no_other_start():
    small = build(SMALL["encoder-decoder"], FACTS_OF_ALL, 5).state_dict()
    arguments = SMALL["encoder-decoder"].model_copy(update={"encoder_layers": 3})
    large = build(arguments, FACTS_OF_ALL, 5).state_dict()
    assert len(large) > len(small)
    assert all(torch.equal(large[name], value) for name, value in small.items())


# --- models of the user's --------------------------------------------------------------------------------------------

MODULE = """
import random

import numpy as np
import torch
from torch import nn


class Drawn(nn.Module):
    def __init__(self, num_classes, width=5):
        super().__init__()
        self.given = (num_classes, width)
        self.weight = nn.Parameter(torch.rand(width))
        self.numpy = nn.Parameter(torch.from_numpy(np.random.rand(3)))
        self.python = nn.Parameter(torch.tensor(random.random()))


class Space:
    inner = Drawn


def everything(**arguments):
    return Drawn(2)


def not_a_module(num_classes):
    return [num_classes]


def fails(num_classes):
    raise ZeroDivisionError("by design")


number = 7
"""


@pytest.fixture
def user_module(tmp_path, monkeypatch):
    """Writes a module of a user's, which can be imported while the test runs."""
    names = []

    def make(text, name):
        (tmp_path / f"{name}.py").write_text(text)
        names.append(name)
        return name

    monkeypatch.syspath_prepend(tmp_path)
    yield make
    for name in names:
        sys.modules.pop(name, None)


def section(name, **arguments):
    return ImportedModel.model_validate({"import": name} | arguments)


def test_import_passes_arguments_and_the_facts_that_are_named(user_module):
    name = user_module(MODULE, "user_model_named")
    assert build(section(f"{name}:Drawn"), FACTS_OF_ALL, 1).given == (17, 5)
    assert build(section(f"{name}:Drawn", width=11), FACTS_OF_ALL, 1).given == (17, 11)
    assert build(section(f"{name}:Drawn", num_classes=3), FACTS_OF_ALL, 1).given == (3, 5)  # what is given wins
    assert build(section(f"{name}:Space.inner"), FACTS_OF_ALL, 1).given == (17, 5)
    assert isinstance(build(section("torch.nn:Identity"), FACTS_OF_ALL, 1), nn.Identity)


def test_import_follows_the_seed_whatever_generator_it_draws_from(user_module):
    name = user_module(MODULE, "user_model_seeded")
    first = build(section(f"{name}:Drawn"), FACTS_OF_ALL, 5)
    torch.rand(13)
    np.random.rand(13)  # noqa: NPY002
    random.random()
    second, other = (build(section(f"{name}:Drawn"), FACTS_OF_ALL, seed) for seed in (5, 6))
    assert same(first, second)
    for mine, theirs in zip(first.parameters(), other.parameters(), strict=True):
        assert not torch.equal(mine, theirs)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        (
            "no_such_module_here:Model",
            {},
            r"no_such_module_here:Model: cannot be imported.*Expected package.module:fac",
        ),
        ("user_model_bad:Missing", {}, r"cannot be imported: .*'Missing'"),
        ("user_model_bad:number", {}, r"expected a function or a class, found int"),
        ("user_model_bad:not_a_module", {}, r"return a torch.nn.Module, found list"),
        ("user_model_bad:fails", {}, r"it failed: ZeroDivisionError: by design"),
        ("user_model_bad:Drawn", {"depth": 3}, r"unexpected keyword argument 'depth'.*beside `import`.*num_classes"),
    ],
)
def test_import_errors_say_what_was_found(user_module, name, arguments, message):
    user_module(MODULE, "user_model_bad")
    with pytest.raises(ModelError, match=message) as error:
        build(section(name, **arguments), FACTS_OF_ALL, 1)
    assert str(error.value).startswith(f"model.import: {name}")


def test_import_of_a_module_that_breaks(user_module):
    name = user_module("1 / 0\n", "user_model_broken")
    with pytest.raises(ModelError, match=r"importing it failed: ZeroDivisionError"):
        build(section(f"{name}:Model"), FACTS_OF_ALL, 1)


def test_import_names_what_the_data_can_give(user_module):
    name = user_module("def needs(heads): ...\n", "user_model_needs")
    with pytest.raises(ModelError) as error:
        build(section(f"{name}:needs"), {"in_channels": 1, "num_classes": 2}, 1)
    assert "missing a required argument: 'heads'" in str(error.value)
    assert "from the data it can have: in_channels, num_classes" in str(error.value)


def test_a_factory_that_takes_any_argument_gets_all_that_follows_from_the_data(user_module):
    text = "import torch\n\n\ndef model(width, **facts):\n    found = torch.nn.Identity()\n"
    name = user_module(text + "    found.facts = facts\n    return found\n", "user_model_open")
    assert build(section(f"{name}:model", width=3, num_classes=2), FACTS_OF_ALL, 1).facts == FACTS_OF_ALL | {
        "num_classes": 2
    }


def test_import_is_no_name_of_an_argument(user_module):
    name = user_module(MODULE, "user_model_alias")
    with pytest.raises(ModelError, match="unexpected keyword argument 'import_'"):
        build(section(f"{name}:Drawn", import_="other:model"), FACTS_OF_ALL, 1)
