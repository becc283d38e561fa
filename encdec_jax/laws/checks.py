"""What a table must hold for a law to be fitted to it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from encdec_jax.errors import UserError, require
from encdec_jax.laws.form import Columns, Form
from encdec_jax.laws.joint import GROUP, Joint

_APART = 0.02  # standard deviation of ln(column), in the direction in which it is least, that counts as varied


def checked(
    form: Form, columns: Columns, loss: np.ndarray, weights: np.ndarray | None, fixed: Mapping[str, float]
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """The columns that the law reads, the loss and the weights, in float64.

    Of a joint law each group's points must determine its own law: parameters that another group lends hide that they
    don't.

    Raises:
      UserError: see `encdec_jax.laws.fit.fit`.
    """
    for name in form.columns:
        require(name in columns, "columns", sorted(columns), f"the law {form.name} reads {', '.join(form.columns)}")
    target = _numbers("loss", loss, 0.0 if form.logarithmic else -np.inf)
    table = {
        name: np.asarray(columns[name]) if name == form.group else _numbers(name, columns[name], 0.0)
        for name in form.columns
    }
    point_weights = np.ones(len(target)) if weights is None else _numbers("weights", weights, None)
    for name, values in (*table.items(), ("weights", point_weights)):
        require(
            len(values) == len(target), name, f"{len(values)} values", f"one a loss, of which there are {len(target)}"
        )
    for name, value in fixed.items():
        require(name in form.names, "fixed", name, f"a parameter of {form.name}: {', '.join(form.names)}")
        inside = np.isfinite(value) and (value > 0 or not form.logs[form.names.index(name)])
        require(inside, name, value, "a finite number, above 0 unless an exponent")
    moving = [name for name in form.names if name not in fixed]
    points = int((point_weights > 0).sum())
    require(bool(moving), "fixed", sorted(fixed), "at least one parameter of the law left to fit")
    require(points > len(moving), "points", points, f"more than the {len(moving)} parameters that {form.name} fits")
    _require_varied(form, table, point_weights > 0)
    if isinstance(form, Joint):
        for group in form.groups:
            _require_alone(form, group, table, target, point_weights, fixed)
    return table, target, point_weights


def _numbers(name: str, values: np.ndarray, above: float | None) -> np.ndarray:
    accepted = (
        "numbers, finite" if above == -np.inf else f"numbers, finite and {'at least' if above is None else 'above'} 0"
    )
    try:
        numbers = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        raise UserError(f"{name} is not accepted: {accepted}") from None
    require(numbers.ndim == 1, name, f"{numbers.ndim} dimensions", "one value a point")
    wrong = ~(np.isfinite(numbers) & (numbers >= 0 if above is None else numbers > above))
    if wrong.any():
        first = int(wrong.argmax())
        require(False, f"{name}[{first}]", float(numbers[first]), accepted)
    return numbers


def _require_alone(
    form: Joint,
    group: str,
    table: Columns,
    target: np.ndarray,
    point_weights: np.ndarray,
    fixed: Mapping[str, float],
) -> None:
    here = np.asarray(table[GROUP]) == group
    held = {name: fixed[called] for name in form.form.names for called in (name, f"{name}[{group}]") if called in fixed}
    if len(held) == len(form.form.names):
        return
    try:
        checked(
            form.form,
            {name: table[name][here] for name in form.form.columns},
            target[here],
            point_weights[here],
            held,
        )
    except UserError as error:
        raise UserError(f"{GROUP} {group}: {error}") from None


def _require_varied(form: Form, table: Columns, used: np.ndarray) -> None:
    logs = {name: np.log(table[name][used]) for name in form.varied}
    for name, values in logs.items():
        require(
            float(values.std()) > _APART,
            name,
            f"{np.exp(values.mean()):.4g} everywhere",
            "values that differ by more than 2 %",
        )
    centred = np.stack([values - values.mean() for values in logs.values()])
    if len(centred) > 1:
        least = np.linalg.svd(centred, compute_uv=False)[-1] / np.sqrt(centred.shape[1])
        names = " and ".join(form.varied)
        require(
            bool(least > _APART),
            names,
            "bound to each other",
            "columns that vary apart: one budget, or one shape scaled up, does not determine the law",
        )
