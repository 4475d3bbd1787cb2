# Run by gdb, see capture.sh: prints a line `stop` with registers, lines `word` with what of the stack is not zero, and a line `frames` with gdb's own walk,
# which does not know signed return addresses under this qemu.
import struct

inferior = gdb.selected_inferior()


def number(name):
    return int(gdb.parse_and_eval("(unsigned long)$" + name))


def symbol(address):
    text = gdb.execute("info symbol %d" % address, to_string=True).split()[0]
    return text if text != "No" else "trampoline"


def capture(top):
    registers = [number(name) for name in ("pc", "sp", "x29", "x30")]
    print("stop " + " ".join("%x" % value for value in registers))
    bottom = registers[1]
    words = struct.unpack("<%dQ" % ((top - bottom) // 8), inferior.read_memory(bottom, top - bottom).tobytes())
    for at, word in enumerate(words):
        if word != 0:
            print("word %x %x" % (bottom + at * 8, word))
    frames, frame = [], gdb.newest_frame()
    while frame is not None:
        frames.append("%x:%s" % (frame.pc(), symbol(frame.pc() if not frames else frame.pc() - 1)))
        try:
            frame = frame.older()
        except gdb.error:
            break
    print("frames " + " ".join(frames))


def step_through(top, stops):
    for _ in range(stops):
        capture(top)
        gdb.execute("stepi", to_string=True)


gdb.execute("break _start", to_string=True)
gdb.execute("continue", to_string=True)
top = number("sp")
# From the entry of `changing` through everything below it, in the epilogues too.
gdb.execute("break changing", to_string=True)
gdb.execute("continue", to_string=True)
gdb.execute("delete", to_string=True)
step_through(top, 12)
gdb.execute("break plain", to_string=True)
gdb.execute("continue", to_string=True)
gdb.execute("delete", to_string=True)
step_through(top, 16)
# The same leaf below a signal handler.
gdb.execute("handle SIGUSR1 nostop noprint pass", to_string=True)
gdb.execute("break stop_in_leaf", to_string=True)
gdb.execute("continue", to_string=True)
step_through(top, 2)
gdb.execute("delete", to_string=True)
gdb.execute("continue", to_string=True)
