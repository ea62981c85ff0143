"""A page in the browser to draw pictures, type labels, and see what a model answers and why.

answers   what the page shows, as dicts: a picture's bytes and labels go in
server    sends the page and these dicts, with limits; needs the extra `play`
static/   the page itself: HTML, CSS and JavaScript without a framework. It loads nothing from other hosts
"""
