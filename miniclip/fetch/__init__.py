"""Which file a name means, and how it gets here: the manifest, Hugging Face's hub, downloads, the vocabulary."""
