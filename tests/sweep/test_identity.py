from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np
import pytest
from tiny import tiny_run

from encdec_jax.config import EXECUTION, RunConfig, from_dict, to_dict
from encdec_jax.data.config import ObjectiveConfig, Part
from encdec_jax.errors import UserError
from encdec_jax.evaluate.config import EvalConfig
from encdec_jax.model.arch import ARCHS
from encdec_jax.model.config import ExpertConfig, ModelConfig, StackConfig
from encdec_jax.resolve import plain
from encdec_jax.sweep.identity import run_id, setting
from encdec_jax.train.config import OptimConfig

STACK = StackConfig(2, 16, 4, 2, 8, 32)
RUN = RunConfig(ModelConfig("enc_dec", 64, STACK, STACK, tie="none"), objective=ObjectiveConfig("prefix_lm"))
PARTS = (Part(1.0, ObjectiveConfig("ul2")), Part(1.0, ObjectiveConfig("prefix_lm")))
EXPERTS = replace(RUN, model=replace(RUN.model, experts=ExpertConfig(4)))
LONG = replace(RUN, model=replace(RUN.model, rope_scaling="llama3", rope_factor=2.0, rope_original=8))
SHARED, LOCAL = replace(STACK, distinct=2), replace(STACK, window=4)
TURNS = replace(LOCAL, global_every=2)
BESIDE = {  # runs whose other fields accept several values of a field
    "objective.prefix_length": replace(RUN, objective=ObjectiveConfig("prefix_lm", "fixed", prefix_length=8)),
    "objective.prefix_fraction": replace(RUN, objective=ObjectiveConfig("prefix_lm", "fraction", prefix_fraction=0.2)),
    "objective.noise_density": replace(RUN, objective=ObjectiveConfig("span_corruption")),
    "objective.mean_span": replace(RUN, objective=ObjectiveConfig("span_corruption")),
    "objective.sentences": replace(RUN, objective=ObjectiveConfig("gap_sentences")),
    "optim.decay": replace(RUN, optim=OptimConfig(schedule="wsd")),
    "objective.source_loss": RunConfig(ModelConfig("causal_lm", 64, STACK), objective=ObjectiveConfig("prefix_lm")),
    "evaluate.prefixes": replace(RUN, evaluate=EvalConfig(prefixes=(8, 16))),
    "evaluate.splits": replace(RUN, evaluate=EvalConfig(splits=("test",))),
    "model.decoder.distinct": replace(RUN, model=replace(RUN.model, decoder=SHARED)),
    "model.encoder.distinct": replace(RUN, model=replace(RUN.model, encoder=SHARED)),
    "model.decoder.global_every": replace(RUN, model=replace(RUN.model, decoder=LOCAL)),
    "model.encoder.global_every": replace(RUN, model=replace(RUN.model, encoder=LOCAL)),
    "model.decoder.ahead": replace(RUN, model=replace(RUN.model, decoder=LOCAL)),
    "model.encoder.ahead": replace(RUN, model=replace(RUN.model, encoder=LOCAL)),
    "model.decoder.global_first": replace(RUN, model=replace(RUN.model, decoder=TURNS)),
    "model.encoder.global_first": replace(RUN, model=replace(RUN.model, encoder=TURNS)),
    "model.final_norm": replace(RUN, model=replace(RUN.model, final_norm=True)),
    **{f"model.{name}": LONG for name in ("rope_scaling", "rope_factor", "rope_original")},
    **{f"model.experts.{name}": EXPERTS for name in ("every", "chosen", "capacity", "balance", "z_loss")},
    "objective.parts": replace(RUN, objective=ObjectiveConfig("mixture", parts=PARTS)),
}


def leaves(cls: type, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every field that holds a value, by path, with its type."""
    for name, hint in get_type_hints(cls).items():
        inner = [part for part in (hint, *get_args(hint)) if dataclasses.is_dataclass(part)]
        if inner and get_origin(hint) is not tuple:
            yield from leaves(inner[0], f"{path}{name}.")
        else:
            yield path + name, hint


def changed(run: RunConfig, path: str, hint: Any) -> RunConfig:
    """A run with another value, that the rest accepts, in one field."""
    data = to_dict(run)
    *rooms, name = path.split(".")
    inner = data
    for room in rooms:
        inner = inner[room]
    value = inner[name]
    if path == "model.arch":
        others = list(ARCHS)
    elif get_origin(hint) is Literal:
        others = list(get_args(hint))
    elif isinstance(value, bool):
        others = [not value]
    elif isinstance(value, str):
        others = [value + "x", value + "1", "0123456789ab"]
    elif isinstance(value, tuple):
        others = [value[1:], [*value, value[0]]]
    else:
        others = [2 * value, value / 2, 0.5, 8, 5] if value is not None else [1e9]
    for other in others:
        inner[name] = other
        try:
            if other != value:
                return from_dict(data)
        except UserError:
            continue
    raise AssertionError(f"no other value of {path} is accepted")


@pytest.mark.parametrize(("path", "hint"), leaves(RunConfig), ids=lambda value: value if isinstance(value, str) else "")
def test_every_field_but_the_seed_and_those_of_execution_makes_another_setting(path, hint):
    run = BESIDE.get(path, RUN)
    other = changed(run, path, hint)
    if path in EXECUTION:
        assert (run_id(other), setting(other)) == (run_id(run), setting(run))
    else:
        assert run_id(other) != run_id(run)
        assert (setting(other) == setting(run)) == (path == "train.seed")


def test_the_fields_of_execution_are_those_that_change_no_result():
    assert set(EXECUTION) == {
        *("model.scan", "model.remat", "model.attention", "evaluate.batch_size"),
        *("mesh.data", "mesh.fsdp", "mesh.tensor", "mesh.sequence"),
        *("train.accumulate", "train.steps_per_call", "train.checkpoint_every"),
        *("train.keep", "train.keep_every", "train.keep_at", "train.trunk", "evaluate.every"),
    }


def test_it_is_of_the_resolved_configuration():
    run = tiny_run()
    assert run_id(run) == run_id(from_dict(to_dict(run)))
    assert run_id(replace(run, optim=OptimConfig(lr=1))) == run_id(replace(run, optim=OptimConfig(lr=1.0)))
    assert len(run_id(run)) == len(setting(run)) == 12
    assert run_id(run) != setting(run)


def test_it_is_the_same_on_every_machine():
    """A change here orphans every run that was ever made: only with a reason in LOG.md."""
    assert (run_id(tiny_run()), setting(tiny_run())) == ("03bef1e40f57", "b285fdad6b1e")


def test_a_field_added_later_enters_only_where_it_differs():
    run = tiny_run()
    same, other = (replace(run, model=replace(run.model, base_width=width)) for width in (0, 8))
    assert run_id(same) == run_id(run) != run_id(other)


def test_the_parts_of_an_objective_enter_as_what_they_are():
    run = BESIDE["objective.parts"]
    assert from_dict(json.loads(json.dumps(to_dict(run)))) == run
    others = [
        (PARTS[1], PARTS[0]),
        (PARTS[0], replace(PARTS[1], weight=2.0)),
        (PARTS[0], replace(PARTS[1], objective=ObjectiveConfig("prefix_lm", "random"))),
    ]
    made = [replace(run, objective=replace(run.objective, parts=parts)) for parts in others]
    assert len({run_id(one) for one in [run, *made]}) == 4
    with pytest.raises(UserError, match=r"config field 'objective\.parts\[1\]\.mass' is unknown"):
        from_dict({**to_dict(run), "objective": {"name": "mixture", "parts": [to_dict(PARTS[0]), {"mass": 1}]}})


def test_configurations_of_older_runs_which_lack_norm_and_position_are_the_same_runs():
    """For a while nothing read them and they were no fields; every id has their defaults in it."""
    data = to_dict(tiny_run())
    older = {name: value for name, value in data["model"].items() if name not in ("norm", "position")}
    assert run_id(from_dict({**data, "model": older})) == run_id(tiny_run())
    post = replace(tiny_run(), model=replace(tiny_run().model, norm="post"))
    assert run_id(post) != run_id(tiny_run())


def test_numbers_that_json_lacks_are_refused():
    run = tiny_run()
    with pytest.raises(UserError, match="budget_flops = inf is not accepted: above 0 and finite"):
        run_id(replace(run, budget_flops=float("inf")))


@pytest.mark.parametrize(("path", "value"), [("train.tokens", True), ("optim.lr", "1"), ("model.tie", 3)])
def test_a_value_of_another_type_is_refused_wherever_it_comes_from(path, value):
    """`replace` and constructors check ranges alone; the id is of values of their fields' types."""
    room, name = path.split(".")
    run = tiny_run()
    part = getattr(run, room)
    object.__setattr__(part, name, value)
    with pytest.raises(UserError, match=rf"{path} = {value!r} is not accepted"):
        run_id(run)


def test_what_is_plain_already_is_not_made_anew():
    run = BESIDE["objective.parts"]
    assert all(plain(room) is room for room in (run, run.model, run.objective, run.objective.parts))
    numpy = replace(run.model, vocab_size=np.int64(64))
    assert type(plain(numpy).vocab_size) is int
