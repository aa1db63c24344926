"""Transformers: ViT, BERT, GPT-2, Llama, and tiny ones for tests."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np

from pimloom.frontends.zoo.layers import BATCH_NORM_STD, BIAS_STD, GAIN, linear, scalar
from pimloom.frontends.zoo.model import Model, table
from pimloom.ir.builder import GraphBuilder
from pimloom.ir.graph import Graph

EMBEDDING_STD = 0.02
# Queries and keys are drawn a little larger than unit variance asks: attention then prefers some tokens, as a trained
# network's does. With unit variance it is nearly the mean over all tokens, and its output nearly constant.
ATTENTION_GAIN = 1.25
# Large enough that a masked token weighs less than float32 resolves, small enough that an 8-bit scale of the masked
# scores still tells the others apart; -1e9 or -inf would leave it one code for all of them.
MASKED = -30.0


@final
@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of a transformer.

    Attributes:
        tokens: length of the sequence.
        width: features of a token.
        layers: number of blocks.
        heads: attention heads; each has width / heads features.
        kv_heads: heads of keys and values; queries share them in equal groups.
        hidden: features inside the feed-forward network.
        vocabulary: number of token ids; 0 where the input is no text.
    """

    tokens: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    hidden: int
    vocabulary: int = 0

    @property
    def head_width(self) -> int:
        """Features of one head."""
        return self.width // self.heads

    @property
    def branch_gain(self) -> float:
        """Gain of the layer that ends a branch: all 2 * layers of them together add about unit variance."""
        return 1.0 / math.sqrt(2 * self.layers)


def _layer_norm(b: GraphBuilder, x: str, name: str, epsilon: float) -> str:
    width = (b.type_of(x).shape[-1],)
    scale = b.seeded(f"{name}.weight", width, mean=1.0, std=BATCH_NORM_STD)
    shift = b.seeded(f"{name}.bias", width, std=BIAS_STD)
    return b.add("LayerNormalization", x, scale, shift, name=name, axis=-1, epsilon=epsilon)


def _rms_norm(b: GraphBuilder, x: str, name: str) -> str:
    scale = b.seeded(f"{name}.weight", (b.type_of(x).shape[-1],), mean=1.0, std=BATCH_NORM_STD)
    return b.add("RMSNormalization", x, scale, name=name, axis=-1, epsilon=1e-5)


def _split_heads(b: GraphBuilder, x: str, name: str, heads: int) -> str:
    """[1, tokens, heads * w] to [1, heads, tokens, w]."""
    _, tokens, width = b.type_of(x).shape
    x = b.add("Reshape", x, name=f"{name}.heads", shape=(1, tokens, heads, width // heads))
    return b.add("Transpose", x, name=f"{name}.transposed", perm=(0, 2, 1, 3))


def _merge_heads(b: GraphBuilder, x: str, name: str) -> str:
    """[1, heads, tokens, w] to [1, tokens, heads * w]."""
    _, heads, tokens, width = b.type_of(x).shape
    x = b.add("Transpose", x, name=f"{name}.transposed", perm=(0, 2, 1, 3))
    return b.add("Reshape", x, name=f"{name}.merged", shape=(1, tokens, heads * width))


def _attend(b: GraphBuilder, q: str, k: str, v: str, name: str, mask: str = "") -> str:
    """Computes softmax(q k^T / sqrt(w) + mask) v for [1, heads, tokens, w]; result [1, tokens, heads * w]."""
    head_width = b.type_of(q).shape[-1]
    keys = b.add("Transpose", k, name=f"{name}.keys", perm=(0, 1, 3, 2))
    scores = b.add("MatMul", q, keys, name=f"{name}.products")
    scores = b.add("Mul", scores, scalar(b, f"{name}.scale", 1.0 / math.sqrt(head_width)), name=f"{name}.scores")
    if mask:
        scores = b.add("Add", scores, mask, name=f"{name}.masked")
    weights = b.add("Softmax", scores, name=f"{name}.softmax", axis=-1)
    return _merge_heads(b, b.add("MatMul", weights, v, name=f"{name}.context"), f"{name}.context")


def _separate_projections(b: GraphBuilder, x: str, name: str, heads: int) -> tuple[str, ...]:
    """Queries, keys and values from three layers, as BERT has them."""
    width = b.type_of(x).shape[-1]
    gains = (("query", ATTENTION_GAIN), ("key", ATTENTION_GAIN), ("value", 1.0))
    return tuple(_split_heads(b, linear(b, x, f"{name}.{part}", width, gain=gain), f"{name}.{part}", heads)
                 for part, gain in gains)  # fmt: skip


def _joint_projection(b: GraphBuilder, x: str, name: str, heads: int) -> tuple[str, ...]:
    """Queries, keys and values from one layer of three times the width, then split, as GPT-2 and ViT have them."""
    width = b.type_of(x).shape[-1]
    joint = linear(b, x, f"{name}.qkv", 3 * width, gain=ATTENTION_GAIN)
    parts = b.add_many("Split", joint, name=f"{name}.split", outputs=3, axis=-1, sizes=(width,) * 3)
    return tuple(_split_heads(b, part, f"{name}.{which}", heads) for part, which in zip(parts, "qkv", strict=True))


def _feed_forward(b: GraphBuilder, x: str, name: str, shape: Shape, gain: float, approximate: str) -> str:
    y = linear(b, x, f"{name}.fc1", shape.hidden)
    y = b.add("Gelu", y, name=f"{name}.gelu", approximate=approximate)
    return linear(b, y, f"{name}.fc2", shape.width, gain=gain * GAIN["gelu"])


def _pre_norm_block(
    b: GraphBuilder, x: str, name: str, shape: Shape, *,
    mask: str = "", epsilon: float = 1e-5, approximate: str = "none",
) -> str:  # fmt: skip
    """Attention and feed-forward network, each x + branch(norm(x)): GPT-2 and ViT."""
    y = _layer_norm(b, x, f"{name}.norm1", epsilon)
    q, k, v = _joint_projection(b, y, f"{name}.attn", shape.heads)
    y = _attend(b, q, k, v, f"{name}.attn", mask)
    x = b.add("Add", x, linear(b, y, f"{name}.attn.proj", shape.width, gain=shape.branch_gain), name=f"{name}.add1")
    y = _layer_norm(b, x, f"{name}.norm2", epsilon)
    y = _feed_forward(b, y, f"{name}.mlp", shape, shape.branch_gain, approximate)
    return b.add("Add", x, y, name=f"{name}.add2")


def _post_norm_block(b: GraphBuilder, x: str, name: str, shape: Shape) -> str:
    """Attention and feed-forward network, each norm(x + branch(x)): BERT."""
    q, k, v = _separate_projections(b, x, f"{name}.attention", shape.heads)
    y = linear(b, _attend(b, q, k, v, f"{name}.attention"), f"{name}.attention.output", shape.width)
    x = _layer_norm(b, b.add("Add", y, x, name=f"{name}.add1"), f"{name}.norm1", 1e-12)
    y = _feed_forward(b, x, f"{name}.ffn", shape, 1.0, "none")
    return _layer_norm(b, b.add("Add", y, x, name=f"{name}.add2"), f"{name}.norm2", 1e-12)


def _rows_of_positions(b: GraphBuilder, name: str, rows: int, width: int, tokens: int) -> str:
    """The first rows of a learned table of positions, [1, tokens, width]."""
    positions = b.seeded(f"{name}.weight", (1, rows, width), std=EMBEDDING_STD)
    return b.add("Slice", positions, name=name, starts=(0,), ends=(tokens,), axes=(1,), steps=(1,))


def _causal_mask(b: GraphBuilder, tokens: int) -> str:
    """float32[1, 1, tokens, tokens]: 0 where a token may look, MASKED ahead of it."""
    ahead = np.triu(np.ones((tokens, tokens), np.float32), k=1)
    return b.constant("causal_mask", (ahead * np.float32(MASKED))[None, None])


def _tied_embedding(b: GraphBuilder, name: str, shape: Shape) -> str:
    """Table of token vectors whose products with normalised features have unit variance, for use as output weights."""
    return b.seeded(name, (shape.vocabulary, shape.width), std=1.0 / math.sqrt(shape.width))


def _tied_logits(b: GraphBuilder, x: str, embedding: str, shape: Shape) -> str:
    """Scores of all tokens by the embedding table itself."""
    rows = b.add("Reshape", x, name="lm_head.rows", shape=(shape.tokens, shape.width))
    logits = b.add("Gemm", rows, embedding, name="lm_head", alpha=1.0, beta=1.0, transA=0, transB=1)
    return b.add("Reshape", logits, name="logits", shape=(1, shape.tokens, shape.vocabulary))


def _vit(name: str, shape: Shape, patch: int, image: int) -> Callable[[int], Graph]:
    def build(seed: int) -> Graph:
        b = GraphBuilder(name, seed)
        x = _patches(b, b.input("image", (1, 3, image, image)), shape, patch)
        for layer in range(shape.layers):
            x = _pre_norm_block(b, x, f"blocks.{layer}", shape, epsilon=1e-6)
        x = _layer_norm(b, x, "norm", 1e-6)
        x = b.add("Slice", x, name="class", starts=(0,), ends=(1,), axes=(1,), steps=(1,))
        x = b.add("Reshape", x, name="class.row", shape=(1, shape.width))
        weight = b.seeded("head.weight", (1000, shape.width), std=1.0 / math.sqrt(shape.width))
        bias = b.seeded("head.bias", (1000,), std=BIAS_STD)
        return b.finish(b.add("Gemm", x, weight, bias, name="head", alpha=1.0, beta=1.0, transA=0, transB=1))

    return build


def _patches(b: GraphBuilder, image: str, shape: Shape, patch: int) -> str:
    """Embedded patches behind the class token, with positions added: [1, 1 + patches, width]."""
    weight = b.seeded("patch_embed.weight", (shape.width, 3, patch, patch), std=1.0 / math.sqrt(3 * patch * patch))
    bias = b.seeded("patch_embed.bias", (shape.width,), std=BIAS_STD)
    x = b.add(
        "Conv", image, weight, bias, name="patch_embed", kernel_shape=(patch, patch), strides=(patch, patch),
        pads=(0, 0, 0, 0), dilations=(1, 1), group=1,
    )  # fmt: skip
    x = b.add("Reshape", x, name="patch_embed.flat", shape=(1, shape.width, shape.tokens - 1))
    x = b.add("Transpose", x, name="patch_embed.rows", perm=(0, 2, 1))
    x = b.add("Concat", b.seeded("cls_token", (1, 1, shape.width)), x, name="tokens", axis=1)
    return b.add("Add", x, b.seeded("pos_embed", (1, shape.tokens, shape.width), std=0.5), name="embedded")


def _bert(name: str, shape: Shape, positions: int) -> Callable[[int], Graph]:
    def build(seed: int) -> Graph:
        b = GraphBuilder(name, seed)
        x = _bert_embeddings(b, shape, positions)
        for layer in range(shape.layers):
            x = _post_norm_block(b, x, f"encoder.{layer}", shape)
        first = b.add("Slice", x, name="pooler.first", starts=(0,), ends=(1,), axes=(1,), steps=(1,))
        first = b.add("Reshape", first, name="pooler.row", shape=(1, shape.width))
        pooled = b.add("Tanh", linear(b, first, "pooler.dense", shape.width), name="pooled")
        return b.finish(x, pooled)

    return build


def _bert_embeddings(b: GraphBuilder, shape: Shape, positions: int) -> str:
    ids = b.input("input_ids", (1, shape.tokens), "int64")
    segments = b.input("token_type_ids", (1, shape.tokens), "int64")
    words = b.seeded("embeddings.word.weight", (shape.vocabulary, shape.width), std=EMBEDDING_STD)
    types = b.seeded("embeddings.token_type.weight", (2, shape.width), std=EMBEDDING_STD)
    x = b.add(
        "Add",
        b.add("Gather", words, ids, name="embeddings.word", axis=0),
        b.add("Gather", types, segments, name="embeddings.token_type", axis=0),
        name="embeddings.typed",
    )
    place = _rows_of_positions(b, "embeddings.position", positions, shape.width, shape.tokens)
    return _layer_norm(b, b.add("Add", x, place, name="embeddings.sum"), "embeddings.norm", 1e-12)


def _gpt2(name: str, shape: Shape, positions: int) -> Callable[[int], Graph]:
    def build(seed: int) -> Graph:
        b = GraphBuilder(name, seed)
        ids = b.input("input_ids", (1, shape.tokens), "int64")
        embedding = _tied_embedding(b, "wte.weight", shape)
        x = b.add("Gather", embedding, ids, name="wte", axis=0)
        x = b.add("Add", x, _rows_of_positions(b, "wpe", positions, shape.width, shape.tokens), name="embedded")
        mask = _causal_mask(b, shape.tokens)
        for layer in range(shape.layers):
            x = _pre_norm_block(b, x, f"h.{layer}", shape, mask=mask, approximate="tanh")
        return b.finish(_tied_logits(b, _layer_norm(b, x, "ln_f", 1e-5), embedding, shape))

    return build


def _rotary_tables(b: GraphBuilder, shape: Shape) -> tuple[str, str]:
    """Cosine and sine of position times frequency, float32[1, 1, tokens, head_width]; halves alike."""
    frequency = 10000.0 ** (-np.arange(0, shape.head_width, 2) / shape.head_width)
    angle = np.arange(shape.tokens)[:, None] * np.concatenate([frequency, frequency])[None, :]
    return (
        b.constant("rotary.cos", np.cos(angle).astype(np.float32)[None, None]),
        b.constant("rotary.sin", np.sin(angle).astype(np.float32)[None, None]),
    )


def _rotate(b: GraphBuilder, x: str, name: str, tables: tuple[str, str]) -> str:
    """Turns each pair (lower, upper half of x) by its angle: x * cos + (-upper, lower) * sin."""
    width = b.type_of(x).shape[-1]
    lower = b.add("Slice", x, name=f"{name}.lower", starts=(0,), ends=(width // 2,), axes=(3,), steps=(1,))
    upper = b.add("Slice", x, name=f"{name}.upper", starts=(width // 2,), ends=(width,), axes=(3,), steps=(1,))
    turned = b.add("Concat", b.add("Neg", upper, name=f"{name}.negated"), lower, name=f"{name}.turned", axis=-1)
    return b.add(
        "Add",
        b.add("Mul", x, tables[0], name=f"{name}.times_cos"),
        b.add("Mul", turned, tables[1], name=f"{name}.times_sin"),
        name=f"{name}.rotated",
    )


def _share_heads(b: GraphBuilder, x: str, name: str, shape: Shape) -> str:
    """[1, kv_heads, tokens, w] to [1, heads, tokens, w]: each head serves a group of queries."""
    group = shape.heads // shape.kv_heads
    if group == 1:
        return x
    full = (1, shape.kv_heads, group, shape.tokens, shape.head_width)
    x = b.add("Unsqueeze", x, name=f"{name}.grouped", axes=(2,))
    x = b.add("Expand", x, name=f"{name}.expanded", shape=full)
    return b.add("Reshape", x, name=f"{name}.shared", shape=(1, shape.heads, shape.tokens, shape.head_width))


def _llama_attention(b: GraphBuilder, x: str, name: str, shape: Shape, tables: tuple[str, str], mask: str) -> str:
    kv_width = shape.kv_heads * shape.head_width
    q = linear(b, x, f"{name}.q_proj", shape.width, gain=ATTENTION_GAIN, bias=False)
    k = linear(b, x, f"{name}.k_proj", kv_width, gain=ATTENTION_GAIN, bias=False)
    v = linear(b, x, f"{name}.v_proj", kv_width, bias=False)
    q = _rotate(b, _split_heads(b, q, f"{name}.q", shape.heads), f"{name}.q", tables)
    k = _rotate(b, _split_heads(b, k, f"{name}.k", shape.kv_heads), f"{name}.k", tables)
    v = _split_heads(b, v, f"{name}.v", shape.kv_heads)
    y = _attend(b, q, _share_heads(b, k, f"{name}.k", shape), _share_heads(b, v, f"{name}.v", shape), name, mask)
    return linear(b, y, f"{name}.o_proj", shape.width, gain=shape.branch_gain, bias=False)


def _swiglu(b: GraphBuilder, x: str, name: str, shape: Shape) -> str:
    """down(SiLU(gate(x)) * up(x))."""
    gate = linear(b, x, f"{name}.gate_proj", shape.hidden, bias=False)
    gate = b.add("Mul", gate, b.add("Sigmoid", gate, name=f"{name}.sigmoid"), name=f"{name}.silu")
    up = linear(b, x, f"{name}.up_proj", shape.hidden, bias=False)
    product = b.add("Mul", gate, up, name=f"{name}.product")
    return linear(b, product, f"{name}.down_proj", shape.width, gain=shape.branch_gain * GAIN["silu"], bias=False)


def _llama(name: str, shape: Shape) -> Callable[[int], Graph]:
    def build(seed: int) -> Graph:
        b = GraphBuilder(name, seed)
        ids = b.input("input_ids", (1, shape.tokens), "int64")
        embedding = _tied_embedding(b, "embed_tokens.weight", shape)
        x = b.add("Gather", embedding, ids, name="embed_tokens", axis=0)
        tables, mask = _rotary_tables(b, shape), _causal_mask(b, shape.tokens)
        for layer in range(shape.layers):
            place = f"layers.{layer}"
            y = _llama_attention(b, _rms_norm(b, x, f"{place}.norm1"), f"{place}.self_attn", shape, tables, mask)
            x = b.add("Add", x, y, name=f"{place}.add1")
            y = _swiglu(b, _rms_norm(b, x, f"{place}.norm2"), f"{place}.mlp", shape)
            x = b.add("Add", x, y, name=f"{place}.add2")
        return b.finish(_tied_logits(b, _rms_norm(b, x, "norm"), embedding, shape))

    return build


def _encoder(name: str, shape: Shape) -> Callable[[int], Graph]:
    """Pre-norm blocks on real-valued tokens, without embedding or head."""

    def build(seed: int) -> Graph:
        b = GraphBuilder(name, seed)
        x = b.input("tokens", (1, shape.tokens, shape.width))
        for layer in range(shape.layers):
            x = _pre_norm_block(b, x, f"blocks.{layer}", shape)
        return b.finish(_layer_norm(b, x, "norm", 1e-5))

    return build


_VIT_TINY = Shape(tokens=197, width=192, layers=12, heads=3, kv_heads=3, hidden=768)
_BERT_BASE = Shape(tokens=128, width=768, layers=12, heads=12, kv_heads=12, hidden=3072, vocabulary=30522)
_GPT2 = Shape(tokens=128, width=768, layers=12, heads=12, kv_heads=12, hidden=3072, vocabulary=50257)
_LLAMA_SMALL = Shape(tokens=128, width=512, layers=4, heads=8, kv_heads=4, hidden=1376, vocabulary=32000)
_TINY = Shape(tokens=8, width=16, layers=1, heads=2, kv_heads=2, hidden=32)
_TINY_GPT = Shape(tokens=8, width=16, layers=1, heads=2, kv_heads=2, hidden=32, vocabulary=40)
_TINY_LLAMA = Shape(tokens=8, width=16, layers=1, heads=4, kv_heads=2, hidden=24, vocabulary=40)

_TINY_TAGS = frozenset({"tiny", "small"})

MODELS = table(
    (
        Model(
            "vit_tiny",
            _vit("vit_tiny", _VIT_TINY, 16, 224),
            "Vision transformer: 196 patches of 16x16 and a class token, width 192, 12 layers, 3 heads.",
            "Dosovitskiy et al., An image is worth 16x16 words, ICLR 2021; Touvron et al., DeiT-Ti, ICML 2021; timm",
            "transformer",
            parameters=5_717_416,
            macs=1_260_000_000,
        ),
        Model(
            "bert_base",
            _bert("bert_base", _BERT_BASE, 512),
            "BERT encoder with pooler at 128 tokens, all of them attended to.",
            "Devlin et al., BERT, NAACL 2019; MACs: Jiao et al., TinyBERT, EMNLP Findings 2020, Table 1 (22.5 GFLOP)",
            "transformer",
            frozenset({"large"}),
            parameters=109_482_240,
            macs=11_250_000_000,
        ),
        Model(
            "gpt2",
            _gpt2("gpt2", _GPT2, 1024),
            "GPT-2 of 124M parameters reading 128 tokens at once, with a causal mask and tied output weights.",
            "Radford et al., Language models are unsupervised multitask learners, 2019; Hugging Face gpt2",
            "transformer",
            frozenset({"large"}),
            parameters=124_439_808,
        ),
        Model(
            "llama_small",
            _llama("llama_small", _LLAMA_SMALL),
            "Small Llama: 4 layers, width 512, 8 heads on 4 key-value heads, rotary positions, SwiGLU, 128 tokens.",
            "Touvron et al., Llama 2, arXiv:2307.09288, 2023 (structure); the size is pimloom's",
            "transformer",
        ),
        Model(
            "tiny_transformer",
            _encoder("tiny_transformer", _TINY),
            "One encoder block on 8 tokens of 16 features with 2 heads, for tests.",
            "pimloom",
            "transformer",
            _TINY_TAGS,
        ),
        Model(
            "tiny_gpt",
            _gpt2("tiny_gpt", _TINY_GPT, 16),
            "GPT-2 of one layer on 8 tokens of 16 features, for tests.",
            "pimloom",
            "transformer",
            _TINY_TAGS,
        ),
        Model(
            "tiny_llama",
            _llama("tiny_llama", _TINY_LLAMA),
            "Llama of one layer on 8 tokens of 16 features, 4 heads on 2 key-value heads, for tests.",
            "pimloom",
            "transformer",
            _TINY_TAGS,
        ),
    )
)
