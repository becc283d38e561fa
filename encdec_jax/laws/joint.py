"""One law fitted to several architectures at once, with parameters that they share and parameters of their own."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from encdec_jax.errors import require
from encdec_jax.laws.form import Columns, Evaluate, Form

GROUP = "arch"
_GRID = 100  # starts common to all groups, beside those composed of the groups' own fits


@dataclass(frozen=True)
class Joint(Form):
    """A law whose points belong to groups. A parameter of one group is called by its name and the group: 'A[enc_dec]'.

    Attributes:
      form: the law of every group.
      groups: values of the column `arch`.
      places: for each group, where its parameters stand among those of the joint law.
    """

    form: Form
    groups: tuple[str, ...]
    places: tuple[tuple[int, ...], ...]

    @property
    def group(self) -> str | None:
        """See `Form.group`."""
        return GROUP

    @property
    def logarithmic(self) -> bool:
        """See `Form.logarithmic`."""
        return self.form.logarithmic

    def bind(self, columns: Columns) -> Evaluate:
        """See `Form.bind`.

        Raises:
          UserError: a point belongs to none of the groups.
        """
        of = np.asarray(columns[GROUP])
        unknown = sorted({str(value) for value in of} - set(self.groups))
        require(not unknown, GROUP, unknown, f"groups of the law: {', '.join(self.groups)}")
        parts = []
        for group, place in zip(self.groups, self.places, strict=True):
            here = np.flatnonzero(of == group)
            if len(here):
                bound = self.form.bind({name: columns[name][here] for name in self.form.columns})
                parts.append((here, list(place), bound))

        def evaluate(params: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            log_loss = np.empty((len(params), len(of)))
            jacobian = np.zeros((len(params), params.shape[1], len(of)))
            for here, place, bound in parts:
                log_loss[:, here], own = bound(params[:, place])
                jacobian[:, np.array(place)[:, None], here] = own
            return log_loss, jacobian

        return evaluate

    def derived(self, natural: np.ndarray) -> dict[str, np.ndarray]:
        """See `Form.derived`: for each group, called by name and group."""
        natural = np.asarray(natural)
        return {
            f"{name}[{group}]": value
            for group, place in zip(self.groups, self.places, strict=True)
            for name, value in self.form.derived(natural[..., list(place)]).items()
        }

    def grid(self) -> np.ndarray:
        """A part of the law's grid, each start for all groups alike, [starts, params]."""
        base = self.form.grid()
        base = base[:: max(1, len(base) // _GRID)]
        out = np.empty((len(base), len(self.names)))
        for place in self.places:
            out[:, list(place)] = base
        return out

    def composed(self, alone: Mapping[str, np.ndarray]) -> np.ndarray:
        """Starts made of what the groups, fitted alone, came to: each group lends the shared parameters once.

        Args:
          alone: internal parameters of every group's law, [params of the law].

        Returns:
          [groups, params].
        """
        out = np.empty((len(self.groups), len(self.names)))
        for turn, lender in enumerate(self.groups):
            for group, place in (*zip(self.groups, self.places, strict=True), (lender, self.places[turn])):
                out[turn, list(place)] = alone[group]
        return out


def joint(form: Form, groups: Sequence[str], shared: Collection[str] = ()) -> Joint:
    """A law for several groups at once.

    Args:
      form: the law of every group.
      groups: values of the table's column `arch`.
      shared: parameters that all groups have in common; the others are the groups' own.

    Raises:
      UserError: fewer than two groups, or a shared parameter that the law doesn't have.
    """
    require(len(groups) >= 2 and len(set(groups)) == len(groups), "groups", list(groups), "two or more, each once")
    for name in shared:
        require(name in form.names, "shared", name, f"parameters of {form.name}: {', '.join(form.names)}")
    common = [p for p in form.parameters if p.name in shared]
    own = [p for p in form.parameters if p.name not in shared]
    parameters = [*common, *(replace(p, name=f"{p.name}[{group}]") for group in groups for p in own)]
    index = {parameter.name: i for i, parameter in enumerate(parameters)}
    places = tuple(
        tuple(index[name if name in shared else f"{name}[{group}]"] for name in form.names) for group in groups
    )
    return Joint(
        name=f"{form.name} of {', '.join(groups)}",
        formula=form.formula,
        source=form.source,
        columns=(*form.columns, GROUP),
        varied=form.varied,
        parameters=tuple(parameters),
        form=form,
        groups=tuple(groups),
        places=places,
    )
