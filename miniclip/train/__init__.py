"""Training: the loop, the drawn pictures with captions that it trains on, and the evaluation of a model on them."""
