# /// script
# dependencies = ["httpx"]
# ///
"""A server that calls others: the tool `fetch` gives the status and what came back, by one way or another."""

import http.client
import json
import os
import sys
import urllib.error
import urllib.request
from urllib.parse import urlsplit

import httpx

TOOLS = [{"name": "fetch", "inputSchema": {"type": "object"}}]


def by_urllib(url):
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def by_httpx(url):
    response = httpx.get(url, timeout=10)
    return response.status_code, response.text


def by_tunnel(url):
    """As clients do for https: CONNECT, and then whatever they like."""
    proxy, target = urlsplit(os.environ.get("HTTPS_PROXY", "http://127.0.0.1:9")), urlsplit(url)
    connection = http.client.HTTPConnection(proxy.hostname, proxy.port, timeout=10)
    connection.set_tunnel(target.hostname, target.port)
    try:
        connection.request("GET", target.path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    except OSError as error:  # http.client tells a refused CONNECT in words
        return (403 if "403" in str(error) else 0), str(error)
    finally:
        connection.close()


def fetch(url, by):
    try:
        return {"urllib": by_urllib, "httpx": by_httpx, "tunnel": by_tunnel}[by](url)
    except (OSError, ValueError, httpx.HTTPError) as error:
        return 0, f"{type(error).__name__}: {error}"


def answer(method, params):
    if method == "server/discover":
        return {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}}
    if method == "tools/list":
        return {"tools": TOOLS}
    found = fetch(**params["arguments"])
    return {"content": [{"type": "text", "text": json.dumps(found)}]}


print("starts with", os.environ.get("TOKEN", "nothing"), file=sys.stderr, flush=True)
for line in sys.stdin:
    message = json.loads(line)
    if "id" in message:
        result = {"resultType": "complete", **answer(message["method"], message.get("params", {}))}
        print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}), flush=True)
