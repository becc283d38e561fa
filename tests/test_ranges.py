"""Every number of a configuration has a range, whoever gives it and however."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any, get_args, get_origin, get_type_hints

import pytest
from tiny import tiny_run

from encdec_jax.config import RunConfig, from_dict, to_dict
from encdec_jax.errors import UserError
from encdec_jax.ranges import COUNT, FRACTION, POSITIVE, Range, _ranges, number
from encdec_jax.sweep.algebra import override


def numbers(cls: type = RunConfig, path: str = "") -> Iterator[tuple[str, type, Range | None]]:
    """Every number of a configuration that a path leads to: the path, its type and its range."""
    for name, hint in get_type_hints(cls).items():
        kinds = [hint, *(() if get_origin(hint) is tuple else get_args(hint))]
        below = next((kind for kind in kinds if dataclasses.is_dataclass(kind)), None)
        if below is not None:
            yield from numbers(below, f"{path}{name}.")
        elif int in kinds or float in kinds:
            yield path + name, int if int in kinds else float, _ranges(cls).get(name)


FIELDS = list(numbers())


def test_every_number_has_a_range():
    assert len(FIELDS) > 30
    assert [path for path, _, accepted in FIELDS if accepted is None] == []
    assert [path for path, kind, accepted in FIELDS if kind is int and accepted.high == math.inf] == []


@pytest.mark.parametrize(("path", "kind", "accepted"), FIELDS, ids=[path for path, *_ in FIELDS])
def test_what_is_not_in_its_range_is_refused_by_its_name(path, kind, accepted):
    run = tiny_run("enc_dec")
    outside: list[Any] = [math.nan, math.inf, -math.inf, -1 if accepted.low >= 0 else accepted.low - 1, True, "3"]
    outside += [accepted.low] if accepted.above else []
    outside += [accepted.high] if accepted.below else []
    outside += [accepted.high * 10] if accepted.high != math.inf else [1e39]
    outside += [1e-50] if accepted == POSITIVE and kind is float else []
    for value in outside:
        with pytest.raises(UserError, match=rf"{path.rpartition('.')[2]} = .* is not accepted: "):
            override(run, {path: value})


def test_a_configuration_made_in_python_is_checked_too():
    with pytest.raises(UserError, match=r"optim\.lr = nan is not accepted: above 0"):
        dataclasses.replace(tiny_run().optim, lr=math.nan)
    with pytest.raises(UserError, match=r"model\.rope_theta = 0\.0 is not accepted: at least 1"):
        dataclasses.replace(tiny_run().model, rope_theta=0.0)
    with pytest.raises(UserError, match=r"budget_flops = -1 is not accepted: above 0"):
        dataclasses.replace(tiny_run(), budget_flops=-1)
    assert from_dict(to_dict(tiny_run())) == tiny_run()


@pytest.mark.parametrize("path", ["optim.lr", "train.tokens", "budget_flops"])
def test_a_whole_number_beyond_any_float_is_refused_in_one_line(path: str) -> None:
    with pytest.raises(UserError, match=rf"{path} = 10*\S* is not accepted"):
        override(tiny_run(), {path: 10**400})


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e999", "", "x", "-1", "2"])
def test_numbers_of_a_command_line_are_checked_by_the_same_ranges(text):
    with pytest.raises(UserError, match=rf"--fill = '{text}' is not accepted: a number at least 0 and at most 1"):
        number("--fill", text, FRACTION)


def test_a_range_says_itself():
    assert str(Range(0, 1, above=True, below=True)) == "above 0 and below 1"
    assert str(COUNT) == "at least 1 and at most 16,777,216"
    assert number("n", "3", COUNT, int) == 3
