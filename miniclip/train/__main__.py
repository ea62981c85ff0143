"""`python -m miniclip.train ...` is `miniclip train ...`: torchrun starts modules, not programs."""

import sys

from miniclip.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
