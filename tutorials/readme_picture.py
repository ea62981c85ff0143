"""The picture at the top of the README: eight pairs that the built-in model never saw, and what it makes of them."""

from pathlib import Path

import numpy as np

import miniclip
from miniclip.train.loop import shapes
from miniclip.viz import similarity_matrix

rng = np.random.default_rng(3)
pairs = shapes.HELD_OUT[:16:2]
pictures = [shapes.draw(shapes.one_object(rng, pair), rng).resize((96, 96)) for pair in pairs]
captions = [shapes.label(*pair) for pair in pairs]

model, preprocess = miniclip.load("shapes")
images = model.ops.l2_normalize(model.encode_image(preprocess(pictures)))  # (8, E)
texts = model.ops.l2_normalize(model.encode_text(model.tokenize(captions)))  # (8, E)

figure = similarity_matrix(pictures, captions, texts @ images.T)
figure.savefig(Path(__file__).parent / "rendered" / "held_out.png", bbox_inches="tight")
