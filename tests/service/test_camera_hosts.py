"""Which hosts cameras may be at and lead to."""

from __future__ import annotations

import pytest

from service.camera_hosts import CameraHosts

LISTED = ("cam.local", "*.example.com", "10.0.0.0/24", "192.168.1.7", "[fd00::5]")


@pytest.mark.parametrize(
    ("host", "address", "permitted"),
    [
        ("cam.local", "172.16.0.9", True),
        ("CAM.local.", "172.16.0.9", True),
        ("a.b.example.com", "93.184.216.34", True),
        ("example.com", "93.184.216.34", False),
        ("badexample.com", "93.184.216.34", False),
        ("elsewhere", "10.0.0.200", True),  # by its address
        ("elsewhere", "10.0.1.1", False),
        ("", "192.168.1.7", True),
        ("", "::ffff:192.168.1.7", True),
        ("", "fd00::5", True),
        ("", "fd00::6", False),
        # A name must not come to mean this machine, its link, or a cloud's metadata.
        ("cam.local", "127.0.0.1", False),
        ("cam.local", "::1", False),
        ("a.example.com", "169.254.169.254", False),
        ("a.example.com", "::ffff:169.254.169.254", False),
        ("a.example.com", "0.0.0.0", False),
        ("a.example.com", "fe80::1%eth0", False),
        ("a.example.com", "224.0.0.1", False),
    ],
)
def test_a_host_is_permitted_by_its_name_or_its_address(host: str, address: str, permitted: bool) -> None:
    assert CameraHosts.parse(LISTED).permits(host, address) is permitted


def test_nothing_is_permitted_by_default_except_the_host_that_an_operator_named() -> None:
    hosts = CameraHosts.parse((), "Cam.Local")
    assert hosts.permits("cam.local", "127.0.0.1")
    assert not hosts.permits("other.local", "127.0.0.1")
    assert not CameraHosts().permits("", "10.0.0.1")
    assert not CameraHosts().lists("")


def test_a_star_permits_everything() -> None:
    assert CameraHosts.parse(["*"]).permits("anything", "127.0.0.1")


@pytest.mark.parametrize(
    "entry", ["", "*.", "10.0.0.0/33", "10.0.0.1/24", "http://cam", "cam:554", "a b", "1.2.3", "*cam"]
)
def test_other_entries_are_refused(entry: str) -> None:
    with pytest.raises(ValueError, match="is no host name"):
        CameraHosts.parse([entry])
