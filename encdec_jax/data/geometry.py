"""How large a run is: the static shape of a row of training, the rows of an update, the updates.

A window of L + 1 tokens w gives L inputs w[:-1] and L labels w[1:]. A prefix of k inputs is the source, the rest the
target, so every architecture reads the same tokens, with no separator and no start token between them:

    source = inputs[:k]        target = inputs[k:]        labels = labels[k:]

Span corruption and pairs have a source and a target of their own; there the target's inputs are its labels shifted
right behind `START`.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import lcm

from encdec_jax.config import RunConfig
from encdec_jax.data.config import DataConfig, ObjectiveConfig
from encdec_jax.errors import require
from encdec_jax.model.arch import Arch


@dataclass(frozen=True)
class Layout:
    """Lengths of one row, in tokens.

    Attributes:
      windows: windows of text in a row.
      source: length of the source stream; 0 where the source has none of its own.
      target: length of the target stream.
      scored: last positions of the target for which logits are computed.
      segments: (source tokens, target tokens, expected number a row) of each kind of segment in a row.
    """

    windows: int
    source: int
    target: int
    scored: int
    segments: tuple[tuple[int, int, float], ...]


@dataclass(frozen=True)
class Geometry:
    """What a run reads, and in which portions.

    Attributes:
      layout: of one row.
      windows: of an update (packed rows, of pairs); `train.batch_size`.
      unit: windows that a batch size must be a multiple of: whole rows of every microbatch on every device, and whole
        draws of the objective.
      draw: windows that the objective draws for at once.
      updates: of the run, those that come nearest to `train.tokens`; at least one.
      window_tokens: tokens of a window, as `train.tokens` counts them.
      sequence: tokens of source and target of one sequence at inference: a pair's, or the parts of a window of text;
        where windows are not cut, or at random, the cut is in the middle.
    """

    layout: Layout
    windows: int
    unit: int
    draw: int
    updates: int
    window_tokens: int
    sequence: tuple[int, int]

    @property
    def rows(self) -> int:
        """Of an update, over all devices and microbatches."""
        return self.windows // self.layout.windows

    @property
    def update_tokens(self) -> int:
        """Tokens of an update."""
        return self.windows * self.window_tokens

    @property
    def tokens(self) -> int:
        """Tokens of all updates."""
        return self.updates * self.update_tokens


def geometry(run: RunConfig) -> Geometry:
    """The geometry of a run.

    Raises:
      UserError: as `layout`.
    """
    data, objective, train = run.data, run.objective, run.train
    row = layout(run.model.choices, data, objective)
    tokens = data.source_length + data.target_length if objective.name == "seq2seq" else data.length
    random = objective.name == "prefix_lm" and objective.prefix == "random"
    draw = 2 if random else 1
    source, target, _ = row.segments[0]
    if random or objective.name == "causal_lm":
        source, target = data.length // 2, data.length - data.length // 2
    return Geometry(
        layout=row,
        windows=train.batch_size,
        unit=lcm(row.windows * train.accumulate * run.mesh.shards, draw),
        draw=draw,
        updates=max(1, round(train.tokens / (train.batch_size * tokens))),
        window_tokens=tokens,
        sequence=(source, target),
    )


def check_rows(run: RunConfig) -> None:
    """Refuse a batch that the mesh and the microbatches do not divide.

    Raises:
      UserError: its rows do not.
    """
    rows, shards, parts = geometry(run).rows, run.mesh.shards, run.train.accumulate
    require(
        rows % (shards * parts) == 0,
        "train.batch_size",
        run.train.batch_size,
        f"a number whose {rows} rows divide by mesh.data x mesh.fsdp x train.accumulate = {shards} x {parts}",
    )


def prefix_length(length: int, objective: ObjectiveConfig) -> int:
    """Inputs of a window of `length` that are its source, where 'prefix_lm' cuts every window at one place."""
    return objective.prefix_length if objective.prefix == "fixed" else length // 2


def span_lengths(length: int, noise_density: float, mean_span: float) -> tuple[int, int, int]:
    """(noise tokens, source length, target length) of span corruption over `length` tokens of text.

    Each of the n spans leaves one sentinel in the source; the target holds, for each span, its sentinel and its
    tokens, and one final sentinel (T5, arXiv 1910.10683, section 3.1.4). Every row is full by construction.
    """
    noise = min(max(round(length * noise_density), 1), length - 1)
    spans = min(max(round(noise / mean_span), 1), noise, length - noise)
    return noise, length - noise + spans, noise + spans + 1


def layout(arch: Arch, data: DataConfig, objective: ObjectiveConfig) -> Layout:
    """The layout of one row.

    Raises:
      UserError: the objective needs a source stream's absence or presence that the architecture does not give.
    """
    length = data.length
    if objective.name == "causal_lm":
        require(not arch.own_stream, "objective.name", "causal_lm", "an objective with a source for this architecture")
        return Layout(1, 0, length, length, ((0, length, 1.0),))
    if objective.name == "prefix_lm" and objective.prefix == "random":
        # Cuts are drawn in antithetic pairs (k, L - k): two windows fill a row of L source and L target tokens.
        cuts = range(1, length)
        share = 1.0 / len(cuts)
        if arch.own_stream:
            return Layout(2, length, length, length, tuple((k, length - k, 2 * share) for k in cuts))
        return Layout(1, 0, length, length, tuple((k, length - k, share) for k in cuts))
    if objective.name == "prefix_lm":
        source = prefix_length(length, objective)
        target = length - source
    elif objective.name == "span_corruption":
        _, source, target = span_lengths(length, objective.noise_density, objective.mean_span)
    else:
        source, target = data.source_length, data.target_length
    segments = ((source, target, 1.0),)
    if arch.own_stream:
        return Layout(1, source, target, target, segments)
    scored = source + target if objective.name == "seq2seq" else target
    return Layout(1, 0, source + target, scored, segments)
