"""The http runtime: a tool is a request template. `tool.py` is its face; the rest is how a request is encoded."""
