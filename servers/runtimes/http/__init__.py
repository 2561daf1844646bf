"""The http runtime: a tool is a request template."""

from servers.runtimes.http.tool import HttpTool, PreparedRequest, UnreadyTool, compile_tool, preview

__all__ = ["HttpTool", "PreparedRequest", "UnreadyTool", "compile_tool", "preview"]
