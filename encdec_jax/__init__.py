"""encdec_jax: at equal compute, when does an encoder-decoder beat a decoder-only model?"""
