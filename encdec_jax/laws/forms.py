"""The laws that can be fitted, by name.

Laws of a frontier, fitted to a few optima rather than to runs, have closed forms: see `encdec_jax.laws.frontier`.

Columns: n parameters, d training tokens, c training FLOPs, n_enc and n_dec parameters of encoder and decoder, u unique
tokens, width (d_model), depth (layers), x another loss or score of the same runs.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from encdec_jax.laws.constrained import DATA_CONSTRAINED
from encdec_jax.laws.coupled import COUPLED, NOISY
from encdec_jax.laws.form import Form, Parameter, Sum, Term, coefficient, compute_optimal, exponent, floor
from encdec_jax.laws.kaplan import KAPLAN

_Values = Mapping[str, np.ndarray]
_FEW_COEFFICIENTS = (0.0, 7.0, 14.0)
_FEW_EXPONENTS = (0.1, 0.4, 1.0)
_FEW_FLOORS = (-1.0, 0.0, 1.0)


def _kaplan_n(p: _Values) -> dict[str, np.ndarray]:
    with np.errstate(all="ignore"):
        return {"N_c": p["A"] ** (1 / p["alpha"])}


def _kaplan_d(p: _Values) -> dict[str, np.ndarray]:
    with np.errstate(all="ignore"):
        return {"D_c": p["B"] ** (1 / p["beta"])}


def _share(p: _Values) -> dict[str, np.ndarray]:
    """Of the least loss at n_enc + n_dec = N: the share p_e / (p_e + p_d), at any N (Ghorbani et al., section 3)."""
    both = p["p_enc"] + p["p_dec"]
    with np.errstate(all="ignore"):
        return {"encoder_share": p["p_enc"] / both, "n_total_exponent": both}


_ENC_DEC = Term("A", (("p_enc", "n_enc"), ("p_dec", "n_dec")))

FORMS: dict[str, Form] = {
    form.name: form
    for form in (
        Sum(
            name="chinchilla3",
            formula="L = E + A / n^alpha + B / d^beta",
            source="Hoffmann et al. 2022, arXiv 2203.15556, section 3.3 (Approach 3)",
            columns=("n", "d"),
            varied=("n", "d"),
            parameters=(coefficient("A"), coefficient("B"), floor(), exponent("alpha"), exponent("beta")),
            terms=(Term("A", (("alpha", "n"),)), Term("B", (("beta", "d"),)), Term("E")),
            derive=compute_optimal,
        ),
        COUPLED,
        Sum(
            name="kaplan_n",
            formula="L = A / n^alpha = (N_c / n)^alpha",
            source="Kaplan et al. 2020, arXiv 2001.08361, eq. 1.1",
            columns=("n",),
            varied=("n",),
            parameters=(coefficient("A"), exponent("alpha")),
            terms=(Term("A", (("alpha", "n"),)),),
            derive=_kaplan_n,
        ),
        Sum(
            name="kaplan_d",
            formula="L = B / d^beta = (D_c / d)^beta",
            source="Kaplan et al. 2020, arXiv 2001.08361, eq. 1.2",
            columns=("d",),
            varied=("d",),
            parameters=(coefficient("B"), exponent("beta")),
            terms=(Term("B", (("beta", "d"),)),),
            derive=_kaplan_d,
        ),
        NOISY,
        KAPLAN,
        Sum(
            name="power",
            formula="L = A / c^gamma",
            source="Kaplan et al. 2020, arXiv 2001.08361, eq. 1.3",
            columns=("c",),
            varied=("c",),
            parameters=(coefficient("A"), exponent("gamma")),
            terms=(Term("A", (("gamma", "c"),)),),
        ),
        Sum(
            name="saturating",
            formula="L = E + A / c^gamma",
            source="Henighan et al. 2020, arXiv 2010.14701, eq. 1.1",
            columns=("c",),
            varied=("c",),
            parameters=(coefficient("A"), floor(), exponent("gamma")),
            terms=(Term("A", (("gamma", "c"),)), Term("E")),
        ),
        Sum(
            name="encdec",
            formula="L = E + A / (n_enc^p_enc n_dec^p_dec)",
            source="Ghorbani et al. 2021, arXiv 2109.07740, section 3",
            columns=("n_enc", "n_dec"),
            varied=("n_enc", "n_dec"),
            parameters=(coefficient("A"), floor(), exponent("p_enc"), exponent("p_dec")),
            terms=(_ENC_DEC, Term("E")),
            derive=_share,
        ),
        Sum(
            name="encdec_d",
            formula="L = E + A / (n_enc^p_enc n_dec^p_dec) + B / d^beta",
            source="Ghorbani et al. 2021, arXiv 2109.07740, section 3, with the data term of Hoffmann et al. 2022",
            columns=("n_enc", "n_dec", "d"),
            varied=("n_enc", "n_dec", "d"),
            parameters=(
                coefficient("A", _FEW_COEFFICIENTS),
                coefficient("B", _FEW_COEFFICIENTS),
                floor(starts=_FEW_FLOORS),
                exponent("p_enc", _FEW_EXPONENTS),
                exponent("p_dec", _FEW_EXPONENTS),
                exponent("beta", _FEW_EXPONENTS),
            ),
            terms=(_ENC_DEC, Term("B", (("beta", "d"),)), Term("E")),
            derive=_share,
        ),
        DATA_CONSTRAINED,
        Sum(
            name="loss_to_loss",
            formula="L = E + A / x^gamma",
            source="Brandfonbrener et al. 2024, arXiv 2411.12925, with x's own floor at 0: L = E + A x^kappa",
            columns=("x",),
            varied=("x",),
            parameters=(
                coefficient("A", (-3.0, 0.0, 3.0)),
                floor(starts=_FEW_FLOORS),
                # Below 0 where the two fall together.
                Parameter("gamma", False, (-2.0, -1.0, -0.5, 0.5, 1.0), any_sign=True),
            ),
            terms=(Term("A", (("gamma", "x"),)), Term("E")),
            derive=lambda p: {"kappa": -p["gamma"]},
        ),
        Sum(
            name="width_depth",
            formula="L = E + A / width^alpha + B / depth^beta + G / d^gamma",
            source="McLeish et al. 2025, arXiv 2502.06857: the law of width, depth and tokens",
            columns=("width", "depth", "d"),
            varied=("width", "depth", "d"),
            parameters=(
                coefficient("A", (0.0, 5.0)),  # widths and depths are small numbers
                coefficient("B", (-3.0, 3.0)),
                coefficient("G", _FEW_COEFFICIENTS),
                floor(starts=_FEW_FLOORS),
                exponent("alpha", _FEW_EXPONENTS),
                exponent("beta", _FEW_EXPONENTS),
                exponent("gamma", _FEW_EXPONENTS),
            ),
            terms=(
                Term("A", (("alpha", "width"),)),
                Term("B", (("beta", "depth"),)),
                Term("G", (("gamma", "d"),)),
                Term("E"),
            ),
        ),
    )
}
