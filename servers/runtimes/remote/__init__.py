"""Tools, resources and prompts of MCP servers elsewhere. `client.py` is the door, `registry.py` keeps the clients."""
