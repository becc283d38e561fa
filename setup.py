"""Package metadata. The core is light; TensorFlow and seqio are only in the extra [data]."""

import runpy
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent

setup(
    name="encdec_jax",
    version=runpy.run_path(str(HERE / "encdec_jax/__init__.py"))["__version__"],  # it imports nothing
    description="At equal compute, when does an encoder-decoder beat a decoder-only model? Scaling studies in JAX.",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        *[f"Programming Language :: Python :: 3.{minor}" for minor in (11, 12, 13)],
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    python_requires=">=3.11",
    packages=[*find_packages(include=["encdec_jax", "encdec_jax.*"]), "encdec_jax.configs"],
    package_dir={"encdec_jax.configs": "configs"},
    package_data={
        "encdec_jax": ["py.typed"],
        "encdec_jax.data": ["corpus/*"],
        "encdec_jax.report": ["*.j2", "*.css", "*.js"],
    },
    install_requires=[
        "absl-py",
        "flax",
        "grain",
        "jax",
        "jinja2",
        "matplotlib",
        "ml-collections",
        "ml-dtypes",
        "numpy",
        "optax",
        "orbax-checkpoint",
        "polars",
        "PyYAML",
        "rich",
        "safetensors",
        "scipy",
        "sentencepiece",
        "tensorboardX",
        "zstandard",
    ],
    extras_require={
        "data": ["importlib_resources", "seqio", "tensorflow", "tensorflow-datasets", "tensorflow-text"],
        # Vocabularies of Hugging Face, and the metrics of tasks.
        "tasks": ["rouge-score", "sacrebleu", "tokenizers"],
        # Runs and tokens in S3, Google Cloud Storage or Azure.
        "bucket": ["obstore"],
        # Mirrors of metrics.
        "trackio": ["trackio"],
        "wandb": ["wandb"],
        "dev": [
            "flask",
            "flask-cors",
            "hypothesis",
            "ipykernel",
            "kubernetes-validate",
            "moto[s3]",
            "mypy",
            "nbmake",
            "pandas",
            "playwright",
            "pre-commit",
            "pytest",
            "pytest-xdist",
            "ruff",
        ],
        "bench": ["torch==2.13.0", "transformers"],
        # Compilers for devices that need not be there: libtpu, and the CUDA plugin (5 GB).
        "tpu": ["jax[tpu]"],
        "gpu": ["jax[cuda12]"],
    },
    entry_points={"console_scripts": ["encdec = encdec_jax.__main__:main"]},
)
