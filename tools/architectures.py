"""Write docs/architectures.md: every architecture and every published model that has a name.

python tools/architectures.py
"""

from pathlib import Path

from encdec_jax.tables.architectures import page

if __name__ == "__main__":
    (Path(__file__).parents[1] / "docs/architectures.md").write_text(page())
