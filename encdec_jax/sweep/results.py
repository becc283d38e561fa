"""The results table: one tidy row a run, one typed schema."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import polars as pl

from encdec_jax.config import EXECUTION, RunConfig
from encdec_jax.data.objectives.named import described, objective_of
from encdec_jax.errors import UserError
from encdec_jax.evaluate import LOSS
from encdec_jax.files import atomic_write, expanded
from encdec_jax.sweep.cost import cost
from encdec_jax.sweep.experiment import Experiment
from encdec_jax.sweep.experiment import load as load_experiment
from encdec_jax.sweep.identity import scored, setting
from encdec_jax.sweep.replica import pull
from encdec_jax.sweep.store import RunState, run_state, task_scores
from encdec_jax.sweep.waiting import states
from encdec_jax.train.objects import put, remove

TABLE = "results.parquet"
FIGURE = "figure.png"
SHOWN = "figure.rows"  # digest of the rows that the figure shows

# Null where it does not apply (prefix of another objective, budget of an unmatched run) or was not reached (the scores
# of a run that diverged or failed). FLOPs, tokens and updates without "seen" are those of the whole planned run. Runs
# of one `setting` are repetitions of each other, runs of one `label` a line of a figure; losses of one `scored` are of
# the same held-out windows of a text. Columns with a dot are fields of execution as the run ended with them;
# `executions` is how many ways of execution its parts had, `threads` how many a CPU computed the last with. `dropped`
# and `dropped_eval` are shares of pairs that are left out of rows in training, and too long for one in scoring.
# `train_flops_padded` is what a plain implementation computes, on padding too; the other FLOPs are of tokens alone.
# Runs of one `trunk` are one trajectory up to where their rates fall: a trunk's own id and its branches'. Of a branch's
# `train_flops`, and its seconds, `trunk_flops` were the trunk's: whoever adds up what a study cost takes them off.
# `pretrain_flops` is what the parameters that a run began at had cost before, by `train_flops`; 0 for drawn ones.
SCHEMA = pl.Schema(
    {
        "run_id": pl.String,
        "trunk": pl.String,
        "setting": pl.String,
        "label": pl.String,
        "arch": pl.String,
        "seed": pl.Int64,
        "objective": pl.String,
        "prefix": pl.String,
        "d_model": pl.Int64,
        "enc_layers": pl.Int64,
        "dec_layers": pl.Int64,
        "n_params": pl.Int64,
        "n_params_nonembed": pl.Int64,
        "budget_flops": pl.Float64,
        "train_flops": pl.Float64,
        "train_flops_dense": pl.Float64,
        "train_flops_padded": pl.Float64,
        "pretrain_flops": pl.Float64,
        "trunk_flops": pl.Float64,
        "flops_mismatch": pl.Float64,
        "tokens": pl.Int64,
        "tokens_seen": pl.Int64,
        "loss_tokens": pl.Float64,
        "updates": pl.Int64,
        "batch_size": pl.Int64,
        "lr": pl.Float64,
        "suffix_bits_per_byte": pl.Float64,
        "suffix_bits_se": pl.Float64,
        "train_loss": pl.Float64,
        "status": pl.String,
        "wall_s": pl.Float64,
        "step_s": pl.Float64,
        "tokens_per_s": pl.Float64,
        "dropped": pl.Float64,
        "dropped_eval": pl.Float64,
        "data_hash": pl.String,
        "cache_digest": pl.String,
        "scored": pl.String,
        "code": pl.String,
        "commit": pl.String,
        "versions": pl.String,
        "error": pl.String,
        "executions": pl.Int64,
        "threads": pl.Int64,
        "model.scan": pl.Boolean,
        "model.remat": pl.String,
        "model.attention": pl.String,
        "train.accumulate": pl.Int64,
        "train.steps_per_call": pl.Int64,
        "train.checkpoint_every": pl.Int64,
        "train.keep": pl.Int64,
        "train.keep_every": pl.Int64,
        "train.keep_at": pl.String,
        "train.trunk": pl.String,
        "evaluate.batch_size": pl.Int64,
        "evaluate.every": pl.Int64,
        "mesh.data": pl.Int64,
        "mesh.fsdp": pl.Int64,
        "mesh.tensor": pl.Int64,
        "mesh.sequence": pl.Int64,
    }
)
# Columns that tables lack which are older: null in their rows.
LATER = (
    "pretrain_flops",
    "trunk",
    "trunk_flops",
    "train_flops_padded",
    "threads",
    "train.keep",
    "train.keep_every",
    "train.keep_at",
    "train.trunk",
    "evaluate.every",
    "mesh.sequence",
)
_ORDER = ("label", "budget_flops", "d_model", "lr", "seed", "run_id")
_MEASURED = (
    "loss_tokens",
    "suffix_bits_per_byte",
    "suffix_bits_se",
    "train_loss",
    "pretrain_flops",
    "wall_s",
    "step_s",
    "tokens_per_s",
    "dropped",
    "dropped_eval",
    "data_hash",
    "cache_digest",
    "code",
    "commit",
)


def row(identity: str, label: str, run: RunConfig, state: RunState) -> dict[str, object]:
    """A run that ended as a row of `SCHEMA`: what was planned, and what of it was measured."""
    spent = cost(run)
    summary = state.summary or {}
    executed = summary.get("execution", [])
    grafted = next((part["update"] for part in executed if part.get("train.trunk")), 0)
    return {
        "run_id": identity,
        "setting": setting(run),
        "scored": scored(run),
        "label": label,
        "arch": run.model.arch,
        "seed": run.train.seed,
        "objective": described(run.objective),
        "prefix": objective_of(run.objective).place,
        "d_model": run.model.decoder.d_model,
        "enc_layers": run.model.encoder.n_layers if run.model.encoder else 0,
        "dec_layers": run.model.decoder.n_layers,
        "n_params": spent.n_params,
        "n_params_nonembed": spent.n_params_nonembed,
        "budget_flops": run.budget_flops,
        "train_flops": spent.train_flops,
        "train_flops_dense": spent.train_flops_dense,
        "train_flops_padded": spent.train_flops_padded,
        "trunk_flops": grafted * spent.train_flops / spent.updates if state.summary else None,
        "trunk": run.train.trunk or None,
        "flops_mismatch": spent.mismatch,
        "tokens": run.train.tokens,
        "tokens_seen": state.tokens,
        "updates": spent.updates,
        "batch_size": run.train.batch_size,
        "lr": run.optim.lr,
        "status": state.status,
        "versions": json.dumps(summary["versions"], sort_keys=True) if summary else None,
        "error": summary.get("error") or state.reason,
        **{name: summary.get(name) for name in _MEASURED},
        "executions": len(executed) or None,
        "threads": executed[-1].get("threads") if executed else None,
        **{path: executed[-1].get(path) for path in EXECUTION if executed},
    }


def ended(experiment: Experiment) -> pl.DataFrame:
    """The rows of all runs that ended (done, diverged, failed), or of which a file is damaged.

    The rows' order depends on their configurations alone, not on which ended first. Behind the columns of `SCHEMA` is
    the fair loss of each further held-out set, SPLIT/PREFIX, with its standard error, and scores of `encdec evaluate`.
    """
    pull(experiment.root, fresh=True)
    states = {identity: run_state(experiment.run_folder(identity)) for identity in experiment.runs}
    rows = [
        row(identity, experiment.labels[identity], experiment.runs[identity], state)
        for identity, state in states.items()
        if state.ended
    ]
    summaries = [state.summary or {} for state in states.values() if state.ended]
    names = dict.fromkeys(name for one in summaries for name in one.get("held_out", {}))
    further = {
        f"{column} {name}": [one.get(part, {}).get(name) for one in summaries]
        for name in names
        for column, part in ((LOSS, "held_out"), ("suffix_bits_se", "held_out_se"))
    }
    scores = [task_scores(experiment.run_folder(identity)) for identity, state in states.items() if state.ended]
    further |= {name: [one.get(name) for one in scores] for name in sorted({name for one in scores for name in one})}
    columns = [pl.Series(name, values, pl.Float64) for name, values in further.items()]
    trunks = {run.train.trunk for run in experiment.runs.values()}
    for one in rows:
        one["trunk"] = one["run_id"] if one["run_id"] in trunks else one["trunk"]
    return pl.DataFrame(rows, schema=SCHEMA).with_columns(columns).sort(_ORDER, nulls_last=True)


def collect(experiment: Experiment) -> pl.DataFrame:
    """Write the rows of all runs that `ended` to results.parquet, whole or not at all.

    Raises:
      UserError: the folder can't be written to.
    """
    table = ended(experiment)
    buffer = io.BytesIO()
    table.write_parquet(buffer)
    put(experiment.root / TABLE, buffer.getvalue())
    return table


def load(source: str | Path | Experiment) -> pl.DataFrame:
    """A results table: of a file, of a folder that holds results.parquet, or of an experiment's runs.

    Raises:
      UserError: the file is missing, is not Parquet, or lacks columns.
    """
    path = source.root if isinstance(source, Experiment) else expanded(str(source))
    path = path / TABLE if path.is_dir() else path
    try:
        table = pl.read_parquet(io.BytesIO(path.read_bytes()))  # its name may hold a pattern's signs
    except (OSError, pl.exceptions.PolarsError) as error:
        raise UserError(f"can't read results table {path}: {str(error).splitlines()[0]}") from error
    missing = [name for name in SCHEMA if name not in (*table.columns, *LATER)]
    if missing:
        raise UserError(f"results table {path} lacks columns: {', '.join(missing)}")
    return table.with_columns(pl.lit(None, SCHEMA[name]).alias(name) for name in LATER if name not in table.columns)


def collect_into(folder: Path, unfinished: bool = False) -> int:
    """`encdec collect`: copy a finished study's table, and its report's figure if there is one, into its folder.

    Args:
      folder: of the experiment.
      unfinished: whether to copy the rows that there are where runs are missing.

    Returns:
      0, the exit code.

    Raises:
      UserError: runs are not finished, the figure shows other rows, or a folder can't be written to.
    """
    experiment = load_experiment(folder)
    found = [state.status for state in states(experiment).values()]
    missing = {
        name: found.count(name)
        for name in ("pending", "waiting", "running", "stale", "failed", "damaged")
        if name in found
    }
    if missing:
        counts = ", ".join(f"{n} {name}" for name, n in missing.items())
        state = f"experiment {folder} is not finished: {counts} of {len(found)} runs"
        if not unfinished:
            raise UserError(f"{state}; give: encdec run {folder}, or --unfinished to copy the rows that there are")
        print(state)
    table, figure, shown = collect(experiment), experiment.root / FIGURE, experiment.root / SHOWN
    if figure.exists() and (not shown.exists() or shown.read_text(encoding="utf-8") != digest(table)):
        raise UserError(f"{figure} does not show the rows that the study has now: first encdec report {folder}")
    for name in (TABLE, FIGURE):
        source = experiment.root / name
        if source.exists():
            atomic_write(folder / name, source.read_bytes())
            print(f"wrote {folder / name}")
    return 0


def digest(table: pl.DataFrame) -> str:
    """SHA-256 of a table's rows."""
    return hashlib.sha256(table.write_csv().encode()).hexdigest()


def put_figure(experiment: Experiment, figure: bytes | None, table: pl.DataFrame) -> None:
    """Write the report's figure and what rows it shows; without one, leave none that shows others."""
    for name, data in ((FIGURE, figure), (SHOWN, None if figure is None else digest(table))):
        path = experiment.root / name
        remove(path) if data is None else put(path, data)
