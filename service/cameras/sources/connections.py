"""Confines what FFmpeg connects to while it speaks RTSP, whatever redirects and transport headers tell it.

The kernel asks a thread of this process about every connect() and sendto() of the thread that runs FFmpeg, and of those
that it starts (seccomp_unotify(2)). The thread that was asked connects itself, to the address that it has checked. This
holds against what a camera says, not against code of an attacker that runs in this process.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import ipaddress
import platform
import socket
import struct
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from service.camera_hosts import CameraHosts
from service.cameras.sources.address import SourceOptions
from service.cameras.sources.addresses import permitted_addresses, refusal
from service.cameras.sources.errors import SourceError


@dataclass(frozen=True, slots=True)
class _Calls:
    """The numbers of a processor's system calls, and of its architecture in <linux/audit.h>."""

    architecture: int
    seccomp: int
    connect: int
    sendto: int


_CALLS = {"x86_64": _Calls(0xC000003E, 317, 42, 44), "aarch64": _Calls(0xC00000B7, 277, 203, 206)}

_PR_SET_NO_NEW_PRIVS = 38
_SET_MODE_FILTER, _NEW_LISTENER = 1, 1 << 3
_ALLOW, _ASK, _KILL = 0x7FFF0000, 0x7FC00000, 0x80000000
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
_NUMBER, _ARCHITECTURE, _DESTINATION = 0, 4, 16 + 4 * 8  # offsets in struct seccomp_data
_REQUEST, _ANSWER = struct.Struct("QIIiIQ6Q"), struct.Struct("QqiI")
_RECEIVE, _SEND = 0xC0502100, 0xC0182101
_RESOLVERS = ("/run/nscd/socket", "/run/systemd/resolve/io.systemd.Resolve", "/run/avahi-daemon/socket")
"""Local services that the C library asks for the addresses of names."""
_DNS = 53
_DEFAULT_NAMESERVER = frozenset({"127.0.0.1"})
_LONGEST_ADDRESS = 128
"""Bytes of a struct sockaddr_storage."""


class AllowedConnections:
    """Decides which addresses may be connected to. refused: why one was not, or ""."""

    def __init__(self, host: str, addresses: list[str], hosts: CameraHosts) -> None:
        """addresses: of the source's host, permitted already."""
        self.refused = ""
        self._host = host
        self._hosts = hosts
        self._known = set(addresses)
        self._nameservers = _nameservers()

    def permit(self, destination: bytes) -> bool:
        """True if a socket address (struct sockaddr) may be connected or sent to."""
        family = int.from_bytes(destination[:2], sys.byteorder)
        if family == socket.AF_UNIX:
            path = destination[2:].partition(b"\0")[0].decode("utf-8", "replace")
            return path.removeprefix("/var") in _RESOLVERS
        if family not in (socket.AF_INET, socket.AF_INET6):
            return family in (socket.AF_UNSPEC, getattr(socket, "AF_NETLINK", None))
        port = int.from_bytes(destination[2:4], "big")
        start, size = (4, 4) if family == socket.AF_INET else (8, 16)
        address = str(ipaddress.ip_address(destination[start : start + size]))
        if (port == _DNS and address in self._nameservers) or self._permits(address):
            return True
        if port:  # the C library "connects" to port 0 to compare routes
            self.refused = f"it leads elsewhere; {refusal('', address, self._hosts)}"
        return False

    def _permits(self, address: str) -> bool:
        if address in self._known or self._hosts.permits("", address):
            return True
        # Hosts with many addresses give others each time; those that are permitted now are kept.
        for host in (self._host, *self._hosts.names):
            try:
                self._known.update(permitted_addresses(host, 0, self._hosts))
            except SourceError:
                continue
        return address in self._known


def confine_connections(host: str, port: int, how: SourceOptions) -> AllowedConnections:
    """Let this thread, and those that it starts, connect to a source's host and other allowed ones alone.

    Raises SourceError if the host is not allowed. On a system that cannot confine, a source whose own host is allowed
    because the operator named it is read nevertheless; others are not.
    """
    hosts = how.allowed(host)
    if hosts.everything:
        return AllowedConnections(host, [], hosts)
    connections = AllowedConnections(host, permitted_addresses(host, port, hosts), hosts)
    calls = _CALLS.get(platform.machine()) if sys.platform == "linux" else None
    if calls is not None:
        listeners: SimpleQueue[int | None] = SimpleQueue()
        arguments = (listeners, calls, connections.permit)
        # Started before the filter is installed, as a thread inherits that of the one that starts it
        threading.Thread(target=_answer_all, args=arguments, name="posewire-connections", daemon=True).start()
        listener = _install_filter(calls)
        listeners.put(listener)
        if listener is not None:
            return connections
    if how.own_host:
        return connections
    raise SourceError("this system cannot confine what a camera leads to; name it in the server's file of cameras")


def _nameservers() -> frozenset[str]:
    try:
        lines = Path("/etc/resolv.conf").read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        lines = []
    words = [line.split() for line in lines]
    return frozenset(line[1] for line in words if len(line) > 1 and line[0] == "nameserver") or _DEFAULT_NAMESERVER


def _install_filter(calls: _Calls) -> int | None:
    """Have the kernel ask about this thread's connections. Returns the descriptor that it asks by, or None."""
    instructions = (
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 0, 9, calls.architecture),
        (_LOAD, 0, 0, _NUMBER),
        (_EQUAL, 6, 0, calls.connect),
        (_EQUAL, 0, 4, calls.sendto),
        (_LOAD, 0, 0, _DESTINATION),  # both halves are 0 if the socket is connected and no address is given
        (_EQUAL, 0, 3, 0),
        (_LOAD, 0, 0, _DESTINATION + 4),
        (_EQUAL, 0, 1, 0),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _ASK),
        (_RETURN, 0, 0, _KILL),
    )
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *instruction) for instruction in instructions))
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(instructions), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        return None
    libc.syscall.restype = ctypes.c_long
    listener = libc.syscall(
        ctypes.c_long(calls.seccomp), ctypes.c_ulong(_SET_MODE_FILTER), ctypes.c_ulong(_NEW_LISTENER), program
    )
    return None if listener < 0 else int(listener)


def _answer_all(listeners: SimpleQueue[int | None], calls: _Calls, permit: Callable[[bytes], bool]) -> None:
    """Answer the kernel's questions, until this process ends."""
    listener = listeners.get()
    if listener is None:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    libc.sendto.restype = ctypes.c_ssize_t
    while True:
        request = bytearray(_REQUEST.size)
        try:
            fcntl.ioctl(listener, _RECEIVE, request)
        except OSError as error:
            if error.errno in (errno.EINTR, errno.ENOENT):  # the thread that asked is gone
                continue
            raise
        identity, _, _, number, _, _, *arguments = _REQUEST.unpack(request)
        socket_number, pointer, size = arguments[0], *(arguments[1:3] if number == calls.connect else arguments[4:6])
        destination = ctypes.string_at(pointer, min(size, _LONGEST_ADDRESS))
        if not permit(destination):
            result = -1
            ctypes.set_errno(errno.EACCES)
        elif number == calls.connect:
            result = libc.connect(socket_number, destination, len(destination))
        else:
            data = ctypes.c_void_p(arguments[1]), ctypes.c_size_t(arguments[2])
            result = libc.sendto(socket_number, *data, int(arguments[3]), destination, len(destination))
        answer = _ANSWER.pack(identity, max(result, 0), -ctypes.get_errno() if result < 0 else 0, 0)
        with contextlib.suppress(OSError):
            fcntl.ioctl(listener, _SEND, answer)
