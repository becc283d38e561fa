"""Kaplan's joint law of parameters and data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from encdec_jax.laws.form import Columns, Evaluate, Form, Parameter, coefficient, exponent


@dataclass(frozen=True)
class Kaplan(Form):
    """L = ((N_c/n)^(alpha/beta) + D_c/d)^beta, with A = N_c^alpha and B = D_c^beta as parameters.

    So without data's limit L = A / n^alpha and without the model's L = B / d^beta, as in `kaplan_n` and `kaplan_d`.
    """

    def bind(self, columns: Columns) -> Evaluate:
        """See `Form.bind`."""
        ln_n, ln_d = np.log(columns["n"]), np.log(columns["d"])

        def evaluate(params: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            a, b, alpha = params[:, 0, None], params[:, 1, None], params[:, 2, None]
            beta = np.exp(params[:, 3, None])
            model, data = (a - alpha * ln_n) / beta, b / beta - ln_d
            total = np.logaddexp(model, data)
            of_model, of_data = np.exp(model - total), np.exp(data - total)
            by_beta = total - of_model * model - of_data * (data + ln_d)
            return beta * total, np.stack([of_model, of_data, -of_model * ln_n, beta * by_beta], 1)

        return evaluate

    def derived(self, natural: np.ndarray) -> dict[str, np.ndarray]:
        """See `Form.derived`."""
        scale_n, scale_d, alpha, beta = np.moveaxis(np.asarray(natural), -1, 0)
        with np.errstate(all="ignore"):
            return {"N_c": scale_n ** (1 / alpha), "D_c": scale_d ** (1 / beta)}


KAPLAN = Kaplan(
    name="kaplan",
    formula="L = ((A / n^alpha)^(1/beta) + (B / d^beta)^(1/beta))^beta, N_c = A^(1/alpha), D_c = B^(1/beta)",
    source="Kaplan et al. 2020, arXiv 2001.08361, eq. 1.5",
    columns=("n", "d"),
    varied=("n", "d"),
    parameters=(
        coefficient("A"),
        coefficient("B"),
        exponent("alpha", (0.05, 0.1, 0.2, 0.5, 1.0)),
        Parameter("beta", True, (-3.0, -2.0, -1.0, 0.0)),  # above 0, or more data would be worse
    ),
)
