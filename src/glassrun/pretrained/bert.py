"""BERT: Hugging Face's BertForMaskedLM, BertForSequenceClassification and BertModel."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial

from torch import nn

from glassrun.models.encoder import Encoder, MaskedLanguageModel, TextClassifier
from glassrun.pretrained.activations import ACTIVATIONS
from glassrun.pretrained.dropout import set_dropout
from glassrun.pretrained.plan import Plan, Source, layers, same, stacked, weight_and_bias
from glassrun.pretrained.settings import Settings

EMBEDDINGS = {
    "embedding.weight": same("embeddings.word_embeddings.weight"),
    "segments.weight": same("embeddings.token_type_embeddings.weight"),
    "positions.weight": same("embeddings.position_embeddings.weight"),
    **weight_and_bias({"embedding_norm": "embeddings.LayerNorm"}),
}
LAYER = {
    **{
        f"attention.projections.{part}": stacked(
            f"attention.self.query.{part}", f"attention.self.key.{part}", f"attention.self.value.{part}"
        )
        for part in ("weight", "bias")
    },
    **weight_and_bias(
        {
            "attention.output": "attention.output.dense",
            "attention_residual.norm": "attention.output.LayerNorm",
            "feed_forward.expand": "intermediate.dense",
            "feed_forward.contract": "output.dense",
            "feed_forward_residual.norm": "output.LayerNorm",
        }
    ),
}
POOLER = weight_and_bias({"pooler": "pooler.dense"})
MASKED_LANGUAGE_MODEL = weight_and_bias(
    {"transform": "cls.predictions.transform.dense", "norm": "cls.predictions.transform.LayerNorm"}
)
BIAS = "cls.predictions.bias"
OUTPUT, OUTPUT_BIAS = "cls.predictions.decoder.weight", "cls.predictions.decoder.bias"
PLACES = "embeddings.position_ids"  # of older files: 0, 1, 2, …
ENDINGS = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}  # of the oldest
CLASSIFIER = weight_and_bias({"classify": "classifier"})


def plan(settings: Settings, names: Collection[str]) -> Plan:
    """The masked language model, the classifier or the encoder alone, as the names of the file say."""
    settings.fixed("position_embedding_type", "absolute")
    settings.fixed("is_decoder", False)
    settings.fixed("add_cross_attention", False)
    settings.fixed("pruned_heads", {})
    settings.ignore(  # of the library that BERT came from; in those for Chinese and for many languages
        "directionality",
        "pooler_fc_size",
        "pooler_num_attention_heads",
        "pooler_num_fc_layers",
        "pooler_size_per_head",
        "pooler_type",
    )
    dropout = settings.share("hidden_dropout_prob", 0.1)
    attention = settings.share("attention_probs_dropout_prob", 0.1)
    head_dropout = settings.share("classifier_dropout", dropout)
    activation = settings.choice("hidden_act", "gelu", ACTIVATIONS)
    eps = settings.number("layer_norm_eps", 1e-12)
    tied = settings.flag("tie_word_embeddings", True)
    num_classes = settings.classes()
    num_layers = settings.layers("num_hidden_layers", 12)
    masked, classifies = BIAS in names, "classifier.weight" in names
    pooler = classifies or (not masked and any(name.endswith("pooler.dense.weight") for name in names))
    make = partial(
        Encoder,
        vocabulary_size=settings.integer("vocab_size", 30522),
        max_length=settings.integer("max_position_embeddings", 512),
        num_segments=settings.integer("type_vocab_size", 2),
        num_layers=num_layers,
        d_model=settings.integer("hidden_size", 768),
        num_heads=settings.integer("num_attention_heads", 12),
        d_ff=settings.integer("intermediate_size", 3072),
        activation=activation,
        eps=eps,
        pooler=pooler,
    )

    def build() -> nn.Module:
        encoder = set_dropout(make(), dropout, attention=attention)
        if masked:
            return MaskedLanguageModel(encoder, activation=activation, eps=eps, tie_embeddings=tied)
        return TextClassifier(encoder, num_classes, dropout=head_dropout) if classifies else encoder

    own = EMBEDDINGS | layers(num_layers, "layers.{}.", "encoder.layer.{}.", LAYER) | (POOLER if pooler else {})
    found = partial(Plan, build, prefix="bert.", endings=ENDINGS)
    if not (masked or classifies):
        return found(sources=own, derived={PLACES})
    inside: dict[str, Source] = {f"encoder.{name}": source for name, source in own.items()}
    if classifies:
        return found(sources=inside | CLASSIFIER, derived={PLACES})
    inside |= MASKED_LANGUAGE_MODEL
    if tied:
        ties = {OUTPUT: "embeddings.word_embeddings.weight", OUTPUT_BIAS: BIAS}
        return found(sources=inside | {"output.bias": same(BIAS)}, ties=ties, derived={PLACES})
    output = {"output.weight": same(OUTPUT), "output.bias": same(OUTPUT_BIAS)}
    return found(sources=inside | output, derived={PLACES, BIAS})  # which then has no part in the logits
