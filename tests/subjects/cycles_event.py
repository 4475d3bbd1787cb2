"""Asks the kernel itself for what `--clock cycles` needs: an event that samples hardware cycles of everything on a CPU. Prints `yes`, or the number and the words
of the kernel's error.
"""

import ctypes
import os
import platform
import struct

PERF_EVENT_OPEN = {"x86_64": 298, "aarch64": 241}[platform.machine()]
PERF_TYPE_HARDWARE, PERF_COUNT_HW_CPU_CYCLES, DISABLED, FREQUENCY = 0, 0, 1 << 0, 1 << 10

libc = ctypes.CDLL(None, use_errno=True)
# type, size, config, samples a second, sample_type, read_format, flags
event = struct.pack("<IIQQQQQ", PERF_TYPE_HARDWARE, 112, PERF_COUNT_HW_CPU_CYCLES, 99, 0, 0, DISABLED | FREQUENCY).ljust(112, b"\0")
opened = libc.syscall(PERF_EVENT_OPEN, ctypes.create_string_buffer(event, 112), -1, 0, -1, 0)
error = ctypes.get_errno()
print("yes" if opened >= 0 else f"{error} {os.strerror(error)}")
