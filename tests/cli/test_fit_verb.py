"""encdec fit, on a table that somebody else made."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from encdec_jax.cli.main import main

COLUMNS = ("--n", "params", "--d", "tokens_seen", "--loss", "val_ce")


def stranger(folder: Path, *, rows: int = 240, **changes: list[str]) -> Path:
    """A CSV with names, columns and notes of its own: losses of a law with known exponents."""
    random = np.random.default_rng(0)
    compute, n = 10 ** random.uniform(18, 21.5, rows), 10 ** random.uniform(7, 9.8, rows)
    d = compute / (6 * n)
    loss = (1.69 + 406.4 / n**0.34 + 410.7 / d**0.28) * np.exp(0.004 * random.standard_normal(rows))
    columns = {
        "name": [f"run, {i}" for i in range(rows)],
        "params": n,
        "tokens_seen": d,
        "val_ce": loss,
        "comment": ["" for _ in range(rows)],
        **changes,
    }
    lines = [",".join(columns)]
    for values in zip(*columns.values(), strict=True):
        lines.append(",".join(f'"{value}"' if isinstance(value, str) else f"{value:.8g}" for value in values))
    path = folder / "runs.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_strangers_table_gives_a_law_an_interval_and_a_picture(tmp_path, capsys):
    out = tmp_path / "pictures"
    code = main(
        [
            "fit",
            str(stranger(tmp_path)),
            "--law",
            "chinchilla3",
            *COLUMNS,
            "--resamples",
            "200",
            "--json",
            "--out",
            str(out),
        ]
    )
    shown = json.loads(capsys.readouterr().out)
    assert code == 0
    assert (shown["law"], shown["converged"], shown["n_points"], shown["n_excluded"]) == ("chinchilla3", True, 240, 0)
    truth = {"A": 406.4, "B": 410.7, "E": 1.69, "alpha": 0.34, "beta": 0.28}
    for name, value in truth.items():
        found = shown["params"][name]
        assert found["lo"] < found["value"] < found["hi"]
        assert found["value"] == pytest.approx(value, rel=0.3 if name in "AB" else 0.05)
    assert shown["derived"]["n_exponent"]["lo"] < 0.28 / 0.62 < shown["derived"]["n_exponent"]["hi"]
    assert shown["objective"] > 0
    assert shown["warnings"] == []
    assert (out / "runs-chinchilla3.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (out / "runs-chinchilla3.svg").read_text()


def test_the_table_says_what_was_left_out_and_where_the_picture_is(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    family = ["t5" if i % 2 else "gpt" for i in range(60)]
    table = stranger(tmp_path, rows=60, family=family)
    code = main(["fit", str(table), "--law", "kaplan_n", *COLUMNS, "--where", "family=t5", "--resamples", "50"])
    out = capsys.readouterr().out
    assert code == 0
    assert "30 points; 30 left out: not family=t5" in out
    assert "alpha" in out
    assert "picture: runs-kaplan_n.png" in out
    assert (tmp_path / "runs-kaplan_n.svg").exists()
    assert main(["fit", str(table), "--law", "kaplan_n", *COLUMNS, "--arch", "family", "--resamples", "0"]) == 0
    out = capsys.readouterr().out
    assert "A[t5]" in out
    assert "no interval" in out


def test_a_law_of_another_loss_rises_with_it(tmp_path, capsys):
    other = np.linspace(1.2, 2.6, 20)
    noise = np.random.default_rng(0).normal(0, 0.002, 20)
    path = tmp_path / "losses.csv"
    rows = zip(other, (0.3 + 0.8 * other**1.3) * np.exp(noise), strict=True)
    path.write_text("wiki,law\n" + "".join(f"{a:.6f},{b:.6f}\n" for a, b in rows))
    command = ["fit", str(path), "--law", "loss_to_loss", "--x", "wiki", "--loss", "law", "--resamples", "200"]
    assert main([*command, "--json", "--out", str(tmp_path)]) == 0
    found = json.loads(capsys.readouterr().out)
    kappa = found["derived"]["kappa"]
    assert kappa["lo"] < 1.3 < kappa["hi"]
    assert not found["warnings"]
    assert (tmp_path / "losses-loss_to_loss.png").exists()


def test_the_largest_budget_is_held_out(tmp_path, capsys):
    path = stranger(tmp_path, rows=60, flops=np.repeat([1.0, 2.0, 4.0], 20) * 1e18)
    usual = ["fit", str(path), "--law", "kaplan_n", *COLUMNS, "--resamples", "50", "--out", str(tmp_path)]
    assert main([*usual, "--c", "flops", "--hold-out", "largest"]) == 0
    (row,) = (line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("training FLOPs from"))
    assert row[:6] == ["training", "FLOPs", "from", "3.8e18", "20", "40"]
    assert main([*usual, "--hold-out", "1e20", "--json"]) == 0  # 6 n d, as no column is named
    held = json.loads(capsys.readouterr().out)["hold_out"]
    assert held["from"] == 1e20
    assert held["n_fitted"] + held["n_held_out"] == 60
    assert held["error"] >= abs(held["bias"])
    assert 0 <= held["coverage"] <= 1
    assert main([*usual, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["hold_out"] is None
    without_d = ["fit", str(path), "--law", "kaplan_n", "--n", "params", "--loss", "val_ce", "--hold-out", "largest"]
    assert main([*without_d, "--out", str(tmp_path)]) == 2
    assert "a column c, or n and d" in capsys.readouterr().err


def test_a_fit_that_does_not_converge_is_exit_code_1_and_no_numbers(tmp_path, capsys, monkeypatch):
    import dataclasses

    from encdec_jax.laws import estimate

    fit = estimate.fit
    monkeypatch.setattr(estimate, "fit", lambda *a, **k: dataclasses.replace(fit(*a, **k), converged=False))
    code = main(["fit", str(stranger(tmp_path)), "--law", "kaplan_n", *COLUMNS, "--out", str(tmp_path / "out")])
    out = capsys.readouterr().out
    assert code == 1
    assert "did not converge: there is no law to report" in out
    assert "alpha" not in out.split("\n\n", 1)[1]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "arguments", "message"),
    [
        ({}, ["--n", "N", "--d", "tokens_seen", "--loss", "val_ce"], "n = 'N' is not accepted: a column of the table"),
        ({}, ["--n", "name", *COLUMNS[2:]], "n (column 'name'), row 1 = 'run, 0' is not accepted: a number"),
        ({}, ["--d", "tokens_seen", "--loss", "val_ce"], "chinchilla3 reads n, d"),
        ({"rows": 5}, COLUMNS, "points = 5 is not accepted: more than the 5 parameters"),
        ({"params": [1e9] * 240}, COLUMNS, "n = '1e+09 everywhere' is not accepted"),
        ({"val_ce": [2.0, -1.0] * 120}, COLUMNS, "row 2 = -1 is not accepted: finite, above 0 (120 such rows)"),
        ({"val_ce": [2.0, np.nan] * 120}, COLUMNS, "row 2 = nan is not accepted: finite, above 0 (120 such rows)"),
        (
            {"params": np.geomspace(1e7, 1e9, 240), "tokens_seen": np.geomspace(1e11, 1e9, 240)},
            COLUMNS,
            "one budget",
        ),
        ({}, [*COLUMNS, "--bootstrap", "months"], "scheme = 'months' is not accepted"),
        ({}, [*COLUMNS, "--stray"], "unknown arguments: --stray"),
        ({"rows": 40}, [*COLUMNS, "--hold-out", "small"], "hold-out = 'small' is not accepted: FLOPs above 0, or"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_bad_input_is_one_line_and_exit_code_2(tmp_path, capsys, changes, arguments, message):
    path = stranger(tmp_path, **changes)
    code = main(["fit", str(path), "--law", "chinchilla3", *arguments, "--out", str(tmp_path / "out")])
    captured = capsys.readouterr()
    assert code == 2
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert not captured.out
    assert not (tmp_path / "out").exists()


def test_units_off_by_a_million_are_doubted_not_refused(tmp_path, capsys):
    path = stranger(tmp_path, rows=40)
    header, *lines = path.read_text().splitlines()
    cells = [line.rsplit(",", 4) for line in lines]
    path.write_text("\n".join([header, *(",".join([c[0], f"{float(c[1]) / 1e6}", *c[2:]]) for c in cells)]) + "\n")
    code = main(["fit", str(path), "--law", "kaplan", *COLUMNS, "--resamples", "0", "--json"])
    shown = json.loads(capsys.readouterr().out)
    assert code == 0
    assert any("tokens a parameter: are both in the same unit?" in text for text in shown["warnings"])


def test_the_options_are_the_columns_that_laws_read():
    from encdec_jax.cli.fit import _ROLES, EPILOG
    from encdec_jax.laws.forms import FORMS

    read = {name for form in FORMS.values() for name in form.columns}
    assert {role.replace("-", "_") for role in _ROLES} == read
    assert all(name in EPILOG for name in FORMS)
