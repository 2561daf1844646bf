"""From an upload to an immutable artifact: read, declare, resolve, install, pack, and start once to see what it offers.

Whatever comes from the upload or from the package index is opened in a sandbox only (`inside/` holds the programs that
run there). Nothing is installed when a server starts.
"""
