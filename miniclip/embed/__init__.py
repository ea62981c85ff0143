"""Writes the features of many pictures or texts to a folder, an index, and reads it: see docs/embedding.md.

index.py     the folder: parts in Parquet, each written whole
embedder.py  pictures and texts to rows, from where the last run stopped
tables.py    texts in .csv, .tsv and .jsonl files
on_ray.py    the same on a Ray cluster
"""

from miniclip.embed.embedder import Embedded as Embedded
from miniclip.embed.embedder import pictures as pictures
from miniclip.embed.embedder import texts as texts
from miniclip.embed.index import Rows as Rows
from miniclip.embed.index import check_npy as check_npy
from miniclip.embed.index import read as read
from miniclip.embed.index import write_npy as write_npy
from miniclip.embed.on_ray import Cluster as Cluster
