"""The folder of the checkout that these tests belong to."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
