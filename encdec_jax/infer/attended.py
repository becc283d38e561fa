"""`encdec evaluate --attention`: where a run's attentions look on held-out text, layer by layer."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import jax
import numpy as np
from flax import nnx

from encdec_jax.data.heldout import at_most, eval_batch
from encdec_jax.data.packing import Batch
from encdec_jax.errors import require
from encdec_jax.infer.score_task import place
from encdec_jax.infer.score_text import opened
from encdec_jax.model.blocks import ends, plans, source_stream
from encdec_jax.model.config import ModelConfig
from encdec_jax.model.model import graph
from encdec_jax.model.parts.looked import MOST, WINDOW, Looked
from encdec_jax.model.parts.sublayer import looks
from encdec_jax.train.objects import put_json

ATTENTION = "attention.json"


@dataclass(frozen=True)
class Attended:
    """Where one attention looks, on the mean of rows and heads; None where it has no such keys.

    Attributes:
      stream: whose queries look: 'source' (or the context) or 'target'.
      layer: of its stack, from 0.
      local: weight on the `encdec_jax.model.parts.looked.WINDOW` nearest keys of its own stream, by the query's place.
      source: weight on the source's keys.
      entropy: of the weights on those, scaled to a sum of 1, in bits; at most `uniform`.
      common: the same of their mean over a row's queries; near `entropy` where all queries look at the same tokens.
      most: share of that mean on the `MOST` source tokens of most weight.
      uniform: bits of equal weights on the source's keys.
    """

    stream: str
    layer: int
    local: tuple[float, ...] | None
    source: float | None
    entropy: float | None
    common: float | None
    most: float | None
    uniform: float | None


@dataclass(frozen=True)
class Attentions:
    """Where all look.

    Attributes:
      path: of the file that holds them.
      found: the source's in order, then the target's.
      rows: of held-out text.
    """

    path: Path
    found: tuple[Attended, ...]
    rows: int


def score_attention(folder: Path, task: str, split: str) -> Attentions:
    """See where the attentions of a run look, on the held-out rows of the fair loss.

    Args:
      folder: of the run.
      task: of text, prepared in the run's vocabulary.
      split: of it.

    Raises:
      UserError: the run has no checkpoint; the task is not prepared in its vocabulary, is of pairs, has no such split
        or fewer than two windows; or something of the model's reads otherwise than by weights.
    """
    run, params, cache = opened(folder, task, split)
    accepted = "one whose rows keep their length, to show where attentions look"
    require(ends(run.model) == 1, "model.block", run.model.block, accepted)
    data = replace(run.data, task=task, eval_split=split)
    rows, _ = eval_batch(cache, run.model.choices, data, at_most(cache, data, run.evaluate))
    model = replace(run.model, attention="plain")  # no fused kernel gives its weights
    built, n, size = graph(model), len(rows.labels), min(run.evaluate.batch_size, len(rows.labels))

    @jax.jit
    def looked(params: nnx.State, batch: Batch) -> dict[str, Looked | None]:
        return nnx.merge(built, params).looked(batch.source, batch.target)

    check_shown(model, jax.eval_shape(looked, params, rows))
    batches = []
    for first in range(0, n, size):
        take = np.minimum(np.arange(first, first + size), n - 1)
        some = jax.device_get(looked(params, jax.tree.map(lambda leaf, take=take: leaf[take], rows)))
        batches.append(jax.tree.map(lambda leaf, first=first: leaf[:, : min(size, n - first)].astype(np.float64), some))
    every = jax.tree.map(lambda *parts: np.concatenate(parts, axis=1).mean(axis=1), *batches)
    tokens = rows.target.tokens.shape[1] if rows.source is None else rows.source.tokens.shape[1]
    found = [
        _attended(stream, layer, jax.tree.map(lambda leaf, i=i: leaf[i], every[stream]), tokens)
        for stream in sorted(every)
        if every[stream] is not None
        for i, layer in enumerate(attending(model, stream))
    ]
    path = place(folder, task, split) / ATTENTION
    put_json(path, {"window": WINDOW, "most": MOST, "rows": n, "attentions": [asdict(one) for one in found]})
    return Attentions(path, tuple(found), n)


def check_shown(model: ModelConfig, found: Mapping[str, Looked | None]) -> None:
    """Check that everything that reads in a model showed its weights, and that something did.

    Raises:
      UserError: it did not.
    """
    shown = {stream: 0 if one is None else len(one.local) for stream, one in found.items()}
    reading = {stream: len(list(attending(model, stream))) for stream in found}
    sound = shown == reading and any(shown.values())
    require(sound, "model.block", model.block, "one that reads by attention's weights, to show where these look")


def attending(model: ModelConfig, stream: str) -> Iterator[int]:
    """The layer of each attention of a stream's pass, in order."""
    stacks = plans(model)
    plan = stacks.get("encoder", stacks["decoder"]) if stream == "source" else stacks["decoder"]
    name = source_stream(model) if stream == "source" else "target"
    layer = 0
    for segment in plan.segments:
        for block in segment.period * segment.times:
            yield from [layer for sub in block if looks(sub.layer, name)]
            layer += 1


def _attended(stream: str, layer: int, one: Looked, tokens: int) -> Attended:
    """Of means over rows: by queries, or of all of them."""
    numbers = {name: float(np.mean(getattr(one, name))) for name in ("source", "entropy", "common", "most")}
    known = not math.isnan(numbers["source"])
    local = tuple(round(float(weight), 6) for weight in one.local)
    return Attended(
        stream,
        layer,
        None if any(math.isnan(weight) for weight in local) else local,
        **{name: round(number, 6) if known else None for name, number in numbers.items()},
        uniform=math.log2(tokens) if known else None,
    )
