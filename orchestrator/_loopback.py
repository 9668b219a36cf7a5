"""Which hosts are this machine itself, where plain text harms nobody."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address


def is_loopback(host: str) -> bool:
    """Tell whether *host* can only be this machine; a name is not looked up.

    True of ``localhost``, 127.0.0.0/8 and ::1, also in brackets and as an IPv4 address
    in IPv6. An address that is spelled otherwise, as ``127.1``, is a name to some.
    """
    name = host.removeprefix("[").removesuffix("]").lower()
    if name.removesuffix(".") == "localhost":
        return True
    try:
        address = ip_address(name)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback
