"""The values of a config.json: each is used, is known to change no logits, or is refused by name; none is ignored."""

from __future__ import annotations

from collections.abc import Mapping
from sys import float_info
from typing import Any, TypeVar

from glassrun.errors import ModelError, nearest

T = TypeVar("T")

# What tells other programs how to run, to save, to generate or to name things: the logits do not follow from it.
NO_ARITHMETIC = frozenset(
    {
        "_attn_implementation",
        "_commit_hash",
        "_name_or_path",
        "_num_labels",
        "architectures",
        "bad_words_ids",
        "begin_suppress_tokens",
        "bos_token_id",
        "chunk_size_feed_forward",
        "cls_token_id",
        "decoder_start_token_id",
        "diversity_penalty",
        "do_sample",
        "dtype",
        "early_stopping",
        "eos_token_id",
        "exponential_decay_length_penalty",
        "finetuning_task",
        "forced_bos_token_id",
        "forced_eos_token_id",
        "gradient_checkpointing",
        "id2label",
        "init_std",
        "initializer_factor",
        "initializer_range",
        "keys_to_ignore_at_inference",
        "label2id",
        "length_penalty",
        "mask_token_id",
        "max_length",
        "min_length",
        "model_type",
        "no_repeat_ngram_size",
        "num_beam_groups",
        "num_beams",
        "num_labels",
        "num_return_sequences",
        "output_attentions",
        "output_hidden_states",
        "output_past",
        "output_scores",
        "pad_token_id",
        "prefix",
        "problem_type",
        "remove_invalid_values",
        "repetition_penalty",
        "return_dict",
        "return_dict_in_generate",
        "sep_token_id",
        "suppress_tokens",
        "task_specific_params",
        "temperature",
        "tokenizer_class",
        "top_k",
        "top_p",
        "torch_dtype",
        "torchscript",
        "transformers_version",
        "typical_p",
        "use_bfloat16",
        "use_cache",
    }
)


class Settings:
    """The values of one config.json, taken one by one; `finish` then names those that nobody took.

    Arguments:
        values: of the file.
        where: begins the error messages.
        tensors: how many there are in the files; there are no more layers than that.
    """

    def __init__(self, values: Mapping[str, Any], where: str, tensors: int) -> None:
        self.values = values
        self.where = where
        self.tensors = tensors
        self._taken: set[str] = set()

    def integer(self, name: str, default: int | None = None) -> int:
        """A whole number of at least one; with no default it must be there."""
        value = self._take(name, default)
        value = default if value is None else value  # as Hugging Face writes what is not set
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value < 2**31:
            raise self.wrong(name, "a whole number from 1 to 2³¹ − 1", value)
        return value

    def token(self, name: str, default: int) -> int:
        """A token's number."""
        value = self._take(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**31:
            raise self.wrong(name, "a token's number", value)
        return value

    def layers(self, name: str, default: int) -> int:
        """How many layers; so many that the files cannot hold them are refused before one is made."""
        value = self.integer(name, default)
        if value > self.tensors:
            raise self.wrong(name, f"at most {self.tensors}, for there are no more tensors in the files", value)
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """A finite number that is not negative; with no default it must be there."""
        value = self._take(name, default)
        value = default if value is None else value  # as Hugging Face writes what is not set
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= float_info.max:
            raise self.wrong(name, "a number that is not negative", value)
        return float(value)

    def positive(self, name: str, default: float | None = None) -> float:
        """A finite number above zero; with no default it must be there."""
        value = self.number(name, default)
        if not value:
            raise self.wrong(name, "a number above 0", value)
        return value

    def share(self, name: str, default: float) -> float:
        """A number from 0 to below 1."""
        value = self.number(name, default)
        if value >= 1:
            raise self.wrong(name, "a number from 0 to below 1", value)
        return value

    def flag(self, name: str, default: bool) -> bool:
        """True or false."""
        value = self._take(name, default)
        if not isinstance(value, bool):
            raise self.wrong(name, "true or false", value)
        return value

    def choice(self, name: str, default: str, known: Mapping[str, T]) -> T:
        """What a name stands for."""
        value = self._take(name, default)
        if not isinstance(value, str) or value not in known:
            raise ModelError(
                f"{self.where}: {name} is {value!r}, which glassrun's model has not; {nearest(str(value), known)}"
            )
        return known[value]

    def integers(self, name: str, default: list[int]) -> list[int]:
        """A list of whole numbers of at least one."""
        values = self._take(name, default)
        if not isinstance(values, list) or not all(
            isinstance(value, int) and not isinstance(value, bool) and 1 <= value < 2**31 for value in values
        ):
            raise self.wrong(name, "a list of whole numbers from 1 to 2³¹ − 1", values)
        return values

    def blocks(self, name: str, default: list[int], *, stages: int) -> list[int]:
        """How many blocks each stage has; refused as too many `layers` are."""
        values = self.integers(name, default)
        if len(values) != stages or sum(values) > self.tensors:
            raise self.wrong(
                name, f"{stages} numbers, together at most {self.tensors}: there are no more tensors", values
            )
        return values

    def fixed(self, name: str, *only: Any) -> None:
        """A value that may only be one of these; the first stands for one that is not given."""
        value = self._take(name, only[0])
        if not any(value == one and type(value) is type(one) for one in only):
            raise self.wrong(name, " or ".join(map(repr, only)) + ", all that glassrun's model can do", value)

    def square(self, name: str, default: int) -> tuple[int, int]:
        """Height and width, from one number or two."""
        value = self.values.get(name, default)
        if isinstance(value, list) and len(value) == 2:
            height, width = self.integers(name, value)
            return height, width
        side = self.integer(name, default)
        return side, side

    def classes(self) -> int:
        """How many classes, from their names; two where nothing is said."""
        labels = self.values.get("id2label")
        if labels is None:
            return self.integer("num_labels", 2)
        if not isinstance(labels, dict) or not labels:
            raise self.wrong("id2label", "the name of every class", labels)
        return len(labels)

    def mapping(self, name: str) -> Settings | None:
        """A mapping inside, or None where there is none."""
        value = self._take(name, None)
        if value is not None and not isinstance(value, dict):
            raise self.wrong(name, "a mapping", value)
        return None if value is None else Settings(value, f"{self.where}: {name}", self.tensors)

    def ignore(self, *names: str) -> None:
        """Values that change no logits of this family."""
        self._taken.update(names)

    def finish(self) -> None:
        """See that every value was taken.

        Raises:
            ModelError: one was not: it could change the logits, and would be ignored.
        """
        left = sorted(map(repr, set(self.values) - self._taken - NO_ARITHMETIC))
        if left:
            raise ModelError(
                f"{self.where}: glassrun does not know what to do with {', '.join(left[:8])}: they may change what the "
                "model computes. If they do not, take them out of the file"
            )

    def wrong(self, name: str, expected: str, found: Any) -> ModelError:
        return ModelError(f"{self.where}: {name}: expected {expected}, found {found!r:.200}")

    def _take(self, name: str, default: Any) -> Any:
        self._taken.add(name)
        return self.values.get(name, default)
