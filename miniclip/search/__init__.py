"""Searches features of pictures or texts for those nearest to a text, a picture or a sum of both: see docs/search.md.

index.py           Index: what users call
rows.py            the features and names that are searched, in memory or in the folder that `miniclip embed` writes
exact.py           the nearest rows by products with all features
cells.py           nearly the nearest rows, by products with the features in a few cells
contact_sheet.py   the hits as a picture or a page
"""

from miniclip.search.index import Hit as Hit
from miniclip.search.index import Index as Index
