"""Laws whose residuals are those of the loss itself, not of its logarithm: losses may then be negative."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from encdec_jax.errors import require
from encdec_jax.laws.form import Columns, Evaluate, Form, Parameter

FLOOR = "E"
_BELOW = (0.01, 0.1, 0.5, 2.0)  # starts of the floor, below the least loss, in spans of the losses


@dataclass(frozen=True)
class InLoss(Form):
    """A law as it is, its floor of any sign."""

    form: Form

    @property
    def logarithmic(self) -> bool:
        """See `Form.logarithmic`."""
        return False

    def bind(self, columns: Columns) -> Evaluate:
        """See `Form.bind`: of the loss, where others give its logarithm."""
        evaluate = self.form.bind(columns)
        if FLOOR not in self.names:

            def whole(params: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
                log_loss, jacobian = evaluate(params)
                loss = np.exp(log_loss)
                return loss, jacobian * loss[:, None]

            return whole
        place = self.names.index(FLOOR)

        def above(params: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            without = params.copy()
            without[:, place] = -np.inf
            log_rest, jacobian = evaluate(without)
            rest = np.exp(log_rest)
            jacobian = jacobian * rest[:, None]
            jacobian[:, place] = 1.0
            return params[:, place, None] + rest, jacobian

        return above

    def derived(self, natural: np.ndarray) -> dict[str, np.ndarray]:
        """See `Form.derived`."""
        return self.form.derived(natural)


def in_loss(form: Form, loss: np.ndarray) -> InLoss:
    """A law whose residuals are those of the loss.

    Args:
      form: the law of one group.
      loss: that it will be fitted to, [points]: the floor's starts lie below the least.

    Raises:
      UserError: a loss is not above 0, and the law has no floor that could be below.
    """
    least, span = float(loss.min()), float(np.ptp(loss))
    require(least > 0 or FLOOR in form.names, "loss", least, f"above 0: {form.name} has no floor {FLOOR}")
    floor = Parameter(FLOOR, False, tuple(least - below * span for below in _BELOW), any_sign=True)
    parameters = tuple(floor if parameter.name == FLOOR else parameter for parameter in form.parameters)
    shown = {name: getattr(form, name) for name in ("name", "formula", "source", "columns", "varied")}
    return InLoss(**shown, parameters=parameters, form=form)
