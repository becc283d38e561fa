"""The data-constrained law: tokens that repeat are worth less than fresh ones, and so are parameters in excess."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from encdec_jax.laws.form import Columns, Evaluate, Form, Parameter, coefficient, compute_optimal, floor


@dataclass(frozen=True)
class DataConstrained(Form):
    """L = E + A / N'^alpha + B / D'^beta, of n parameters trained on d tokens of which u are unique.

    D' = U_D (1 + R_D* (1 - exp(-R_D / R_D*))) with U_D = min(u, d) and R_D = d/U_D - 1 repetitions. N' likewise, with
    U_N = min(n, N_opt(U_D)) and R_N = n/U_N - 1, where N_opt is the size for which U_D tokens are compute-optimal:
    N_opt = G (U_D G)^(beta/alpha), G = (alpha A / (beta B))^(1/(alpha + beta)).
    """

    def bind(self, columns: Columns) -> Evaluate:
        """See `Form.bind`."""
        ln_n, ln_d = np.log(columns["n"]), np.log(columns["d"])
        ln_u = np.minimum(np.log(columns["u"]), ln_d)

        def evaluate(params: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            a, b, e, ln_alpha, ln_beta, ln_rd, ln_rn = (params[:, i, None] for i in range(7))
            alpha, beta = np.exp(ln_alpha), np.exp(ln_beta)
            # ln N_opt; the Jacobian below uses its derivatives by a, b, ln_alpha and ln_beta.
            optimal = (ln_alpha + a - ln_beta - b + beta * ln_u) / alpha
            useful = np.minimum(optimal, ln_n)
            size, size_by_useful, size_by_rn = _worth(ln_n, useful, ln_rn)
            data, _, data_by_rd = _worth(ln_d, ln_u, ln_rd)
            z = np.stack(np.broadcast_arrays(a - alpha * size, b - beta * data, e))
            top = z.max(0)
            share = np.exp(z - top)
            total = share.sum(0)
            model, tokens, irreducible = share / total
            # alpha d ln N' / d(alpha ln N_opt) / alpha: what reaches N' through N_opt.
            through = model * np.where(optimal < ln_n, size_by_useful, 0.0)
            jacobian = np.stack(
                [
                    model - through,
                    tokens + through,
                    irreducible,
                    -model * alpha * size - through * (1 - alpha * optimal),
                    -tokens * beta * data + through * (1 - beta * ln_u),
                    -tokens * beta * data_by_rd,
                    -model * alpha * size_by_rn,
                ],
                1,
            )
            return top + np.log(total), jacobian

        return evaluate

    def derived(self, natural: np.ndarray) -> dict[str, np.ndarray]:
        """See `Form.derived`: of fresh tokens."""
        return compute_optimal(dict(zip(self.names, np.moveaxis(np.asarray(natural), -1, 0), strict=True)))


def _worth(ln_all: np.ndarray, ln_useful: np.ndarray, ln_star: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """ln of U (1 + R* (1 - exp(-R / R*))), R = all/U - 1, and its derivatives by ln U and ln R*."""
    star = np.exp(ln_star)
    repeats = np.expm1(ln_all - ln_useful)
    ratio = repeats / star
    left = np.exp(-ratio)
    factor = 1 - star * np.expm1(-ratio)
    by_useful = 1 - left * (repeats + 1) / factor
    by_star = star * (-np.expm1(-ratio) - left * ratio) / factor
    return ln_useful + np.log(factor), by_useful, by_star


_EXPONENTS = tuple(float(np.log(value)) for value in (0.2, 0.4, 0.8))

DATA_CONSTRAINED = DataConstrained(
    name="data_constrained",
    formula="L = E + A / N'^alpha + B / D'^beta, N' and D' of n, d and u with the constants R_N and R_D",
    source="Muennighoff et al. 2023, arXiv 2305.16264, section 3.1",
    columns=("n", "d", "u"),
    varied=("n", "d"),
    parameters=(
        coefficient("A", (3.0, 6.0, 12.0)),
        coefficient("B", (3.0, 6.0, 12.0)),
        floor(starts=(-1.0, 0.0, 1.0)),
        Parameter("alpha", True, _EXPONENTS),  # above 0, or no size is compute-optimal
        Parameter("beta", True, _EXPONENTS),
        Parameter("R_D", True, (0.0, 2.0, 4.0)),
        Parameter("R_N", True, (0.0, 2.0, 4.0)),
    ),
)
