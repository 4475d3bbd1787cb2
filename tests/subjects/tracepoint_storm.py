"""A storm of classic tracepoint programs: while one runs on a CPU, the kernel skips every other tracing program there, ours among them.

Loads a program that counts down from 100,000, attaches it to the tracepoint of getppid, and calls getppid again and again, so that the CPU is hardly ever
outside of the program. Prints `ready`, and `cpu SECONDS` after so many seconds of CPU time (first argument).
"""

import ctypes
import fcntl
import os
import platform
import struct
import sys
import time

BPF, PERF_EVENT_OPEN = {"x86_64": (321, 298), "aarch64": (280, 241)}[platform.machine()]
PROG_LOAD, PROG_TYPE_TRACEPOINT, PERF_TYPE_TRACEPOINT = 5, 5, 2
IOC_ENABLE, IOC_SET_BPF = 0x2400, 0x40042408

libc = ctypes.CDLL(None, use_errno=True)


def call(name, *arguments):
    result = libc.syscall(*arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), name + ": " + os.strerror(ctypes.get_errno()))
    return result


def instruction(code, destination, offset, immediate):
    return struct.pack("<BBhi", code, destination, offset, immediate)


program = b"".join([
    instruction(0xB7, 6, 0, 100_000),  # r6 = 100000
    instruction(0x17, 6, 0, 1),  # r6 -= 1
    instruction(0x55, 6, -2, 0),  # if r6 != 0 goto the line before
    instruction(0xB7, 0, 0, 0),  # r0 = 0
    instruction(0x95, 0, 0, 0),  # exit
])
code, licence = ctypes.create_string_buffer(program), ctypes.create_string_buffer(b"GPL")
attributes = struct.pack("<IIQQIIQ", PROG_TYPE_TRACEPOINT, len(program) // 8, ctypes.addressof(code), ctypes.addressof(licence), 0, 0, 0)
attributes = ctypes.create_string_buffer(attributes.ljust(128, b"\0"), 128)
loaded = call("loading the program", BPF, PROG_LOAD, attributes, 128)

with open("/sys/kernel/tracing/events/syscalls/sys_enter_getppid/id") as file:
    tracepoint = int(file.read())
event = struct.pack("<IIQ", PERF_TYPE_TRACEPOINT, 112, tracepoint).ljust(112, b"\0")
event = ctypes.create_string_buffer(event, 112)
opened = call("opening the tracepoint", PERF_EVENT_OPEN, event, -1, 0, -1, 0)
fcntl.ioctl(opened, IOC_SET_BPF, loaded)
fcntl.ioctl(opened, IOC_ENABLE, 0)

print("ready", flush=True)
while time.process_time() < float(sys.argv[1]):
    os.getppid()
print("cpu", time.process_time(), flush=True)
