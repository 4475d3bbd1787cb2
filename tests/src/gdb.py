"""Walks every stack of a process at which a SIGSTOP arrives, and lets it go on: run by gdb itself, for `gdb.rs`."""

import gdb
import os

# Nothing of the machine's own configuration, nothing from the network, and no frame left out that is there.
SETTINGS = """
auto-load no
debuginfod enabled off
pagination off
confirm off
exec-file-mismatch off
print thread-events off
backtrace past-main on
backtrace past-entry on
backtrace limit unlimited
"""


class Maps:
    """The executable ranges of the target: most stops see the same."""

    def __init__(self):
        self.text, self.ranges = "", []

    def read(self):
        """What they are now."""
        with open("/proc/%s/maps" % os.environ["TARGET"]) as maps:
            text = maps.read()
        if text == self.text:
            return
        self.text, self.ranges = text, []
        for line in text.splitlines():
            fields = line.split(None, 5)
            if "x" in fields[1]:
                start, end = (int(digits, 16) for digits in fields[0].split("-"))
                self.ranges.append((start, end, int(fields[2], 16), fields[5] if len(fields) > 5 else ""))

    def place(self, address):
        """An address as offset and file; without a file as it is; None where there is no code."""
        for start, end, offset, name in self.ranges:
            if start <= address < end:
                return "%x:%s" % (address - start + offset if name else address, name)
        return None


def is_read(place, pc):
    """Whether gdb has read the file of a place: it learns of libraries a moment after they are mapped, and until then guesses how their functions begin."""
    name = place.split(":", 1)[1]
    return not name.startswith("/") or gdb.solib_name(pc) is not None or name == os.readlink("/proc/%s/exe" % os.environ["TARGET"])


def frames(maps):
    """The stack, leaf first, and behind it why gdb went no further."""
    words, frame, exact = [], gdb.newest_frame(), True
    while frame is not None:
        kind, last = frame.type(), frame
        # What was inlined, or left by a jump, has no frame of its own.
        if kind in (gdb.NORMAL_FRAME, gdb.SIGTRAMP_FRAME):
            # A caller goes on behind its call; what a signal interrupted goes on where it was, as the leaf.
            place = maps.place(frame.pc() if exact else frame.pc() - 1)
            if place is None:
                # gdb takes what it found for a return address; code that is not there was never executed.
                return words + ["!no code"]
            words.append(place)
            if not is_read(place, frame.pc()):
                return words + ["!in a file that gdb has not read"]
            exact = kind == gdb.SIGTRAMP_FRAME
        try:
            frame = frame.older()
        except gdb.error as error:
            return words + ["!" + str(error)]
    reason = last.unwind_stop_reason()
    at_end = reason in (gdb.FRAME_UNWIND_NO_REASON, gdb.FRAME_UNWIND_OUTERMOST)
    return words if at_end else words + ["!" + gdb.frame_stop_reason_string(reason)]


def main():
    """Attaches, and walks until the target ends."""
    stops, maps = [], Maps()
    for setting in SETTINGS.split("\n"):
        if setting:
            gdb.execute("set " + setting)
    gdb.events.stop.connect(lambda event: stops.append(getattr(event, "stop_signal", None)))
    if "FRAMES_OF" in os.environ:
        gdb.execute("file " + os.environ["FRAMES_OF"])
    gdb.execute("attach " + os.environ["TARGET"])
    gdb.execute("handle all nostop noprint pass", to_string=True)
    gdb.execute("handle SIGSTOP stop nopass", to_string=True)
    with open(os.environ["STACKS"], "w", buffering=1) as out:
        out.write("attached\n")
        while True:
            gdb.execute("continue", to_string=True)
            if not gdb.selected_inferior().pid or stops[-1] != "SIGSTOP":
                break
            maps.read()
            out.write("\t".join(frames(maps)) + "\n")


main()
