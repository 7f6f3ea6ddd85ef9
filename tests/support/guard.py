"""Run a command that must not outlive the test run: `python guard.py PID_FD ROOT COMMAND...`.

The test run holds the other end of this process's standard input. When it goes away,
however that came about (`kill -9` included), the command's process group is killed, and so is
every process that names the folder ROOT, as a branch's workers do; then ROOT is removed.

Only the standard library is imported, since this runs by path.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading


def processes_naming(root: str) -> list[int]:
    """The pids of all processes with `root` in their command line, environment or working folder.

    The caller itself, and guards, are left out.
    """
    needle = os.fsencode(root)
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        try:
            with open(f"/proc/{entry}/cmdline", "rb") as file:
                command_line = file.read()
            if os.fsencode(os.path.basename(__file__)) in command_line:
                continue
            with open(f"/proc/{entry}/environ", "rb") as file:
                environment = file.read()
            folder = os.fsencode(os.readlink(f"/proc/{entry}/cwd"))
        except OSError:
            continue  # it ended meanwhile, or is another user's
        if needle in command_line or needle in environment or folder.startswith(needle):
            found.append(int(entry))
    return found


def kill_all_naming(root: str) -> list[int]:
    """Kill every process that names `root`, again until there is none; the pids that were found."""
    killed: list[int] = []
    for _ in range(20):  # a dying supervisor may have started one more
        found = processes_naming(root)
        if not found:
            break
        for pid in found:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        killed.extend(pid for pid in found if pid not in killed)
    return killed


def main(pid_fd: int, root: str, command: list[str]) -> int:
    """Run `command`, tell its pid through `pid_fd`, exit as it exits."""
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    # Not on standard output, where the command may have been faster.
    os.write(pid_fd, b"%d" % child.pid)
    os.close(pid_fd)

    orphaned = threading.Event()

    def follow_the_test_run() -> None:
        while os.read(0, 1024):
            pass
        orphaned.set()
        try:
            os.killpg(child.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        if root:
            kill_all_naming(root)
            shutil.rmtree(root, ignore_errors=True)

    follower = threading.Thread(target=follow_the_test_run, daemon=True)
    follower.start()
    status = child.wait()
    if orphaned.is_set():
        follower.join()
    # A signal shows as a negative number; the shell's convention fits into an exit status.
    return 128 - status if status < 0 else status


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2], sys.argv[3:]))
