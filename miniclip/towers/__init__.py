"""The two towers and the transformer they share, as plain functions of an `ops` module and parameters."""
