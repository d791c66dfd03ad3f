"""Programs of other hosts and other people in the scenes of tests/causes_lab.py, as text for a Python of their own.

Those that send WireGuard's messages do so as a host would that can't be had: one whose clock goes back, one under load.
"""

from __future__ import annotations

from tests.causes_world import FAR, HOST, PORT

COOKIES = f"""
import os, socket, sys
address = sys.argv[1]
sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
sock.bind((address, {PORT}))
while True:
    data, sender = sock.recvfrom(2048)
    if len(data) == 148 and data[0] == 1:
        sock.sendto(b"\\x03\\0\\0\\0" + data[4:8] + os.urandom(56), sender)
"""
"""A WireGuard under load, as far as it answers (protocol, 5.4.7): a cookie reply to each initiation. (address)"""

CALLS = f"""
import base64, socket, sys, time
from tests.initiator import initiation, party
caller, to, off = party(sys.argv[1]), base64.b64decode(sys.argv[2]), float(sys.argv[3])
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(("{FAR}", {PORT}))
while True:
    sock.sendto(initiation(caller, to, time.time() + off), ("{HOST}", {PORT}))
    time.sleep(2)
"""
"""The far side with its own key and a clock that is off by so many seconds: it calls every two seconds.

(its private key, our public key, seconds)
"""

SERVES = """
import socket, sys
server = socket.create_server((sys.argv[1], 8000))
while True:
    connection, _ = server.accept()
    try:
        while data := connection.recv(65536):
            connection.sendall(data)
    except OSError:
        pass
"""
"""Sends back what it gets. (address)"""

TALKS = """
import socket, sys, time
while True:
    try:
        with socket.create_connection((sys.argv[1], 8000), timeout=3) as connection:
            while True:
                connection.sendall(b"x" * 4000)
                connection.recv(65536)
                time.sleep(0.1)
    except OSError:
        time.sleep(0.2)
"""
"""A user of that: 40 kB a second each way. (address)"""

FLOODS = """
import socket, sys, time
while True:
    try:
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, int(sys.argv[2]))
            connection.connect((sys.argv[1], 8000))
            while True:
                connection.sendall(b"x" * 65536)
    except OSError:
        time.sleep(0.2)
"""
"""A user who sends as fast as it goes, with so many bytes on their way at most. (address, bytes)"""

TAKES = """
import socket, sys
server = socket.create_server((sys.argv[1], 8000))
while True:
    connection, _ = server.accept()
    try:
        while connection.recv(65536):
            pass
    except OSError:
        pass
"""
"""Takes all of that, and says nothing. (address)"""

HOLDS_PORT = """
import pathlib, socket, sys, time
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(("0.0.0.0", int(sys.argv[1])))
pathlib.Path(sys.argv[2]).touch()
time.sleep(10000)
"""
"""Another service, with a UDP port of its own. (port, a file that is there when it has it)"""

HANGS = """
import fcntl, os, socket, struct, sys, time
name, path = sys.argv[1:]
tun = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(tun, 0x400454CA, struct.pack("16sH", name.encode(), 0x1001))
server = socket.socket(socket.AF_UNIX)
server.bind(path)
server.listen(8)
taken = []
while True:
    taken.append(server.accept())
"""
"""A daemon of userspace WireGuard that takes a question and never answers. (interface, control socket)"""

DELAYS = """
import heapq, os, select, socket, sys, time
here, there, port, delay, flag = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), sys.argv[5]
near = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
near.bind((here, port))
far = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
far.connect((there, port))
caller, waiting, number = None, [], 0
while True:
    now = time.monotonic()
    wait = max(waiting[0][0] - now, 0) if waiting else 0.2
    for sock in select.select([near, far], [], [], wait)[0]:
        data, sender = sock.recvfrom(2048)
        if sock is near:
            caller = sender
        number += 1
        at = time.monotonic()
        heapq.heappush(waiting, (at + (delay if os.path.exists(flag) else 0), number, sock is near, data))
    while waiting and waiting[0][0] <= time.monotonic():
        _, _, out, data = heapq.heappop(waiting)
        try:
            if out:
                far.send(data)
            elif caller:
                near.sendto(data, caller)
        except OSError:
            pass
"""
"""A relay that holds each datagram for so many seconds once a file is there: a longer way.

(its address, where to, port, seconds, file)
"""
