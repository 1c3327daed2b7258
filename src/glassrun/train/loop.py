"""The training loop: batch, forward, backward, reduce, update, record, in that order."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from math import isfinite
from typing import Protocol

import torch
from torch import Tensor

from glassrun.errors import ModelError, NotFinite, WorkersDisagree
from glassrun.exact import bits, exact_sum, from_bits
from glassrun.record.fingerprint import Fingerprinter, Fixed, combine, stored_name
from glassrun.record.ledger import Step
from glassrun.record.snapshots import planned
from glassrun.record.words import NO_WORDS
from glassrun.tasks.answers import checked_loss
from glassrun.tasks.base import Batch
from glassrun.train import clipping
from glassrun.train import optimizer as optimizers
from glassrun.train.attributes import Attributes
from glassrun.train.buffers import StepBuffers
from glassrun.train.disagreement import Evidence, disagreement, word_sum
from glassrun.train.evaluate import Evaluation, evaluate
from glassrun.train.failures import explained
from glassrun.train.loading import Slices, TrainingBatches
from glassrun.train.memory import Layout
from glassrun.train.parameters import ParameterGuard
from glassrun.train.schedule import learning_rate
from glassrun.train.shards import TreeSum, divided, own_slices, summed_in
from glassrun.train.state import State, precision
from glassrun.train.update_norm import UpdateNorm
from glassrun.train.workers import Workers


@dataclass(frozen=True)
class Outcome:
    """What a step gave: its ledger fields, the fingerprint of every parameter and gradient, and what stops the run.

    `update_norm` is how far the parameters moved, on rank 0 where the recipe asks for it, else None.
    """

    step: Step
    tensors: list[int | None]
    seconds: float
    problem: str | None
    update_norm: float | None = None


class Journal(Protocol):
    """Who is told what the loop does: it writes, compares, or keeps silent."""

    def step(self, outcome: Outcome) -> None: ...
    def evaluation(self, evaluation: Evaluation) -> None: ...
    def snapshot(self, state: State) -> None: ...
    def checkpoint(self, state: State) -> None: ...


class Trainer:
    """A run's arithmetic on this worker: `run` is the loop, `train_step` one step of it."""

    def __init__(self, state: State, workers: Workers) -> None:
        self.state, self.workers = state, workers
        recipe, self.shards = state.recipe, state.recipe.batch.shards
        self.fingerprinter = Fingerprinter()
        self.names = [name for name, _ in state.named_parameters]
        self.parameters = [parameter for _, parameter in state.named_parameters]
        self.words = Fixed(self.parameters)
        self.moved = UpdateNorm(self.parameters) if recipe.record.update_norm and workers.rank == 0 else None
        self.places = own_slices(self.shards, workers.rank, workers.world_size)
        self.sums = [summed_in(parameter) for parameter in self.parameters]
        self.stored_parameters, self.stored_sums = self._stored_names(self.parameters), self._stored_names(self.sums)
        self.untrained = [(stored_name(name, tensor), tensor) for name, tensor in untrained(state)]
        self.prints = prints_of_each(self.parameters, workers.world_size)
        self.counts: dict[int, list[int]] = {}  # of the step to come: its losses and tokens, if they have been told
        self.tree = TreeSum(Layout(self.sums, self.shards), torch.device(recipe.numerics.device))
        self.buffers = StepBuffers(state.model, self.shards, self.fingerprinter)
        self.attributes = Attributes(state.model, state.task)
        self.guard = ParameterGuard(state.model, state.task)
        self.batches = TrainingBatches(
            state.dataset.splits["train"],
            state.task,
            self.attributes,
            seed=state.seed,
            size=recipe.batch.size,
            slice_size=recipe.batch.slice_size,
            places=self.places,
            by_length=recipe.batch.by_length,
        )

    @property
    def ledger_names(self) -> list[str]:
        """What the fingerprints in an `Outcome` are of: every parameter, then every gradient."""
        parameters = [f"parameter {name}" for name in self.stored_parameters]
        return parameters + [f"gradient {name}" for name in self.stored_sums]

    def run(self, journal: Journal, last: int) -> None:
        """Train from the state's step to step `last`, telling the journal."""
        recipe, train = self.state.recipe, self.state.recipe.train
        steps, snapshots = range(self.state.step + 1, last + 1), planned(recipe.record.snapshots, train.steps)
        self._check_start()
        coming = self.batches.each(steps, recipe.data.workers)
        slices = next(coming, None)
        while slices is not None:
            if isinstance(slices, Exception):
                raise slices
            following = next(coming, None)
            step = slices.step
            outcome = self.train_step(slices, following)
            journal.step(outcome)
            if outcome.problem:
                raise NotFinite(outcome.problem)
            if step % train.eval_every == 0 or step == train.steps:
                for split in splits_to_evaluate(self.state, final=step == train.steps):
                    evaluation = evaluate(self.state, split, self.workers)
                    if evaluation is not None:
                        journal.evaluation(evaluation)
            if step in snapshots:
                journal.snapshot(self.state)
            if step % train.checkpoint_every == 0 or step == train.steps:
                self._check_optimizer()
                journal.checkpoint(self.state)
            slices = following

    def train_step(self, slices: Slices, following: Slices | Exception | None = None) -> Outcome:
        """One step: every slice forward and backward alone, sums by the fixed tree, one update alike on all workers.

        Arguments:
            slices: this worker's part of the batch.
            following: that of the next step, whose counts are told with this step's fingerprints: one message less.
        """
        started = time.perf_counter()
        state, step = self.state, slices.step
        counts = self.counts.pop(step, None) or _totals(self.workers.gather(slices.counts))

        self.buffers.begin()
        self.guard.begin()
        losses = []
        for place, batch in zip(slices.places, slices.batches, strict=True):
            self.attributes.set_generators(state.seed, "step", step, place)
            with explained(state.model, step):
                losses.append(self._forward_backward(batch, counts[0]))
            self.tree.add([parameter.grad for parameter in self.parameters])
            self.buffers.collect()
            self.attributes.restore()
        self.guard.check(step, self.workers)

        total = self.tree.take()
        told = self.workers.tree_sum(total, self.tree, self._of_own_slices(losses, slices.batches))
        gradients = total.tensors()
        own_prints = self._own_prints(total.words, total.present)  # now: clipping changes them in place
        loss, batch_print = self._of_all_slices(told)
        norm, problem = self._norm(gradients, loss, step)
        rate = learning_rate(state.recipe, step, len(self.batches.split))
        if self.moved:
            self.moved.begin()
        if problem is None:
            clipping.clip_norm(gradients, norm, state.recipe.optimizer.clip_norm)
            clipping.clip_value(gradients, state.recipe.optimizer.clip_value)
            self.update(gradients, rate)
            if state.average:
                state.average.update(step)
            self.buffers.finish(self.workers)
        self.tree.release(total)
        update_norm = self.moved.norm() if self.moved else None

        buffers_print = combine((name, self.fingerprinter(tensor)) for name, tensor in self.untrained)
        own_prints += self._own_prints(self.words, [True] * len(self.words))
        prints, held, coming = self._told(own_prints, self._held(buffers_print), _counts_of(following))
        if any(values != held[0] for values in held):
            raise self._disagreement(step, gradients, rate)
        if following is not None:
            self.counts = {step + 1: _totals(coming)}
        gradient_prints, parameter_prints = self._all_prints([gradients, self.parameters], prints)
        state.step = step
        fields = Step(
            step=step,
            epoch=slices.epoch,
            examples=slices.examples,
            tokens=counts[1],
            loss=loss,
            learning_rate=rate,
            gradient_norm=norm,
            batch=batch_print,
            gradients=combine(zip(self.stored_sums, gradient_prints, strict=True)),
            parameters=combine(zip(self.stored_parameters, parameter_prints, strict=True)),
            buffers=buffers_print,
        )
        tensors = [*parameter_prints, *gradient_prints]
        return Outcome(fields, tensors, time.perf_counter() - started, problem, update_norm)

    def _check_start(self) -> None:
        """All workers must begin with the same model, by name and by bits.

        Raises:
            ModelError: they do not.
        """
        found = initial_fingerprints(self.state, self.fingerprinter)
        everyone = self.workers.gather([int(value, 16) for value in found.values()])
        if any(values != everyone[0] for values in everyone):
            raise ModelError(
                f"before step {self.state.step + 1} the workers hold different models: the model "
                "draws from a source of randomness that nobody seeds (such as numpy.random.default_rng()), or depends "
                "on the process in another way. Draw from the default generators of torch, NumPy or Python"
            )

    def _check_optimizer(self) -> None:
        """What a checkpoint holds must be alike on all workers: parameters and buffers have been compared already.

        Raises:
            WorkersDisagree: the optimizer's state is not.
        """
        if self.workers.world_size == 1:
            return
        state = self.state
        tensors = state.carried()
        held = self.workers.gather([word_sum(Fixed(list(tensors.values())))])
        if any(values != held[0] for values in held):
            names = [f"optimizer state {stored_name(name, tensor)}" for name, tensor in tensors.items()]
            prints = self.workers.gather([self.fingerprinter(tensor) for tensor in tensors.values()])
            raise disagreement(state.step, names, prints)

    def _forward_backward(self, batch: Batch, count: int) -> float:
        """Gradients of this slice's share of the loss into `.grad`; the share itself."""
        for parameter in self.parameters:
            parameter.grad = None
        with precision(self.state.recipe.numerics.precision):
            share = checked_loss(self.state.task.loss(self.state.model, batch)) / count
        share.backward()  # type: ignore[no-untyped-call]
        for name, parameter in zip(self.names, self.parameters, strict=True):
            if parameter.grad is not None and parameter.grad.layout != torch.strided:
                raise ModelError(
                    f"the gradient of {name} is sparse: expected dense ones (for nn.Embedding sparse=False)"
                )
        return float(share.detach().double())

    def _of_own_slices(self, losses: list[float], batches: list[Batch]) -> list[int]:
        """Loss and fingerprint of each slice of this worker."""
        return [value for pair in zip(map(bits, losses), self._batch_prints(batches), strict=True) for value in pair]

    def _of_all_slices(self, told: list[list[int]]) -> tuple[float, str]:
        """The loss of the whole batch, exactly rounded, and the fingerprint of all its slices in order."""
        everyone = [value for part in told for value in part]
        loss = exact_sum([from_bits(value) for value in everyone[::2]])
        return loss, combine((f"slice {place}", value) for place, value in enumerate(everyone[1::2]))

    def _batch_prints(self, batches: list[Batch]) -> list[int]:
        """One fingerprint for each slice."""
        named = [sorted(batch.items()) for batch in batches]
        prints = iter(self.fingerprinter.of_each([tensor for tensors in named for _, tensor in tensors]))
        entries = [[(stored_name(name, tensor), next(prints)) for name, tensor in tensors] for tensors in named]
        return [int(combine(entry), 16) for entry in entries]

    def _norm(self, gradients: list[Tensor | None], loss: float, step: int) -> tuple[float, str | None]:
        """The global norm, and what is wrong with loss or gradients."""
        if not isfinite(loss):
            return float("nan"), f"step {step}: the loss is not finite"
        try:
            return clipping.global_norm(self.names, gradients, step), None
        except NotFinite as error:
            return float("nan"), str(error)

    def update(self, gradients: list[Tensor | None], rate: float) -> None:
        """Update every parameter, as every other worker does, from the clipped gradients of the whole batch."""
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = None if gradient is None else gradient.to(parameter.dtype)
        optimizers.set_learning_rate(self.state.optimizer, rate)
        self.state.optimizer.step()
        for parameter in self.parameters:
            parameter.grad = None

    def _own_prints(self, words: Fixed, present: list[bool]) -> list[int]:
        """The fingerprints of this worker's part of the tensors; equally many on every worker."""
        own = self.prints[self.workers.rank]
        return self.fingerprinter.of_words([NO_WORDS if i is None or not present[i] else words[i] for i in own])

    def _told(self, *own: Sequence[int]) -> list[list[list[int]]]:
        """For each of these lists what every worker has in it, by rank; one message tells them all."""
        everyone = self.workers.gather([value for part in own for value in part])
        ends = list(accumulate(map(len, own), initial=0))
        return [[theirs[start:end] for theirs in everyone] for start, end in pairwise(ends)]

    def _all_prints(
        self, groups: Sequence[Sequence[Tensor | None]], prints: Sequence[Sequence[int]]
    ) -> list[list[int | None]]:
        """For each group of tensors the fingerprints, from the parts of all workers."""
        found, start, each = [], 0, len(self.prints[0])
        for tensors in groups:
            values: list[int | None] = [None] * len(tensors)
            for places, theirs in zip(self.prints, prints, strict=True):
                for i, value in zip(places, theirs[start : start + each], strict=True):
                    if i is not None and tensors[i] is not None:
                        values[i] = value
            found.append(values)
            start += each
        return found

    def _held(self, buffers: str) -> list[int]:
        """What stands for all that this worker holds after a step; nothing where there is nobody to compare with."""
        return [word_sum(self.words), int(buffers, 16)] if self.workers.world_size > 1 else []

    def _disagreement(self, step: int, gradients: list[Tensor | None], rate: float) -> WorkersDisagree:
        """The workers' parameters or buffers differ: everyone tells the fingerprints of all of them."""
        tensors = [*self.state.named_parameters, *untrained(self.state)]
        prints = self.workers.gather([self.fingerprinter(tensor) for _, tensor in tensors])
        kept = [None if gradient is None else gradient.clone() for gradient in gradients]
        evidence = Evidence(step, [stored_name(name, tensor) for name, tensor in tensors], prints, kept, rate)
        error = disagreement(step, evidence.names, prints)
        error.evidence = evidence
        return error

    def parameters_fingerprint(self) -> str:
        """One fingerprint for all trained parameters as they are now; each worker does all of the work."""
        prints = [self.fingerprinter(parameter) for parameter in self.parameters]
        return combine(zip(self.stored_parameters, prints, strict=True))

    def _stored_names(self, tensors: Sequence[Tensor]) -> list[str]:
        return [stored_name(name, tensor) for name, tensor in zip(self.names, tensors, strict=True)]


def _counts_of(following: Slices | Exception | None) -> list[int]:
    """What a worker tells of the next step's counts; where that cannot be made, the worker stops when it comes."""
    if following is None:
        return []
    return [0, 0] if isinstance(following, Exception) else following.counts


def _totals(counts: Sequence[Sequence[int]]) -> list[int]:
    """How many losses, at least one, and tokens the whole batch has, from what each worker counted."""
    losses, tokens = (sum(column) for column in zip(*counts, strict=True))
    return [max(losses, 1), tokens]


CALL = 2**15  # what a fingerprint costs beside its tensor's bytes, in bytes read in that time (measured: 8 to 11 µs)


def prints_of_each(tensors: Sequence[Tensor], world_size: int) -> list[list[int | None]]:
    """Which tensors' fingerprints each worker computes; equally many places for all, None where there is none.

    Divided by size: every second tensor is a bias, and a worker that had those would leave the work to the other.
    """
    parts = divided([tensor.nbytes + CALL for tensor in tensors], world_size)
    each = max(map(len, parts))
    return [[*part, *[None] * (each - len(part))] for part in parts]


def splits_to_evaluate(state: State, *, final: bool) -> list[str]:
    """The validation split (else the test split) along the way; at the end all that are not trained on."""
    held_out = [name for name in state.dataset.splits if name != "train"]
    return held_out if final else held_out[:1]


def initial_fingerprints(state: State, fingerprinter: Fingerprinter) -> dict[str, str]:
    """What the parameters and buffers are before the next step."""
    entries = [(stored_name(name, p), fingerprinter(p)) for name, p in state.named_parameters]
    return {"parameters": combine(entries), "buffers": buffers_fingerprint(state, fingerprinter)}


def buffers_fingerprint(state: State, fingerprinter: Fingerprinter) -> str:
    """One fingerprint for all buffers, and for the parameters that are not trained."""
    return combine((stored_name(name, tensor), fingerprinter(tensor)) for name, tensor in untrained(state))


def untrained(state: State) -> list[tuple[str, Tensor]]:
    """The buffers, and the parameters that are not trained, by name."""
    frozen = [(name, p) for name, p in state.model.named_parameters() if not p.requires_grad]
    return [*state.model.named_buffers(), *frozen]
