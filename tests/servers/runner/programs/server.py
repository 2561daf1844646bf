"""A server of the revision without handshakes, with tools for a test: `echo`, and others that misbehave on request."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

MODERN = "2026-07-28"
STATE = {"count": 0}
LOCK = threading.Lock()


def send(message):
    with LOCK:
        sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        sys.stdout.flush()


def text(value):
    return {"resultType": "complete", "content": [{"type": "text", "text": value}]}


def crash(arguments):
    print("last words", file=sys.stderr, flush=True)
    os._exit(3)


def freeze(arguments):
    os.kill(os.getpid(), signal.SIGSTOP)
    threading.Event().wait()  # the signal may reach another thread first, and this one a moment later


def count(arguments):
    STATE["count"] += 1
    return str(STATE["count"])


def daemon(arguments):
    """A grandchild that leaves the group and outlives its parent."""
    child = subprocess.Popen(["/usr/bin/setsid", "/usr/bin/sleep", "1000"], start_new_session=True)
    return str(child.pid)


def spin(arguments):
    """All the processor time there is, and more processes than processors that want it."""
    for _ in range(4):
        if os.fork() == 0:
            while True:
                pass
    return "spins"


def log(arguments):
    print(arguments["line"], file=sys.stderr, flush=True)
    return "logged"


TOOLS = {
    "echo": lambda arguments: json.dumps(arguments, sort_keys=True),
    "environment": lambda arguments: os.environ.get(arguments["name"], ""),
    "sleep": lambda arguments: time.sleep(arguments["seconds"]) or "slept",
    "count": count,
    "crash": crash,
    "freeze": freeze,
    "daemon": daemon,
    "log": log,
    "spin": spin,
    "who": lambda arguments: str(os.getuid()),
}


def answer(message):
    params = message.get("params", {})
    if message["method"] == "server/discover":
        return {"resultType": "complete", "supportedVersions": [MODERN], "capabilities": {"tools": {}}}
    if message["method"] == "tools/list":
        return {
            "resultType": "complete",
            "tools": [{"name": name, "inputSchema": {"type": "object"}} for name in TOOLS],
        }
    if message["method"] == "tools/call" and params["name"] == "meta":
        return text(json.dumps(params["_meta"], sort_keys=True))
    if message["method"] == "tools/call" and params["name"] in TOOLS:
        return text(TOOLS[params["name"]](params.get("arguments", {})))
    return None


def handle(message):
    result = answer(message)
    if result is None:
        send({"id": message["id"], "error": {"code": -32601, "message": "No such method."}})
    else:
        send({"id": message["id"], "result": result})


print("server starts", file=sys.stderr, flush=True)
for line in sys.stdin:
    message = json.loads(line)
    if message["method"] == "notifications/cancelled":
        print("cancelled", message["params"]["requestId"], file=sys.stderr, flush=True)
    elif "id" in message:
        threading.Thread(target=handle, args=(message,), daemon=True).start()
