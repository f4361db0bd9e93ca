"""The network between hosts: a switch with a port in each host's namespace, and links that can be slow, lossy or cut.

usage: wire.py SEED PORT...     makes a tap device for each port, and says "ready"
reads:  FROM TO DELAY_US LOSS   from now on, frames from that port to that one are late by this, or lost at this
                                probability (0 to 1; 1 is cut); answered by "done"
Ends with its input. Kernels do not have netem everywhere; they have tap.
"""

import fcntl
import heapq
import os
import random
import select
import struct
import sys
import time

TUNSETIFF = 0x400454CA
IFF_TAP_NO_PI = 0x0002 | 0x1000
FRAME_MAX = 65536
# On their way at once; a full queue drops, as in any switch.
FRAMES_MAX = 20_000

dice = random.Random(int(sys.argv[1]))
ports = []
for name in sys.argv[2:]:
    port = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(port, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP_NO_PI))
    ports.append(port)
links = {(a, b): (0.0, 0.0) for a in range(len(ports)) for b in range(len(ports))}
under_way, count = [], 0


def put(to, frame):
    try:
        os.write(ports[to], frame)
    except OSError:
        pass  # its host is down, or slow to take it: the frame is lost


def take(source):
    global count
    try:
        frame = os.read(ports[source], FRAME_MAX)
    except OSError:
        return False
    # A port's address ends with its number; all others are for everybody.
    known = frame[0:5] == b"\x02\x00\x00\x00\x00" and frame[5] < len(ports)
    for to in [frame[5]] if known else range(len(ports)):
        delay, loss = links[source, to]
        if to == source or (loss and dice.random() < loss) or len(under_way) >= FRAMES_MAX:
            continue
        if delay:
            count += 1
            heapq.heappush(under_way, (time.monotonic() + delay, count, to, frame))
        else:
            put(to, frame)
    return True


def obey(line):
    source, to, delay_us, loss = line.split()
    links[int(source), int(to)] = (int(delay_us) / 1e6, float(loss))
    print("done", flush=True)


print("ready", flush=True)
orders = b""
while True:
    wait = max(0.0, under_way[0][0] - time.monotonic()) if under_way else None
    for ready in select.select([0, *ports], [], [], wait)[0]:
        if ready == 0:
            text = os.read(0, 4096)
            if not text:
                sys.exit()
            *lines, orders = (orders + text).split(b"\n")
            for line in lines:
                obey(line)
        else:
            source = ports.index(ready)
            for _ in range(64):
                if not take(source):
                    break
    now = time.monotonic()
    while under_way and under_way[0][0] <= now:
        _, _, to, frame = heapq.heappop(under_way)
        put(to, frame)
