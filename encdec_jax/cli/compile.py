"""The verb compile: a run's real step, compiled for accelerators that this machine does not have."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from encdec_jax.cli.arguments import add_config_verb, ranged
from encdec_jax.config import RunConfig
from encdec_jax.errors import UserError, require
from encdec_jax.mesh import AXES
from encdec_jax.ranges import COUNT
from encdec_jax.train.config import MeshConfig

if TYPE_CHECKING:
    from encdec_jax.aot.compile import Compiled
    from encdec_jax.aot.topology import Topology

TEXT = "compile the real step for TPUs or GPUs that are not here: will it fit, what does it send, how long must it take"


def add(verbs: Any) -> argparse.ArgumentParser:
    """Add the verb to the parser."""
    parser = add_config_verb(verbs, "compile", TEXT)
    option = parser.add_argument
    option(
        "--topology", required=True, metavar="NAME", help="v5e:16x16, v6e:16x16, v5p:8x8x8, v4:AxBxC, h100:8, a100:8"
    )
    option(
        "--mesh", metavar="AXIS=N,...", help="of data, fsdp, tensor, sequence; left out ones are 1; default: CONFIG's"
    )
    option("--step", choices=("train", "prefill", "decode"), default="train", help="default train")
    option(
        "--rows",
        type=ranged("--rows", COUNT, int),
        metavar="N",
        help="of the batch; default: CONFIG's train.batch_size",
    )
    option("--search", action="store_true", help="compile for the likeliest meshes and remat policies, and rank them")
    option(
        "--limit",
        type=ranged("--limit", COUNT, int),
        default=12,
        metavar="N",
        help="compilations of a search; default 12",
    )
    option("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(function=compile_)
    return parser


def compile_(options: argparse.Namespace) -> int:
    """Compile one step, or search.

    Raises:
      UserError: the topology, the mesh or the rows are not accepted, an extra is missing, or nothing fits.
    """
    from encdec_jax.aot.topology import devices, topology
    from encdec_jax.model.choice import resolve

    given = topology(options.topology)
    run = _with_rows(options.run, options.rows)
    if not options.search:
        run = replace(run, mesh=_mesh(options.mesh, run.mesh, given))
    elif options.mesh is not None:
        raise UserError("--mesh and --search exclude each other: the search chooses the mesh")
    found = devices(given)  # before anything else imports jax
    if not options.search:
        from encdec_jax.compute.limits import check_mesh

        check_mesh(run, options.step)
    run = replace(run, model=resolve(run.model, given.platform))
    return _search(run, given, found, options) if options.search else _one(run, given, found, options)


def _one(run: RunConfig, given: Topology, devices: list[Any], options: argparse.Namespace) -> int:
    from encdec_jax.aot.compile import compile_step
    from encdec_jax.tables.compile import print_step, refusal, step_json
    from encdec_jax.text import console

    found = compile_step(run, given, devices, options.step)
    if options.json:
        print(json.dumps(step_json(found), indent=1))
    else:
        print_step(found, console())
    if not found.fits:
        raise UserError(refusal(found))
    return 0


def _search(run: RunConfig, given: Topology, devices: list[Any], options: argparse.Namespace) -> int:
    from rich.progress import track

    from encdec_jax.aot.compile import compile_step
    from encdec_jax.aot.search import candidates, rank
    from encdec_jax.tables.compile import print_ranking, refusal, step_json
    from encdec_jax.text import console, progress_console

    runs = candidates(run, given, options.step)
    shown = progress_console()
    found: list[Compiled] = []
    for one in track(runs[: options.limit], "compiling", console=shown, disable=not shown.is_terminal):
        found.append(compile_step(one, given, devices, options.step))
        latest = found[-1]
        text = f"{latest.bound.overlapped:.4g} s" if latest.fits and latest.bound else "does not fit"
        shown.print(f"{one.mesh} remat {one.model.remat}: {latest.needs / 2**30:.2f} GiB a device, {text}")
    ranked = rank(found)
    left = len(runs) - len(found)
    if options.json:
        print(json.dumps({"ranked": [step_json(one) for one in ranked], "not_compiled": left}, indent=1))
    else:
        print_ranking(ranked, left, console())
    if not ranked[0].fits:
        raise UserError(refusal(ranked[0]))
    return 0


def _with_rows(run: RunConfig, rows: int | None) -> RunConfig:
    if rows is None:
        return run
    from encdec_jax.data.geometry import geometry

    return replace(run, train=replace(run.train, batch_size=rows * geometry(run).layout.windows))


def _mesh(text: str | None, default: MeshConfig, given: Topology) -> MeshConfig:
    """The mesh of --mesh, or the configuration's, if the topology is that large."""
    sizes: dict[str, int] = {}
    for part in [] if text is None else text.split(","):
        name, _, number = part.partition("=")
        ok = name in AXES and number.isdigit() and name not in sizes
        require(
            ok, "--mesh", text, ",".join(f"{axis}=N" for axis in AXES) + ", as in fsdp=64,tensor=4; left out ones are 1"
        )
        sizes[name] = int(number)
    mesh = default if text is None else MeshConfig(**sizes)
    field = "mesh of the configuration" if text is None else "--mesh"
    accepted = f"numbers whose product is the {given.size} devices of {given.name}, or --search to find the best"
    require(mesh.size == given.size, field, str(mesh), accepted)
    return mesh
