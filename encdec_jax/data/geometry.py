"""How large a run is: the static shape of a row of training, the rows of an update, the updates.

A row's lengths are its objective's (`encdec_jax.data.objectives`); this is what a run makes of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import lcm

from encdec_jax.config import RunConfig
from encdec_jax.data.objectives.named import objective_of
from encdec_jax.data.objectives.objective import Layout
from encdec_jax.errors import require


@dataclass(frozen=True)
class Geometry:
    """What a run reads, and in which portions.

    Attributes:
      layout: of one row.
      whole: whether every row is one segment that fills it, as `encdec_jax.model.streams.WholeStream` says.
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
    whole: bool
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
      UserError: the architecture can't read what the objective gives.
    """
    data, objective, train = run.data, objective_of(run.objective), run.train
    row, tokens = objective.layout(run.model.choices, data), objective.window(data)
    if row.scored > row.target and run.model.encoder is not None:
        size, head = run.model.encoder.d_model, run.model.decoder.d_model
        accepted = (
            f"model.decoder.d_model = {head}, because the output head reads the source too (objective.source_loss)"
        )
        require(size == head, "model.encoder.d_model", size, accepted)
    return Geometry(
        layout=row,
        whole=row.filled and not objective.pairs and not objective.of_text,
        windows=train.batch_size,
        unit=lcm(row.windows * train.accumulate * run.mesh.shards, objective.draw),
        draw=objective.draw,
        updates=max(1, round(train.tokens / (train.batch_size * tokens))),
        window_tokens=tokens,
        sequence=objective.sequence(data),
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
