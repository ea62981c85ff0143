"""Training: the loop, the pictures and captions that miniclip draws itself, and how a model is evaluated on them."""
