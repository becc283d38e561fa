"""What `encdec fetch` fetched, as a TFDS builder."""
