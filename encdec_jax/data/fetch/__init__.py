"""Real data through the package managers that are there: what is named, how it is got, what is made of it."""
