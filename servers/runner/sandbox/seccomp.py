"""Which system calls code may not make, as filters for bubblewrap's `--add-seccomp-fd`.

A deny list: servers are ordinary programs of any kind, and the namespaces hold most of the wall. What is denied
reaches the kernel's rarely used parts, other processes, other namespaces, or the machine below (vsock).
"""

from __future__ import annotations

import errno
import socket
import struct
import tempfile
from functools import cache
from typing import Any

_DENIED = """
    acct add_key adjtimex bpf chroot clock_adjtime clock_settime delete_module fanotify_init finit_module fsconfig
    fsmount fsopen fspick get_mempolicy init_module io_uring_enter io_uring_register io_uring_setup ioperm iopl kcmp
    kexec_file_load kexec_load keyctl lookup_dcookie mbind memfd_secret migrate_pages mount mount_setattr move_mount
    move_pages name_to_handle_at nfsservctl open_by_handle_at open_tree perf_event_open personality pidfd_getfd
    pivot_root process_madvise process_vm_readv process_vm_writev ptrace quotactl quotactl_fd reboot request_key
    set_mempolicy set_mempolicy_home_node setdomainname sethostname setns settimeofday swapoff swapon syslog umount
    umount2 unshare uselib userfaultfd ustat vhangup vmsplice
""".split()
# CLONE_NEWNS, CGROUP, UTS, IPC, USER, PID, NET.
_NAMESPACES = (0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000)
# TIOCSTI and TIOCLINUX type into somebody's terminal.
_TERMINAL_TRICKS = (0x5412, 0x541C)
# Calls newer than this (set_mempolicy_home_node) have no name in the libraries in use, so they could not be denied
# by name. ENOSYS is what an older kernel says, and C libraries know how to go on. Newer numbers are the same on all
# machines.
_NEWEST_KNOWN = 450
_LOAD, _JUMP_IF_GREATER, _RETURN = 0x20, 0x25, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000


class Unsupported(Exception):
    """libseccomp is not installed; the message says how to get it."""


@cache
def filters() -> tuple[bytes, ...]:
    """Programs in the kernel's format, all of which are to be loaded. Raises `Unsupported`."""
    return _named(), _newer()


def _named() -> bytes:
    try:
        import pyseccomp  # loads libseccomp when it is imported, which not every machine has
    except (ImportError, OSError, RuntimeError) as error:
        raise Unsupported(f"libseccomp cannot be loaded ({error}): apt install libseccomp2.") from None
    made = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
    _deny_calls(pyseccomp, made)
    _deny_namespaces(pyseccomp, made)
    _deny_sockets(pyseccomp, made)
    with tempfile.TemporaryFile() as file:
        made.export_bpf(file)
        file.seek(0)
        return file.read()


def _deny_calls(seccomp: Any, made: Any) -> None:
    refuse = seccomp.ERRNO(errno.EPERM)
    for name in _DENIED:
        try:
            made.add_rule(refuse, name)
        except OSError:
            continue  # this processor, or an older library, has no such call; `_newer` denies what is unknown
    for request in _TERMINAL_TRICKS:
        made.add_rule(refuse, "ioctl", seccomp.Arg(1, seccomp.MASKED_EQ, 0xFFFFFFFF, request))


def _deny_namespaces(seccomp: Any, made: Any) -> None:
    """`clone3` keeps its flags in memory, out of sight: C libraries fall back to `clone`, whose flags are seen."""
    made.add_rule(seccomp.ERRNO(errno.ENOSYS), "clone3")
    for flag in _NAMESPACES:
        made.add_rule(seccomp.ERRNO(errno.EPERM), "clone", seccomp.Arg(0, seccomp.MASKED_EQ, flag, flag))


def _deny_sockets(seccomp: Any, made: Any) -> None:
    """Unix and internet sockets alone; network namespaces do not confine vsock, which reaches the hypervisor."""
    refuse = seccomp.ERRNO(errno.EAFNOSUPPORT)
    made.add_rule(refuse, "socket", seccomp.Arg(0, seccomp.GT, socket.AF_INET6))
    for family in range(socket.AF_INET + 1, socket.AF_INET6):
        made.add_rule(refuse, "socket", seccomp.Arg(0, seccomp.EQ, family))


def _newer() -> bytes:
    instructions = (
        (_LOAD, 0, 0, 0),  # the number of the call
        (_JUMP_IF_GREATER, 1, 0, _NEWEST_KNOWN),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _ERRNO | errno.ENOSYS),
    )
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in instructions)
