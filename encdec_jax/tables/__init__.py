"""Tables: what the terminal shows of the ledger, the matcher, memory, compilations, plans. Imports no jax."""
