"""A trained translator with its own encoder memory, with that of another source, and with none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from leads import by_seed, lead, over
from study import Claim, Measurement, Panel, Setting, Trial, Values, Verdict, run_study
from torch import Tensor
from translating import Answer, answers, exact_match, held_out, token_accuracy

from glassrun.models.encoder_decoder import EncoderDecoder
from glassrun.run import Run
from glassrun.tasks.translate import Translate

CLAIM = Claim(
    name="cross_attention_memory",
    exhibit="self-and-cross-attention",
    text="What a decoder writes follows the encoder's memory, which it sees by cross-attention alone: without it, or "
    "with another source's, it no longer writes its target, and with another source's it writes that one's target.",
    source="Vaswani et al. 2017, section 3.2.3; Bahdanau et al. 2015, section 3.1",
)
MEMORY, AGAINST = "memory", "compared with"
OWN, OTHER, ZERO = "its own", "another source's", "zeros"
OWN_TARGET, OTHER_TARGET = "its own target", "the other's target"
MATCH, AGREE = "exact match, written", "tokens that agree, written"
FORCED, ACCURACY, NATS = "exact match", "token accuracy", "nats a token"
LEFT, TAKEN = 0.1, 0.5  # of whole texts that are right: at most with a wrong memory, at least as the other's
BATCH = 128  # pairs, among which the memories change places


def measure(run: Run | None, trial: Trial, seed: int) -> Iterable[tuple[Setting, Values]]:  # noqa: ARG001
    """Written: greedily, with nothing given but the memory. Else: each token given the right ones before it."""
    assert run is not None, "every trial trains"
    for memory in (OWN, OTHER, ZERO):
        if run.status == "stopped":
            nothing = dict.fromkeys((MATCH, AGREE))
            yield {MEMORY: memory, AGAINST: OWN_TARGET}, nothing | dict.fromkeys((FORCED, ACCURACY, NATS))
            yield {MEMORY: memory, AGAINST: OTHER_TARGET}, nothing
            continue
        own, other = (dict(zip((MATCH, AGREE), shares, strict=True)) for shares in written(run, memory))
        forced = after_right_ones(run, memory)
        nats = sum(answer.nats for answer in forced) / sum(answer.tokens for answer in forced)
        own |= {FORCED: exact_match(forced), ACCURACY: token_accuracy(forced), NATS: nats}
        yield {MEMORY: memory, AGAINST: OWN_TARGET}, own
        yield {MEMORY: memory, AGAINST: OTHER_TARGET}, other


def after_right_ones(run: Run, memory: str) -> list[Answer]:
    """What the model with such a memory makes of every held-out pair, given the right tokens before each.

    With another source's memory these are the pairs whose neighbour in the batch has another target.
    """
    left_out: list[bool] = []

    def forward(model: EncoderDecoder, source: Tensor, target: Tensor) -> Tensor:
        read = model.encode(source)
        partner = partners(target)
        left_out.extend((partner < 0).tolist())
        return model.decode(target, *changed(*read, memory, partner.clamp(min=0)))

    found = answers(run, forward=forward)  # type: ignore[arg-type]
    return [answer for answer, out in zip(found, left_out, strict=True) if not out]


@torch.no_grad()
def written(run: Run, memory: str) -> list[tuple[float, float]]:
    """What the model writes with such a memory: the shares of whole texts and of tokens that are those of the pair's
    own target, and those of the other's whose memory is, or would be, given."""
    task, examples, model = Translate(run.dataset), run.dataset.splits[held_out(run)], run.model
    assert isinstance(model, EncoderDecoder)
    counts = torch.zeros(2, 4, dtype=torch.float64)  # of own and other: whole, texts, tokens that agree, tokens
    for start in range(0, len(examples), BATCH):
        batch = task.collate([examples.example(index, 0) for index in range(start, min(start + BATCH, len(examples)))])
        target = batch["target"]
        partner = partners(target)
        kept = (partner >= 0).nonzero()[:, 0]
        if not len(kept):
            continue
        read = changed(*model.encode(batch["source"]), memory, partner.clamp(min=0))
        tokens = greedy(model, read[0][kept], read[1][kept], target[:, 0][kept], target.shape[1] - 1)
        for place, chosen in enumerate((target[kept], target[partner[kept]])):
            right = chosen[:, 1:]
            real = right != task.padding
            agree = (tokens == right) & real
            counts[place] += torch.tensor(
                [(agree | ~real).all(1).sum(), len(right), agree.sum(), real.sum()], dtype=torch.float64
            )
    return [(float(whole / texts), float(agree / tokens)) for whole, texts, agree, tokens in counts]


def greedy(model: EncoderDecoder, memory: Tensor, mask: Tensor, first: Tensor, count: int) -> Tensor:
    """The likeliest token after each, `count` times; what stands behind the end is not looked at."""
    rows, cache = first[:, None], model.new_cache()
    for _ in range(count):
        logits = model.decode(rows[:, -1:], memory, mask, cache=cache)
        rows = torch.cat([rows, logits[:, -1].argmax(-1, keepdim=True)], 1)
    return rows[:, 1:]


def partners(target: Tensor) -> Tensor:
    """For each row the next one, the first after the last, that has another target; −1 where all have the same."""
    count = len(target)
    differs = (target[:, None] != target[None]).any(-1)
    order = (torch.arange(count)[:, None] + torch.arange(1, count + 1)) % count
    first = differs.gather(1, order).int().argmax(1, keepdim=True)
    found = order.gather(1, first)[:, 0]
    return torch.where(differs.any(1), found, -1)


def changed(memory: Tensor, mask: Tensor, kind: str, partner: Tensor) -> tuple[Tensor, Tensor]:
    """The memory and its mask as they are, those of the partners, or zeros in place of the memory."""
    if kind == OTHER:
        return memory[partner], mask[partner]
    return (torch.zeros_like(memory) if kind == ZERO else memory), mask


def judge(measurements: Sequence[Measurement]) -> Verdict:
    """With every seed these things hold: the target has fewer nats with its own memory than with zeros, and fewer than
    with another source's, and with either of these is written as a whole at most a tenth as often as with its own;
    what is written with another source's memory agrees in more tokens with that one's target, and is it as a whole
    at least half as often as its own target is written with its own memory.
    """
    own = {AGAINST: OWN_TARGET}
    zeros, others = (
        lead(measurements, NATS, own | {MEMORY: OWN}, own | {MEMORY: memory}, scale=-1.0) for memory in (ZERO, OTHER)
    )
    follows = lead(measurements, AGREE, {MEMORY: OTHER, AGAINST: OTHER_TARGET}, own | {MEMORY: OTHER}, scale=100.0)
    matches = lead(measurements, MATCH, {MEMORY: OTHER, AGAINST: OTHER_TARGET}, own | {MEMORY: OTHER}, scale=100.0)
    without, changed_over = (
        lead(measurements, MATCH, own | {MEMORY: OWN}, own | {MEMORY: memory}, scale=100.0) for memory in (ZERO, OTHER)
    )
    return Verdict(
        all(part.always for part in (zeros, others, follows)) and all(map(_obeys, *_whole_texts(measurements))),
        f"{over(measurements)}: "
        f"with its own memory the target has fewer nats a token than with zeros by {zeros}, than with another source's "
        f"by {others}, and is written as a whole more often, in points of percent, than with zeros by {without}, than "
        f"with another source's by {changed_over}; what is written with another source's memory agrees in more tokens "
        f"with that one's target than with its own, in points of percent by {follows}, and is it as a whole more often "
        f"by {matches}",
    )


def _whole_texts(measurements: Sequence[Measurement]) -> Iterator[list[float | None]]:
    """Of every seed, the share of whole texts: with its own memory, with zeros, with another's, and the other's."""
    shown = [(memory, OWN_TARGET) for memory in (OWN, ZERO, OTHER)] + [(OTHER, OTHER_TARGET)]
    found = [by_seed(measurements, MATCH, {MEMORY: memory, AGAINST: against}) for memory, against in shown]
    seeds = list(found[0])
    yield from ([shares.get(seed) for seed in seeds] for shares in found)


def _obeys(own: float | None, zeros: float | None, other: float | None, taken: float | None) -> bool:
    if own is None or zeros is None or other is None or taken is None:
        return False
    return own > 0 and max(zeros, other) <= LEFT * own and taken >= TAKEN * own


if __name__ == "__main__":
    run_study(
        CLAIM,
        [Trial({}, "sentences-transformer")],
        measure,
        judge,
        [
            Panel(AGREE, MEMORY, AGAINST, percent=True),
            Panel(NATS, MEMORY),
        ],
        trained="An encoder-decoder of 2 + 2 layers, d_model 64, on the sentences of a small grammar, 300 steps; each "
        "run is measured with three memories",
    )
