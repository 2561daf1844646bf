"""A server of the handshake: knows nothing before `initialize`, and asks its client things it must not ask."""

import json
import sys

ready = False


def send(message):
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


for line in sys.stdin:
    message = json.loads(line)
    method = message.get("method")
    if method == "initialize":
        assert message["params"]["capabilities"] == {}
        result = {
            "protocolVersion": "2025-06-18",
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "shaker", "version": "1"},
        }
        send({"id": message["id"], "result": result})
    elif method == "notifications/initialized":
        ready = True
        send({"id": "q1", "method": "roots/list"})
        send({"method": "notifications/tools/list_changed"})
    elif method is None:
        print("client says", message["error"]["code"], file=sys.stderr, flush=True)
    elif not ready:
        send({"id": message["id"], "error": {"code": -32602, "message": "Shake hands first."}})
    elif method == "tools/call":
        send({"id": message["id"], "result": {"content": [{"type": "text", "text": "shaken"}]}})
    elif "id" in message:
        send({"id": message["id"], "error": {"code": -32601, "message": "No such method."}})
