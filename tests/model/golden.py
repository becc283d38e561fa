"""Losses and parameters of every architecture after three updates, as they were when this file was last written.

    python tests/model/golden.py            # compare, bit by bit, with what is on file (for this machine's own record)
    python tests/model/golden.py --update   # write them

The test (`test_golden_values.py`) allows what another CPU or another XLA may round differently; a change of the core is
compared bit by bit on one machine, by this command, before and behind it.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import jax
import numpy as np
from flax import nnx

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "train"))

from dataclasses import replace

from stepping import batch, run_config, stack, train

FILE = Path(__file__).with_name("golden.json")
ARCHS = ("enc_dec", "enc_dec_causal", "enc_dec_shared", "layerwise", "coordinated", "prefix_lm", "causal_lm")


def record(arch: str, scan: bool) -> dict:
    """Three updates on batches of random tokens, AdamW with weight decay and muP: losses, sums and a digest."""
    run = run_config(arch, steps_per_call=3)
    model = replace(run.model, scan=scan, qk_norm=not scan, mlp="swiglu" if scan else "gelu", base_width=8)
    run = replace(run, model=model, optim=replace(run.optim, weight_decay=0.1))
    state, metrics = train(run, stack(*(batch(arch, seed) for seed in (0, 2, 4))))
    held = {"/".join(map(str, path)): np.asarray(leaf[...]) for path, leaf in nnx.to_flat_state(state.params)}
    digest = hashlib.sha256(b"".join(name.encode() + held[name].tobytes() for name in sorted(held))).hexdigest()
    return {
        "losses": [float(loss) for loss in metrics.loss],
        "norms": {name: float(np.linalg.norm(value.astype(np.float64))) for name, value in sorted(held.items())},
        "digest": digest[:16],
    }


def main() -> None:
    found = {
        f"{arch} {'scanned' if scan else 'unrolled'}": record(arch, scan) for arch in ARCHS for scan in (True, False)
    }
    if "--update" in sys.argv:
        FILE.write_text(json.dumps(found, indent=1) + "\n")
        return
    wanted = json.loads(FILE.read_text())
    different = [name for name in wanted if wanted[name] != found[name]]
    print("\n".join(f"{name} differs" for name in different) or f"all {len(wanted)} are bitwise the same")
    sys.exit(bool(different))


if __name__ == "__main__":
    jax.config.update("jax_platforms", "cpu")
    main()
