"""What papers say of their pairs, beside what the ledger counts."""

from dataclasses import replace

import pytest

from encdec_jax.compute.grid import Cell, grid
from encdec_jax.compute.ledger import count, parameters
from encdec_jax.compute.rules import RULES, rule, span_multiplier
from encdec_jax.data.config import DataConfig, ObjectiveConfig
from encdec_jax.errors import UserError


def pairs(name: str, *archs: str) -> list[list[Cell]]:
    """Cells of each published size."""
    cells = grid(None, ["causal_lm", *archs], rule=rule(name)).cells
    n = 1 + len(archs)
    return [list(cells[i : i + n]) for i in range(0, len(cells), n)]


def test_redllm_is_less_equal_than_it_says() -> None:
    found = pairs("redllm", "enc_dec")
    ratios = [red.values.params_nonembed / dec.values.params_nonembed for dec, red in found]
    assert ratios == pytest.approx([108 / 128, 252 / 256, 324 / 320, 360 / 384, 504 / 512], rel=1e-4)
    assert [f"{ratio:.2f}" for ratio in ratios] == ["0.84", "0.98", "1.01", "0.94", "0.98"]
    flops = [red.values.train_flops / dec.values.train_flops for dec, red in found]
    assert [f"{ratio:.2f}" for ratio in flops] == ["0.44", "0.50", "0.51", "0.47", "0.49"]
    dec, red = found[-1]
    assert (dec.name, dec.values.params_nonembed) == ("8B", pytest.approx(512 * 4096**2, rel=1e-4))
    assert red.run.model.encoder == red.run.model.decoder
    assert red.run.model.qk_norm
    assert red.run.model.vocab_size == 32_768
    assert red.updates == 400_000
    assert red.values.tokens == pytest.approx(1.6e12, rel=0.05)


def test_t5_base_has_twice_the_parameters_and_about_the_flops() -> None:
    ((lm, prefix, both, shared),) = pairs("t5", "prefix_lm", "enc_dec", "enc_dec_shared")
    assert both.values.params == pytest.approx(220e6, rel=0.02)  # as named in Scale Efficiently (arXiv 2109.10686)
    assert both.values.params / lm.values.params == pytest.approx(2.033, abs=1e-3)
    assert both.values.params_nonembed / lm.values.params_nonembed == pytest.approx(7 / 3, rel=1e-3)
    assert both.values.train_flops / lm.values.train_flops == pytest.approx(0.981, abs=1e-3)
    assert shared.values.params == prefix.values.params == lm.values.params
    assert shared.values.train_flops / lm.values.train_flops == pytest.approx(0.96, abs=0.01)

    def halved(stack):
        return replace(stack, n_layers=6)

    model = both.run.model
    half = replace(model, encoder=halved(model.encoder), decoder=halved(model.decoder))
    assert parameters(half).total / lm.values.params == pytest.approx(1.129, abs=1e-3)  # T5, Table 2: P
    ratio = count(replace(both.run, model=half)).train_flops.mask / count(lm.run).train_flops.mask
    assert ratio == pytest.approx(0.510, abs=1e-3)  # M/2

    even = grid(None, ["causal_lm", "enc_dec"], rule=rule("t5"), lengths=(256, 256)).cells
    assert even[1].mismatches.train_flops == pytest.approx(0.026, abs=1e-3)


def test_wang_has_its_parameters_but_cross_attention_costs_more() -> None:
    ((lm, both),) = pairs("wang", "enc_dec")
    assert lm.values.params == pytest.approx(4.8e9, rel=0.01)
    assert both.values.params == pytest.approx(11.0e9, rel=0.01)
    assert lm.values.tokens == both.values.tokens == pytest.approx(168e9, rel=0.001)
    assert both.mismatches.train_flops == pytest.approx(0.153, abs=1e-3)  # "about 10 %"


def test_the_block_wise_baseline_is_matched_in_parameters_not_in_the_flops_it_is_charged() -> None:
    ((lm, sed),) = pairs("blockwise", "enc_dec")
    assert (sed.run.model.encoder.n_layers, sed.run.model.decoder.n_layers) == (8, 3)
    assert sed.mismatches.params_nonembed == pytest.approx(0, abs=1e-4)
    assert span_multiplier(8, 4) == pytest.approx(0.94, abs=0.01)
    text = DataConfig(length=2048)
    causal = count(replace(lm.run, data=text)).train_flops
    spans = ObjectiveConfig("span_corruption", noise_density=0.15, mean_span=4.0)
    spanned = count(replace(sed.run, data=text, objective=spans)).train_flops
    assert spanned.mask / causal.mask == pytest.approx(0.648, abs=1e-3)

    def weights(flops):
        return sum(e.mask for e in flops.entries if "scores" not in e.group and e.group != "output head")

    assert weights(spanned) / weights(causal) == pytest.approx(0.684, abs=1e-3)


def test_a_rule_serves_other_sizes_than_the_published() -> None:
    cells = grid(1e19, ["prefix_lm", "enc_dec"], rule=rule("ul2"), widths=[512, 1024]).cells
    layers = [(cell.run.model.encoder.n_layers, cell.run.model.decoder.n_layers) for cell in cells[1::2]]
    assert layers == [(cell.run.model.decoder.n_layers,) * 2 for cell in cells[::2]]
    assert all(abs(cell.mismatches.train_flops) < 0.01 for cell in cells)
    assert grid(1e20, ["causal_lm", "enc_dec"], rule=rule("redllm")).cells[-1].run.budget_flops == 1e20


@pytest.mark.parametrize(
    ("name", "archs", "wish", "line"),
    [
        ("t6", ["causal_lm"], {}, "rule = 't6' is not accepted: exact, or one of t5, ul2, redllm, wang, blockwise"),
        ("ul2", ["causal_lm"], {}, "rule = 'ul2' is not accepted without a budget and sizes"),
        ("t5", ["enc_dec"], {}, "families = 'enc_dec' is not accepted: causal_lm or prefix_lm as the first"),
        ("t5", ["causal_lm"], {"equal": ["params"]}, "equal = 'params' is not accepted: no quantity of shapes"),
        ("t5", ["causal_lm"], {"equal": ["train_flops"]}, "budget is missing; accepted: training FLOPs"),
        ("t5", ["causal_lm"], {"widths": [512]}, "budget is missing; accepted: training FLOPs"),
        (
            "redllm",
            ["causal_lm", "enc_dec"],
            {"widths": [1408]},
            "n_layers = 11 is not accepted: one of 8, 16, 20, 24, 32",
        ),
        ("blockwise", ["causal_lm", "enc_dec"], {"widths": [1408]}, "n_layers = 11 is not accepted: a multiple of 12"),
    ],
)
def test_what_a_rule_does_not_say_is_refused(name: str, archs: list[str], wish: dict, line: str) -> None:
    budget = 1e19 if wish.get("widths") == [1408] else None
    with pytest.raises(UserError, match=line):
        grid(budget, archs, rule=rule(name), **wish)


def test_every_rule_says_where_it_is_from() -> None:
    for name, each in RULES.items():
        assert name == each.name
        assert "arXiv" in each.source
        assert each.claims
