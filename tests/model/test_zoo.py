"""Published models have the parameters that their sources give them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from encdec_jax.errors import UserError
from encdec_jax.model import declare
from encdec_jax.model.config import ModelConfig
from encdec_jax.model.param import leaves
from encdec_jax.model.zoo import EFFICIENT, NAMED, SIZES, named

PUBLISHED = [*NAMED, *(EFFICIENT + size for size in SIZES)]


def parameters(config: ModelConfig) -> int:
    return sum(param.size for _, param in leaves(declare.model(config)))


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_counts_come_out_within_a_percent_or_say_why(name: str) -> None:
    found = named(name)
    if found.published is None:
        return
    n, digits = parameters(found.config), len(f"{found.published:.0f}".rstrip("0"))
    assert abs(n / found.published - 1) < 0.01 or (
        "rounds" in found.why and float(f"{n:.{digits}g}") == found.published
    )


# arXiv 2109.10686, table 4: parameters, or those beside a larger model.
@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("small-nl16", 134e6),
        ("base", 223e6),
        ("large-nl36", 1.1e9),
        ("xl-nl32", 3.8e9),
        ("large-nl36", 0.37 * 2.9e9),
    ],
)
def test_deep_and_narrow_models_have_their_published_counts(name: str, published: float) -> None:
    assert parameters(named(EFFICIENT + name).config) == pytest.approx(published, rel=0.02)


def test_base_36_has_a_sixth_less_than_large() -> None:
    few, many = (parameters(named(EFFICIENT + name).config) for name in ("base-nl36", "large"))
    assert 1 - few / many == pytest.approx(0.16, abs=0.005)


def test_the_published_width_of_heads_does_not_give_the_published_counts() -> None:
    for size in ("tiny", "mini", "small"):
        narrow, told = parameters(named(f"{EFFICIENT}{size}-kv32").config), SIZES[size][1]
        assert narrow / told < 0.9 < 0.97 < parameters(named(EFFICIENT + size).config) / told


def test_a_name_says_what_differs() -> None:
    base = named(EFFICIENT + "small").config
    found = named(EFFICIENT + "small-el16-dl8-ff1024-dm256-kv32-nh4").config
    change = {"d_ff": 1024, "d_model": 256, "head_dim": 32, "n_heads": 4, "n_kv_heads": 4}
    stack = replace(base.decoder, **change)
    assert found == replace(base, encoder=replace(stack, n_layers=16), decoder=replace(stack, n_layers=8))
    for one, other in (("small-nl6", "small"), ("small-el6", "small"), ("base-nl9", "base-el9-dl9")):
        assert named(EFFICIENT + one).config == named(EFFICIENT + other).config


WRONG = ["el8-el9", "el0", "el", "nl4-el4", "xx3", "nl4-", "el1.5", "el-4", "EL4", "sh", "skv4", "skv-skv"]


@pytest.mark.parametrize(
    "name", ["t5", "", EFFICIENT, EFFICIENT + "huge", *(f"{EFFICIENT}small-{one}" for one in WRONG)]
)
def test_a_wrong_name_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(UserError, match=r"^preset = .* is not accepted: ") as caught:
        named(name)
    assert "\n" not in str(caught.value)
