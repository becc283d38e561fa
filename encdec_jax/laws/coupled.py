"""Laws whose terms stand together under one exponent: of parameters and tokens, and of tokens alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from encdec_jax.laws.form import Columns, Evaluate, Form, Parameter, coefficient, compute_optimal, exponent, floor


@dataclass(frozen=True)
class Coupled(Form):
    """L = E + (A / n^alpha + B / d^beta)^gamma; gamma = 1 is the law of Hoffmann et al. 2022."""

    def bind(self, columns: Columns) -> Evaluate:
        """See `Form.bind`."""
        ln_n, ln_d = np.log(columns["n"]), np.log(columns["d"])

        def evaluate(params: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            a, b, e, alpha, beta, ln_gamma = (params[:, i, None] for i in range(6))
            gamma = np.exp(ln_gamma)
            model, data = a - alpha * ln_n, b - beta * ln_d
            inner = np.logaddexp(model, data)
            total = np.logaddexp(e, gamma * inner)
            power, irreducible = np.exp(gamma * inner - total), np.exp(e - total)
            of_model, of_data = (gamma * power * np.exp(part - inner) for part in (model, data))
            jacobian = [of_model, of_data, irreducible, -of_model * ln_n, -of_data * ln_d, gamma * power * inner]
            return total, np.stack(jacobian, 1)

        return evaluate

    def derived(self, natural: np.ndarray) -> dict[str, np.ndarray]:
        """See `Form.derived`: the best sizes are those of the sum under the exponent."""
        values = dict(zip(self.names, np.moveaxis(np.asarray(natural), -1, 0), strict=True))
        found = compute_optimal(values)
        return {**found, "loss_exponent": found["loss_exponent"] * values["gamma"]}


@dataclass(frozen=True)
class Noisy(Form):
    """L = A (1/d + C)^p: C is the noise of the data, of which more does not help; the loss ends at A C^p."""

    def bind(self, columns: Columns) -> Evaluate:
        """See `Form.bind`."""
        ln_d = np.log(columns["d"])

        def evaluate(params: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            a, c, p = (params[:, i, None] for i in range(3))
            inner = np.logaddexp(-ln_d, c)
            return a + p * inner, np.stack([np.ones_like(inner), p * np.exp(c - inner), inner], 1)

        return evaluate

    def derived(self, natural: np.ndarray) -> dict[str, np.ndarray]:
        """See `Form.derived`: `loss_limit`, of data without end, and `d_noise`, the tokens 1/C at which it nears."""
        scale, noise, p = np.moveaxis(np.asarray(natural), -1, 0)
        with np.errstate(all="ignore"):
            return {"loss_limit": scale * noise**p, "d_noise": 1 / noise}


COUPLED = Coupled(
    name="coupled",
    formula="L = E + (A / n^alpha + B / d^beta)^gamma",
    source="Beck et al. 2025, arXiv 2510.02228, after Busbridge et al. 2025, arXiv 2502.08606",
    columns=("n", "d"),
    varied=("n", "d"),
    parameters=(
        coefficient("A", (0.0, 5.0, 10.0, 15.0)),
        coefficient("B", (0.0, 5.0, 10.0, 15.0)),
        floor(starts=(-1.0, 0.0, 0.7)),
        exponent("alpha", (0.2, 0.5, 1.0)),
        exponent("beta", (0.2, 0.5, 1.0)),
        Parameter("gamma", True, (-1.2, 0.0)),  # above 0, or less would be better
    ),
)
NOISY = Noisy(
    name="bansal",
    formula="L = A (1/d + C)^p",
    source="Bansal et al. 2022, arXiv 2202.01994",
    columns=("d",),
    varied=("d",),
    parameters=(
        coefficient("A"),
        Parameter("C", True, (-30.0, -26.0, -22.0, -18.0, -14.0, -10.0)),  # 1/C is a number of tokens
        exponent("p", (0.1, 0.2, 0.4, 0.8)),
    ),
)
