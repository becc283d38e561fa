"""encdec_jax: at equal compute, when does an encoder-decoder beat a decoder-only model?"""

__version__ = "0.1.0"
