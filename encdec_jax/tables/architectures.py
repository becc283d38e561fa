"""docs/architectures.md: drawings of what sees what, and every published model that has a name here.

python tools/architectures.py
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from encdec_jax.model import declare
from encdec_jax.model.arch import ARCHS, SOURCES
from encdec_jax.model.blocks import BLOCK_SOURCES
from encdec_jax.model.config import ExpertConfig, ModelConfig, StackConfig
from encdec_jax.model.param import leaves
from encdec_jax.model.presets import preset
from encdec_jax.model.streams import streams
from encdec_jax.model.zoo import EFFICIENT, NAMED, SIZES, Named, named

SOURCE, TARGET = 4, 5  # tokens of a drawing
MARKS = {"own": "#", "kept": "K", "final": "F", "layer": "L"}
HEAD = f"""\
# Architectures and published models

Written by `python tools/architectures.py`; `tests/tables/test_architectures.py` compares.

## Architectures

The names of `model.arch`. Each row of a drawing is a query, each column a key: {SOURCE} tokens of a source, then
{TARGET} of a target. `#` is a key of the query's own pass, `F` one made of the final states of the stack that reads the
source, `L` one made of that stack's states of the same layer, `.` a key that is not seen."""
KINDS = """\
## Kinds of layers

Names of `model.block` that change who sees whom, here in the last layer: `K` is a key that a layer before has made."""
MODELS = """\
## Published models

`encdec count --preset NAME` counts one. A stack is layers x d_model, heads/key heads x head_dim, d_ff. A
model's mask is its architecture's drawing; windows narrow what self-attention sees of it. What is missing is
not in `parameters`. Beside what a source publishes stands the difference, and why it is more than 1 %.
`parity`: what its logits are compared with."""


def page() -> str:
    """The page, ending with a line break."""
    kinds = (_kind(name, *source) for name, source in BLOCK_SOURCES.items())
    parts = [HEAD, *(_architecture(name) for name in ARCHS), KINDS, *kinds, MODELS, _table()]
    return "\n\n".join(parts) + "\n"


def summary() -> str:
    """README's table of architectures: a row each, of its choices."""
    head = ("name", "source has its own stream", "sees all of itself", "shared", "decoder reads", "joins by")
    read = {None: "", "final": "final layer", "layers": "layer by layer", "both": "both, added"}
    joins = {None: "", "sublayer": "cross-attention", "merged": "merged keys"}
    rows: list[tuple[str, ...]] = [head]
    for name, arch in ARCHS.items():
        streams = ("yes" if one else "no" for one in (arch.own_stream, arch.source_open))
        states = read[arch.reads] + (", of earlier blocks" if arch.context else "")
        rows.append((f"`{name}`", *streams, arch.shared or "", states, joins[arch.joins]))
    lines = [" ".join(f"| {' | '.join(row)} |".split()) for row in rows]
    return "\n".join([lines[0], "|---" * len(head) + "|", *lines[1:]])


def drawing(config: ModelConfig) -> str:
    """Who sees whom in a model, in a grid of `SOURCE` + `TARGET` queries and keys."""
    apart = config.choices.own_stream
    zeros = np.zeros((1, SOURCE), np.int32), np.zeros((1, TARGET), np.int32)
    source, target = streams(config.choices, *zeros)
    grid = np.full((SOURCE + TARGET, SOURCE + TARGET), ".")
    place = {"source": slice(0, SOURCE), "target": slice(SOURCE if apart else 0, SOURCE + TARGET)}
    tokens = {"source": source, "target": target}
    for edge in declare.edges(config):
        query, key = tokens[edge.query], tokens[edge.key]
        assert query is not None
        assert key is not None
        shown = edge.reads.sees.mask(query, key)[0]
        part = grid[place[edge.query], place[edge.key]]
        part[np.asarray(shown)] = MARKS[edge.reads.states]
    rows = [" ".join(row) for row in grid]
    return "\n".join(f"{'source' if i < SOURCE else 'target'}  {row}" for i, row in enumerate(rows))


def _architecture(name: str) -> str:
    arch = ARCHS[name]
    own = "a stream of its own" if arch.own_stream else "the first part of the target's stream"
    sees = "sees all of itself" if arch.source_open else "sees what precedes it"
    said = f"The source is {own} and {sees}."
    if arch.own_stream:
        read = {
            "final": "the final states",
            "layers": "the states of the same layer",
            "both": "the sum of the last states and a layer's",
        }[arch.reads or "final"]
        how = {"sublayer": "by cross-attention", "merged": "by keys merged into self-attention"}[arch.joins or "merged"]
        said += f" Encoder and decoder share {arch.shared}; the decoder reads {read}, {how}."
    if arch.context:
        said += " An encoder reads it too; the decoder sees its final states of the blocks before, here of 3 tokens."
    model = preset(name, d_model=64, dec_layers=2, vocab_size=256)
    drawn = drawing(replace(model, block_length=3) if arch.context else model)
    return f"### {name}\n\n{SOURCES[name]}. {said}\n\n```\n{drawn}\n```"


def _kind(name: str, arch: str, source: str) -> str:
    drawn = drawing(preset(arch, d_model=64, dec_layers=4, vocab_size=256, block=name))
    return f"### {name}, of {arch}\n\n{source}.\n\n```\n{drawn}\n```"


def _table() -> str:
    head = (
        "name",
        "architecture",
        "encoder",
        "decoder",
        "parts",
        "parameters",
        "published",
        "missing",
        "parity",
        "source",
    )
    rows = [head, ("---",) * len(head)]
    rows += [_model(name) for name in (*NAMED, *(EFFICIENT + size for size in SIZES))]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _model(name: str) -> tuple[str, ...]:
    found = named(name)
    config, n = found.config, sum(param.size for _, param in leaves(declare.model(found.config)))
    encoder = "" if config.encoder is None else _stack(config.encoder)
    return (
        f"`{name}`", f"`{config.arch}`", encoder, _stack(config.decoder), ", ".join(_choices(config)), f"{n:,}",
        _published(found, n), "; ".join(found.lacks), found.parity, found.source,
    )  # fmt: skip


def _stack(size: StackConfig) -> str:
    text = f"{size.n_layers} x {size.d_model}, {size.n_heads}/{size.n_kv_heads} x {size.head_dim}, {size.d_ff}"
    if size.window:
        text += f", window {size.window}" + (f" and {size.ahead} more ahead" if size.ahead else "")
        every = f" but for {'the first' if size.global_first else '1'} in {size.global_every}"
        text += every if size.global_every else ""
    return text + (f", {size.distinct} distinct" if size.distinct else "")


def _choices(config: ModelConfig) -> Iterator[str]:
    yield config.mlp
    yield f"{config.norm} {config.norm_kind}"
    yield f"positions: {config.position}"
    if config.cross_position != "same":
        yield f"across: {config.cross_position}"
    if config.target_positions == "restart":
        yield "the target's begin again"
    if config.block != "standard":
        yield f"block: {config.block}"
    if config.qk_norm or config.qk_scaled_norm:
        yield "QK-norm" + (" with scales" if config.qk_scaled_norm else "")
    norms = {"values": config.v_norm, "what attention gives": config.mixed_norm, "embeddings": config.embedding_norm}
    yield from (f"norm of {name}" for name, held in norms.items() if held)
    if config.local_theta:
        yield f"RoPE's base {config.rope_theta:g}, {config.local_theta:g} with a window"
    if config.score_cap or config.logit_cap:
        yield f"caps of scores {config.score_cap:g}, of logits {config.logit_cap:g}"
    if config.zero_centred:
        yield "scales of norms less 1"
    if config.score_scale:
        yield f"scores times {config.score_scale:g}"
    if config.base_depth:
        yield f"branches times {config.base_depth} / depth"
    if config.rope_share != 1 or config.rope_scaling != "none":
        scaled = "" if config.rope_scaling == "none" else f" {config.rope_scaling} x {config.rope_factor:g}"
        yield f"RoPE: {config.rope_share:.0%} of a head{scaled}"
    yield from (name for name, held in (("sinks", config.sinks), ("keys are values", config.tied_kv)) if held)
    places = {"attention": config.attention_bias != "none", "MLPs": config.mlp_bias, "logits": config.logit_bias}
    if any(places.values()):
        yield "biases: " + " and ".join(place for place, held in places.items() if held)
    if config.experts.number:
        yield _experts(config.experts)
    if config.softmaxes > 1:
        yield f"{config.softmaxes} softmaxes"
    if config.output_transform:
        yield "a transform before the head"
    if not config.first_norm:
        yield "no first norm"
    yield f"embedding: {config.embedding}"
    yield f"tied: {config.tie}"


def _experts(experts: ExpertConfig) -> str:
    where = "each layer" if experts.every == 1 else f"one layer in {experts.every}"
    room = f"capacity {experts.capacity:g}" if experts.capacity else "dropless"
    return f"{experts.chosen} of {experts.number} experts in {where}, {room}"


def _published(found: Named, n: int) -> str:
    if found.published is None:
        return ""
    away = n / found.published - 1
    why = f": {found.why}" if abs(away) > 0.01 else ""
    return f"{found.published / 1e6:,.0f}M ({away:+.1%}{why})".replace("-0.0%", "+0.0%")
