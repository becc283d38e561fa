"""The shipped text as a TFDS dataset; TFDS wants the folder and the file named after it."""
