"""This machine: its cores and BLAS, chunks of a batch, pictures decoded in parallel, files written whole, caches."""
