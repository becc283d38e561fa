import pandas as pd
import polars as pl
import pytest
from matplotlib import rcParams
from synthetic import Truth, study

from encdec_jax.errors import UserError
from encdec_jax.laws.estimate import estimate
from encdec_jax.report.figures import fitted, frontier, gaps, isoflops, publication, save
from encdec_jax.study.findings import analyze

TABLE = study({"causal_lm": Truth(), "enc_dec": Truth(scale=2.1)}, noise=0.01)


def texts(figure) -> str:
    figure.draw_without_rendering()
    return " ".join(text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text")))


@pytest.mark.parametrize("draw", [isoflops, frontier, gaps])
def test_a_frame_of_either_kind_makes_the_same_figure(draw, tmp_path):
    with publication("page"):
        made = [
            save(draw(source), tmp_path / f"{i}.svg").read_bytes()
            for i, source in enumerate(
                (TABLE, pd.DataFrame(TABLE.to_dict(as_series=False)), analyze(TABLE, "causal_lm"))
            )
        ]
    assert made[0] == made[1] == made[2]
    assert b"<svg" in made[0]


def test_publication_is_set_for_its_figures_and_for_nothing_after(tmp_path):
    before = dict(rcParams)
    with publication("column"):
        figure = frontier(TABLE)
    assert dict(rcParams) == before
    assert figure.get_size_inches()[0] == 3.25
    pdf = save(figure, tmp_path / "frontier.pdf").read_bytes()
    assert b"/Type3" not in pdf
    assert b"CreationDate" not in pdf
    with pytest.raises(UserError, match="width = 'poster' is not accepted: one of column, page"), publication("poster"):
        pass
    with pytest.raises(UserError, match=r"ends in \.pdf, \.svg, \.png"):
        save(figure, tmp_path / "frontier.docx")


@pytest.mark.parametrize(
    ("law", "columns", "arch", "text"),
    [
        ("kaplan_n", {"n": "n_params"}, None, "parameters"),
        ("kaplan", {"n": "n_params", "d": "tokens"}, None, "6ND"),
        ("encdec", {"n_enc": "n_params", "n_dec": "tokens"}, None, "loss by the law"),
        ("power", {"c": "budget_flops"}, "arch", "training FLOPs"),
    ],
)
def test_a_fit_is_drawn_with_its_law_and_residuals(law, columns, arch, text):
    found = estimate(TABLE, law, "suffix_bits_per_byte", arch=arch, resamples=20, **columns)
    figure = fitted(found)
    left, right = figure.axes
    assert left.get_xlabel().startswith(text)
    shown = [line for line in left.lines if line.get_linestyle() == "None"]
    assert sum(len(line.get_xdata()) for line in shown) == len(TABLE)
    assert sum(len(line.get_xdata()) for line in right.lines if line.get_linestyle() == "None") == len(TABLE)
    assert ("enc_dec" in texts(figure)) == (arch is not None)


def test_a_table_without_what_is_needed_is_one_line():
    with pytest.raises(UserError, match="label of the table = 'label' is not accepted: a column of it"):
        frontier(pl.DataFrame({"n": [1.0]}))
