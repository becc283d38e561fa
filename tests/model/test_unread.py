"""A field off its default changes what is computed, or is refused by name: else two runs of one kind have two ids."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass, replace
from functools import cache
from typing import Any, get_args, get_type_hints

import jax
import numpy as np
import pytest
from flax import nnx
from identities.test_values import CONFIGS
from support import SMALL, example, model_config, tokens

from encdec_jax.errors import UserError
from encdec_jax.model.arch import ARCHS
from encdec_jax.model.blocks import BLOCK_SOURCES, BLOCKS, plans
from encdec_jax.model.compatible import ALWAYS
from encdec_jax.model.config import ExpertConfig, ModelConfig
from encdec_jax.model.declare import declared, edges
from encdec_jax.model.model import graph, initial
from encdec_jax.model.parts.positions import POSITIONS

NUMBERS = {  # values off the defaults of numbers
    "rope_theta": 100.0, "window": 2, "ahead": 1, "global_every": 2, "cross_every": 2, "distinct": 1, "base_width": 8,
    "base_depth": 1, "score_scale": 0.3, "score_cap": 2.0, "logit_cap": 3.0, "position_buckets": 8,
    "position_range": 40, "position_rows": 16, "position_offset": 2, "block_length": 2, "norm_epsilon": 1e-3,
    "local_theta": 20.0, "rope_share": 0.7, "rope_factor": 2.0, "rope_original": 4, "softmaxes": 2, "kernel_width": 3,
    "random_features": 8, "attention_dropout": 0.1, "residual_dropout": 0.1, "embedding_dropout": 0.1, "number": 2,
    "every": 2, "chosen": 2, "capacity": 1.5, "balance": 0.5, "z_loss": 0.1,
}  # fmt: skip
BESIDE = {  # what a value needs beside it
    "linear": {"rope_factor": 2.0},
    "llama3": {"rope_factor": 2.0, "rope_original": 4},
    "yarn": {"rope_factor": 2.0, "rope_original": 4},
}
APART = ("encoder", "block")  # another architecture, another base
REFUSED: dict[tuple[ModelConfig, str, Any], str] = {}
THREE = replace(SMALL, n_layers=3)  # a Funnel's
BASES = {
    **{arch: model_config(arch) for arch in ARCHS},
    **{
        f"one stream, {block}": model_config(BLOCK_SOURCES.get(block, ["causal_lm"])[0], block=block)
        for block in BLOCKS
    },
    **{f"enc_dec, {block}": model_config("enc_dec", encoder=THREE, block=block) for block in BLOCKS},
    **{name: CONFIGS[name] for name in ("windows, merged", "ALiBi", "T5 1.0", "mBART", "ModernBERT")},
    "windows alone": model_config("causal_lm", decoder=replace(SMALL, window=3), local_theta=20.0),
    "experts": model_config("prefix_lm", experts=ExpertConfig(3, chosen=2)),
}
NO_SUCH = {"one stream, funnel", "enc_dec, yoco", "enc_dec, palm"}


@cache
def computed(config: ModelConfig) -> tuple:
    """What a pass of training computes: its jaxpr, and the constants in it."""
    params = jax.eval_shape(lambda key: initial(config, key), jax.random.key(0))
    source, target = example(config.arch, tokens(1, 2, 5), tokens(2, 2, 4))

    def loss(params: nnx.State, keys: jax.Array) -> Any:
        model = nnx.merge(graph(config), params)
        states, aux = model.states(source, target, 4, keys)
        return model.logits(states), aux.loss

    closed = jax.make_jaxpr(loss)(params, jax.random.split(jax.random.key(0), 2))
    return str(closed), *(np.asarray(one).tobytes() for one in _constants(closed))


def _constants(closed: Any) -> Iterator[Any]:
    yield from closed.consts
    for equation in closed.jaxpr.eqns:
        for value in equation.params.values():
            yield from _constants(value) if hasattr(value, "consts") else ()


def others(part: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(path, default, another value) of every field that has a default and makes another run."""
    hints = get_type_hints(type(part))
    for field in fields(part):
        name, value, hint = path + field.name, getattr(part, field.name), hints[field.name]
        if is_dataclass(value):
            yield from others(value, f"{name}.")
        elif field.default is not MISSING and not field.metadata.get("execution") and field.name not in APART:
            values = (True, False) if hint in (bool, bool | None) else get_args(hint)
            values = (NUMBERS[field.name],) if field.name in NUMBERS else values
            assert values, name
            yield from ((name, field.default, other) for other in values if other != field.default)


def changed(config: Any, path: str, value: Any, **beside: Any) -> Any:
    name, _, below = path.partition(".")
    return replace(config, **{name: changed(getattr(config, name), below, value) if below else value}, **beside)


def accepted(config: ModelConfig) -> Iterator[tuple[str, Any, ModelConfig, ModelConfig]]:
    """(field, value, model with it, with its default), where it is accepted; what is refused is in `REFUSED`."""
    for path, default, value in others(config):
        beside = BESIDE.get(value, {}) if isinstance(value, str) else {}
        try:
            edges(one := changed(config, path, value, **beside))
        except UserError as error:
            REFUSED[config, path, value] = str(error)
            continue
        try:
            edges(
                other := changed(config, path, default, **({"rope_factor": 1.0, "rope_original": 0} if beside else {}))
            )
        except UserError:  # it is needed by another field
            continue
        yield path, value, one, other


def by(field: str, config: ModelConfig) -> frozenset[type]:
    """Kinds of parts that say that they read a field."""
    subs = [sub.layer for plan in plans(config).values() for _, _, spec in plan.slots() for sub in spec]
    parts = [*subs, *(POSITIONS[name] for plan in plans(config).values() for name in plan.positions())]
    return frozenset(type(part) for part in parts if field in getattr(part, "options", ()))


@pytest.mark.parametrize("name", ["causal_lm", "prefix_lm", "enc_dec_merged", "windows alone"])
def test_a_field_that_nothing_reads_is_refused_by_name(name: str) -> None:
    """All that is left is declared by a field, or is read by the model or by a part that says so."""
    for path, value, one, other in accepted(BASES[name]):
        field = path.rpartition(".")[2]
        read = field in ALWAYS or path.startswith("experts.") or by(field, one)
        assert read or declared(one) != declared(other), (path, value)
    plain = ModelConfig(name, 64, SMALL, BASES[name].encoder) if name in ARCHS else None
    for (config, path, value), message in REFUSED.items():
        if config == plain and value not in BESIDE:  # nothing else is off its default
            assert f"{path.rpartition('.')[2]} = {value!r} is not accepted: " in message


@pytest.mark.slow  # it traces the passes of sixty models
def test_what_says_that_it_reads_a_field_does() -> None:
    """The jaxpr of a pass of training is another, once for each field, value and kind of parts that read it."""
    seen = set()
    for name in BASES.keys() - NO_SUCH:
        for path, value, one, other in accepted(BASES[name]):
            at = (path, value, by(path.rpartition(".")[2], one))
            if at not in seen and declared(one) == declared(other):
                seen.add(at)
                assert computed(one) != computed(other), (name, path, value)
    assert len(seen) > len(ALWAYS)
