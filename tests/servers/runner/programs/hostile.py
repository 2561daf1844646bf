"""A child that misbehaves on its streams in the way its argument names, and answers what it is asked otherwise."""

import json
import os
import sys
import time

OUT = sys.stdout.buffer


def write(data):
    OUT.write(data)
    OUT.flush()


def answer(number, result="{}"):
    write(b'{"jsonrpc":"2.0","id":%d,"result":%s}\n' % (number, result.encode()))


def endless_line(number):
    while True:
        write(b"x" * 65536)


def flood_of_junk(number):
    for _ in range(20):
        write(b"{}\nx\n\n" * 5000)
    answer(number)


def flood_of_notifications(number):
    note = json.dumps({"jsonrpc": "2.0", "method": "notifications/message", "params": {}}).encode() + b"\n"
    write(note * 10000)
    answer(number)


def flood_of_its_log(number):
    for _ in range(30):
        sys.stderr.write("noise " * 15000 + "\n" * 10000)
    sys.stderr.flush()
    answer(number)


def endless_line_in_its_log(number):
    for _ in range(50):
        os.write(2, b"y" * 65536)
    answer(number)


def deep_nesting(number):
    write(b'{"jsonrpc":"2.0","id":%d,"result":%s%s}\n' % (number, b"[" * 100000, b"]" * 100000))
    answer(number)


def invalid_text(number):
    write(b'{"jsonrpc":"2.0","id":%d,"result":{"text":"\xff\xfe"}}\n' % number)


def answers_nobody_asked_for(number):
    for wrong in ("true", "null", "1.0", '"1"', "-1", str(10**30), str(number + 1000), "[1]"):
        write(b'{"jsonrpc":"2.0","id":%s,"result":{"wrong":1}}\n' % wrong.encode())
    answer(number)


def answers_twice(number):
    answer(number, '{"first":1}')
    answer(number, '{"second":1}')


def questions(number):
    for index in range(20000):
        write(b'{"jsonrpc":"2.0","id":%d,"method":"sampling/createMessage"}\n' % index)
    answer(number)


def closes_its_output(number):
    os.close(1)
    time.sleep(60)


def dies(number):
    print("why it died", file=sys.stderr, flush=True)
    os._exit(7)


def stops_reading(number):
    time.sleep(60)


def answers_without_reading(number):
    answer(number + 1000)
    write(b"that was all\n")
    time.sleep(60)


def answers_late_and_twice(number):
    sys.stdin.readline()  # that nobody waits any more
    sys.stdin.readline()  # the next question
    answer(number)
    sys.stdin.readline()
    answer(number)
    write(b"that was all\n")
    time.sleep(60)


def guesses(number):
    """Read until it is told to begin; then answer what it could have been asked had it read nothing."""
    while json.loads(sys.stdin.readline()).get("method") != "begin":
        pass
    for step in range(1, 100):
        answer(number + step)
    write(b"that was all\n")
    time.sleep(60)


misbehave = globals().get(sys.argv[1])

for line in sys.stdin:
    message = json.loads(line)
    if message.get("method") == "notifications/cancelled":
        print("cancelled", message["params"]["requestId"], file=sys.stderr, flush=True)
    elif message.get("method") == "misbehave":
        misbehave(message["id"])
    elif message.get("method", "wait") != "wait" and "id" in message:
        answer(message["id"], json.dumps({"method": message["method"], "params": message["params"]}))
