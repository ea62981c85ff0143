"""Which file is meant by a name, and how it gets here: the manifest, Hugging Face's hub, downloads, the vocabulary."""
