"""Small models of Hugging Face's with random weights, as folders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

transformers = pytest.importorskip("transformers", reason="needs transformers: pip install 'glassrun[hub]'")
transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()

TOKENS = torch.randint(1, 19, (3, 7), generator=torch.Generator().manual_seed(1))
IMAGES = torch.randn(2, 3, 40, 24, generator=torch.Generator().manual_seed(2))


def random(model: nn.Module) -> nn.Module:
    """Every number drawn: norms are no identities, biases no zeros, running averages no defaults."""
    generator = torch.Generator().manual_seed(3)
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if not tensor.is_floating_point() or "rotary" in name:
            continue
        if name.endswith("running_var"):
            tensor.data.uniform_(0.5, 2.0, generator=generator)
        else:
            around = 1.0 if tensor.ndim == 1 and name.endswith("weight") else 0.0
            tensor.data.normal_(around, 0.3, generator=generator)
    return model.eval()


def make(kind: str, config: str, **values: Any) -> nn.Module:
    """A model of transformers', by the names of its class and of its configuration's."""
    return random(getattr(transformers, kind)(getattr(transformers, config)(**values)))


BERT = {
    "vocab_size": 19,
    "hidden_size": 15,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 23,
    "max_position_embeddings": 11,
}
GPT2 = {"vocab_size": 19, "n_positions": 11, "n_embd": 15, "n_layer": 2, "n_head": 3}
LLAMA = {
    "vocab_size": 19,
    "hidden_size": 24,
    "intermediate_size": 37,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "max_position_embeddings": 13,
}
T5 = {"vocab_size": 19, "d_model": 14, "d_kv": 5, "d_ff": 23, "num_layers": 2, "num_heads": 3}
VIT = {
    "hidden_size": 15,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 23,
    "image_size": [40, 24],
    "patch_size": 8,
    "num_labels": 5,
}
RESNET = {"embedding_size": 6, "hidden_sizes": [8, 12, 20], "depths": [1, 2, 1], "num_labels": 5}
CONVNEXT = {"num_stages": 3, "hidden_sizes": [5, 7, 11], "depths": [1, 2, 1], "num_labels": 5}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}

# A name, and what makes the model.
MODELS: dict[str, Callable[[], nn.Module]] = {
    "bert": lambda: make("BertForMaskedLM", "BertConfig", **BERT),
    "bert untied": lambda: make(
        "BertForMaskedLM", "BertConfig", **BERT, tie_word_embeddings=False, hidden_act="gelu_new", type_vocab_size=3
    ),
    "bert classifier": lambda: make("BertForSequenceClassification", "BertConfig", **BERT, num_labels=5),
    "bert alone": lambda: make("BertModel", "BertConfig", **BERT, layer_norm_eps=1e-5),
    "convnext": lambda: make("ConvNextForImageClassification", "ConvNextConfig", **CONVNEXT),
    "convnext without scale": lambda: make(
        "ConvNextForImageClassification", "ConvNextConfig", **CONVNEXT, layer_scale_init_value=0.0, patch_size=2
    ),
    "gpt2": lambda: make("GPT2LMHeadModel", "GPT2Config", **GPT2),
    "gpt2 untied": lambda: make(
        "GPT2LMHeadModel",
        "GPT2Config",
        **GPT2,
        tie_word_embeddings=False,
        n_inner=31,
        activation_function="relu",
        layer_norm_epsilon=1e-3,
    ),
    "llama": lambda: make("LlamaForCausalLM", "LlamaConfig", **LLAMA),
    "llama grouped": lambda: make(
        "LlamaForCausalLM", "LlamaConfig", **LLAMA, num_key_value_heads=2, rope_parameters=LLAMA3
    ),
    "llama yarn": lambda: make(
        "LlamaForCausalLM",
        "LlamaConfig",
        **LLAMA,
        rope_parameters={
            "rope_type": "yarn",
            "rope_theta": 50.0,
            "factor": 4.0,
            "original_max_position_embeddings": 64,
            "beta_fast": 8.0,
        },
    ),
    "llama multi-query": lambda: make(
        "LlamaForCausalLM",
        "LlamaConfig",
        **LLAMA,
        num_key_value_heads=1,
        attention_bias=True,
        mlp_bias=True,
        tie_word_embeddings=True,
        hidden_act="gelu",
        rope_parameters={"rope_type": "linear", "rope_theta": 777.0, "factor": 3.0},
    ),
    "resnet": lambda: make("ResNetForImageClassification", "ResNetConfig", **RESNET),
    "resnet basic": lambda: make(
        "ResNetForImageClassification", "ResNetConfig", **RESNET, layer_type="basic", num_channels=3
    ),
    "t5": lambda: make("T5ForConditionalGeneration", "T5Config", **T5),
    "t5 1.1": lambda: make(
        "T5ForConditionalGeneration", "T5Config", **T5, feed_forward_proj="gated-gelu", tie_word_embeddings=False
    ),
    "t5 deep encoder": lambda: make(
        "T5ForConditionalGeneration", "T5Config", **T5, num_decoder_layers=1, feed_forward_proj="gated-silu"
    ),
    "vit": lambda: make("ViTForImageClassification", "ViTConfig", **VIT),
    "vit tanh": lambda: make("ViTForImageClassification", "ViTConfig", **VIT, hidden_act="gelu_new"),
}


def inputs(name: str) -> tuple[Tensor, ...]:
    """What our model is called with."""
    if name.startswith("t5"):
        source = TOKENS.clone()
        source[1, 4:] = 0  # padding
        return source, TOKENS[:, :5]
    return (TOKENS,) if name.startswith(("bert", "gpt2", "llama")) else (IMAGES,)


@torch.no_grad()
def logits(name: str, model: nn.Module) -> Tensor:
    """What Hugging Face's model says to the same."""
    given = inputs(name)
    if name.startswith("t5"):
        mask = (given[0] != 0).long()
        found = model(input_ids=given[0], attention_mask=mask, decoder_input_ids=given[1])
    else:
        found = model(*given)
    said: Tensor = found.last_hidden_state if name == "bert alone" else found.logits
    return said


def save(name: str, folder: Path, **how: Any) -> nn.Module:
    """Write a model's folder; the model."""
    model = MODELS[name]()
    model.save_pretrained(folder, **how)  # type: ignore[operator]
    return model
