"""Writing one token after the other."""

import math
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from glassrun.data.tokenizers import BEGIN, END
from glassrun.errors import ModelError
from glassrun.generate.beams import beam_search
from glassrun.generate.decoding import Beams, Greedy, Sampling, key
from glassrun.generate.write import write
from glassrun.generate.writers import TextWriter, TranslationWriter
from writing import VOCABULARY, draw, greedy, language_model, translator

properties = settings(max_examples=25, deadline=None)


def scripted(*script):
    """A translation model whose likeliest token at place i is the script's, whatever stood before."""
    calls = []

    def model(source, target):
        calls.append((source.tolist(), target.tolist()))
        logits = torch.zeros(1, target.shape[1], VOCABULARY)
        for place in range(target.shape[1]):
            logits[0, place, script[min(place, len(script) - 1)]] = 1.0
        return logits

    model.calls = calls
    return model


def fixed(logits):
    """A language model that gives the same logits everywhere, and remembers what it was shown."""
    calls = []

    def model(tokens):
        calls.append(tokens.tolist())
        return torch.tensor(logits).expand(*tokens.shape, len(logits))

    model.calls = calls
    return model


def test_greedy_stops_at_the_end_token():
    model = scripted(4, 6, END, 5)
    assert greedy(model, [3, 5], 13) == [BEGIN, 4, 6, END]
    # Each time the source as it is, and all that is written so far.
    assert model.calls == [([[3, 5]], [[BEGIN]]), ([[3, 5]], [[BEGIN, 4]]), ([[3, 5]], [[BEGIN, 4, 6]])]


@pytest.mark.parametrize("max_length", [1, 2, 5])
def test_greedy_stops_at_max_length(max_length):
    assert greedy(scripted(4), [3], max_length) == [BEGIN, 4, 4, 4, 4][:max_length]


def test_greedy_may_end_on_the_last_place():
    assert greedy(scripted(4, END), [3], 3) == [BEGIN, 4, END]


def test_greedy_takes_the_likeliest_token_of_a_real_model():
    model = translator(26)
    written = greedy(model, [3, 5, 4], 11)
    logits = model(torch.tensor([[3, 5, 4]]), torch.tensor([written[:-1]]))[0]
    assert written[0] == BEGIN
    assert len(set(written)) > 3  # so the weights do give more than one token over and over
    assert written[1:] == logits.argmax(-1).tolist()  # one pass over all of it chooses the same at every place


def test_logits_may_be_an_attribute_but_must_be_there():
    model = scripted(4, END)
    assert greedy(lambda *inputs: SimpleNamespace(logits=model(*inputs)), [3], 5) == [BEGIN, 4, END]
    lines = fixed([0.0, 9.0])
    assert draw(lambda tokens: SimpleNamespace(logits=lines(tokens)), 2, how=Greedy()) == [1, 1]
    with pytest.raises(ModelError, match=r"expected the model to return logits.*found dict"):
        greedy(lambda *_: {}, [3], 5)


@properties
@given(st.integers(0, 2**62), st.integers(0, 2**32))
def test_equal_seeds_give_equal_texts(seed, weights):
    model = language_model(weights)
    assert draw(model, how=Sampling(seed=seed)) == draw(model, how=Sampling(seed=seed))


def test_other_seeds_give_other_texts():
    # 30 draws among 7 equal tokens: two texts alike have the chance 7⁻³⁰.
    model = fixed([0.0] * VOCABULARY)
    texts = {tuple(draw(model, 30, how=Sampling(seed=seed))) for seed in range(20)}
    assert len(texts) == 20


@properties
@given(st.integers(0, 2**62), st.integers(0, 13))
def test_a_longer_text_begins_with_the_shorter_one(seed, count):
    model = language_model(3)
    text = draw(model, 13, how=Sampling(seed=seed))
    assert len(text) == 13
    assert draw(model, count, how=Sampling(seed=seed)) == text[:count]


def test_places_are_drawn_apart():
    # With one key for all places, equal logits would give one token over and over.
    assert len(set(draw(fixed([0.0] * VOCABULARY), 50))) == VOCABULARY


@properties
@given(st.integers(0, 2**32))
def test_temperature_zero_takes_the_likeliest(seed):
    model = language_model(seed)
    written = [3]
    for _ in range(11):
        written.append(int(model(torch.tensor([written[-5:]]))[0, -1].argmax()))
    assert draw(model, how=Greedy()) == written[1:]


def test_shares_are_the_softmax():
    # 4,000 keyed draws with the shares 1/2, 1/3, 1/6; 5 standard errors are allowed.
    shares = [1 / 2, 1 / 3, 1 / 6]
    text = draw(fixed([math.log(6 * share) for share in shares]), 4000)
    for token, share in enumerate(shares):
        assert abs(text.count(token) - 4000 * share) < 5 * math.sqrt(4000 * share * (1 - share))


def test_temperature_divides_the_logits():
    logits = [0.0, 1.0, 2.0, 4.0]
    halved = draw(fixed([value / 2 for value in logits]), 100)
    assert draw(fixed(logits), 100, how=Sampling(temperature=2.0)) == halved
    assert draw(fixed(logits), 100) != halved


def test_the_model_sees_the_last_tokens_of_its_context():
    model = fixed([0.0, 0.0, 0.0, 9e9])
    assert draw(model, 3, tokens=(5, 6, 4), context=4) == [3, 3, 3]
    assert model.calls == [[[5, 6, 4]], [[5, 6, 4, 3]], [[6, 4, 3, 3]]]


def test_a_prompt_longer_than_the_context_is_cut_at_its_beginning():
    model = fixed([9e9, 0.0])
    draw(model, 1, tokens=(1, 2, 3, 4, 5), context=2)
    assert model.calls == [[[4, 5]]]


def test_what_was_given_stays_as_it_was():
    tokens = [3, 4]
    assert len(draw(fixed([0.0] * VOCABULARY), 5, tokens=tokens)) == 5
    assert tokens == [3, 4]


def test_default_generator_is_neither_used_nor_changed():
    model = language_model(4)
    other = translator(26)
    before = torch.get_rng_state()
    first = draw(model, 30), greedy(other, [3, 5], 11)
    assert torch.equal(torch.get_rng_state(), before)
    with torch.random.fork_rng():
        torch.rand(13)  # another state
        assert (draw(model, 30), greedy(other, [3, 5], 11)) == first


def test_no_gradient_is_recorded():
    model = language_model(5)
    recorded = []
    model.register_forward_hook(lambda _module, _args, output: recorded.append(output.requires_grad))
    draw(model, 2)
    assert recorded == [False, False]


@pytest.mark.parametrize("temperature", [1e-320, 1e-5, 1e300])
def test_any_temperature_gives_tokens(temperature):
    written = draw(fixed([0.1, 0.6, 0.3]), 20, how=Sampling(temperature=temperature))
    assert len(written) == 20
    assert temperature > 1 or set(written) == {1}


def test_few_tokens_are_drawn_among_the_likeliest():
    for seed in range(5):
        model = language_model(seed)
        likeliest = draw(model, how=Greedy())
        assert draw(model, how=Sampling(top_k=1)) == draw(model, how=Sampling(top_p=1e-9)) == likeliest
    shares = fixed([math.log(share) for share in (0.1, 0.4, 0.2, 0.3)])
    assert set(draw(shares, 100, how=Sampling(top_k=2))) == {1, 3}
    assert set(draw(shares, 100, how=Sampling(top_p=0.75))) == {1, 2, 3}
    # 0.4 and 0.3 have more than 0.6 together, but less than 0.6 of what a high temperature makes of them
    assert set(draw(shares, 100, how=Sampling(top_p=0.6))) == {1, 3}
    assert set(draw(shares, 100, how=Sampling(temperature=9.0, top_p=0.6))) == {1, 2, 3}
    # of the two likeliest, one has more than half
    assert set(draw(shares, 100, how=Sampling(top_k=2, top_p=0.5))) == {1}


# --- several rows at once --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [Greedy(), Sampling(seed=3), Sampling(0.7, top_k=4, top_p=0.9)])
def test_prompts_in_a_batch_are_written_as_alone(how):
    lengths = set()
    for seed in range(8):
        model = language_model(seed)
        prompts = [[first, second] for first in range(VOCABULARY) for second in (1, 4)]
        rows, keys = torch.tensor(prompts), [key(prompt) for prompt in prompts]
        at_once = write(TextWriter(model, 5), rows, how, keys, count=13, stop=(2,))
        assert at_once == [
            write(TextWriter(model, 5), torch.tensor([prompt]), how, [key(prompt)], count=13, stop=(2,))[0]
            for prompt in prompts
        ]
        lengths |= {len(text) for text in at_once}
    assert len(lengths) > 3  # so rows do end at different places


def test_sources_in_a_batch_are_written_as_alone():
    lengths = set()
    for seed in range(8):
        model = translator(seed)
        sources = [[4, first, second, 3] for first in (4, 5, 6) for second in (3, 6)]
        writer, begin = TranslationWriter(model, torch.tensor(sources)), torch.full((6, 1), BEGIN)
        at_once = write(writer, begin, Greedy(), [0] * 6, count=10, stop=(END,))
        assert [[BEGIN, *written] for written in at_once] == [greedy(model, source, 11) for source in sources]
        lengths |= {len(written) for written in at_once}
    assert len(lengths) > 1


def test_other_prompts_are_drawn_apart():
    """With equal logits everywhere only the key tells two prompts' texts apart."""
    model = fixed([0.0] * VOCABULARY)
    assert draw(model, 30, tokens=(3,)) != draw(model, 30, tokens=(4,))


def test_every_token_is_heard_as_it_comes():
    heard = []
    rows = torch.tensor([[1], [2]])
    model = language_model(3)
    written = write(TextWriter(model, 5), rows, Greedy(), [0, 0], count=4, hear=lambda *told: heard.append(told))
    assert heard == [(row, written[row][place]) for place in range(4) for row in (0, 1)]


@pytest.mark.parametrize("logits", [[0.0, math.nan], [-math.inf, -math.inf], [math.inf, 0.0]])
def test_logits_that_are_no_numbers_are_refused(logits):
    with pytest.raises(ModelError, match="no numbers"):
        draw(fixed(logits))


# --- the cache -------------------------------------------------------------------------------------------------------


def test_texts_with_a_cache_are_those_without() -> None:
    """Beyond the context, too, and with beams that change their order."""
    for seed in range(6):
        model, other = language_model(seed), translator(seed)
        assert hasattr(model, "new_cache")
        assert draw(model, 13, tokens=(3, 1)) == draw(lambda tokens, m=model: m(tokens), 13, tokens=(3, 1))
        begin, sources = torch.tensor([[BEGIN]]), torch.tensor([[3, 5, 4]])
        plain = TranslationWriter(lambda *inputs, m=other: m(*inputs), sources)
        found = [
            beam_search(writer, begin, Beams(5), count=9, stop=(END,))
            for writer in (TranslationWriter(other, sources), plain)
        ]
        assert [text.tokens for text in found[0]] == [text.tokens for text in found[1]]


def test_with_a_cache_every_token_is_read_once() -> None:
    model, read = language_model(1), []
    model.embedding.register_forward_hook(lambda _module, args, _output: read.append(args[0].shape[1]))
    draw(model, 6, tokens=(3, 1), context=5)
    assert read == [2, 1, 1, 1, 5, 5]  # within the context one by one, beyond it the last five at other positions
