"""Towers, which make features of pictures or texts: plain functions of an `ops` module and parameters."""
