"""Determines whether an IP address is public. The result of `ipaddress.is_global` depends on the Python version."""

from ipaddress import IPv4Address, IPv6Address, ip_network

# All special-purpose addresses of the IANA registry (RFC 6890). A few of these addresses are globally reachable, but
# they are for anycast services and never serve documents.
_NOT_PUBLIC_4 = (
    "0.0.0.0/8",  # this network (RFC 791)
    "10.0.0.0/8",  # private (RFC 1918)
    "100.64.0.0/10",  # carrier-grade NAT (RFC 6598); includes the metadata service of Alibaba Cloud, 100.100.100.200
    "127.0.0.0/8",  # loopback
    "168.63.129.16/32",  # platform services of Azure
    "169.254.0.0/16",  # link local (RFC 3927); includes the metadata services of most clouds, 169.254.169.254
    "172.16.0.0/12",  # private
    "192.0.0.0/24",  # IETF protocols (RFC 6890); includes the metadata service of Oracle Cloud, 192.0.0.192
    "192.0.2.0/24",  # documentation (RFC 5737)
    "192.31.196.0/24",  # AS112 (RFC 7535)
    "192.52.193.0/24",  # AMT (RFC 7450)
    "192.88.99.0/24",  # 6to4 relays (RFC 7526)
    "192.168.0.0/16",  # private
    "192.175.48.0/24",  # AS112 (RFC 7534)
    "198.18.0.0/15",  # benchmarks (RFC 2544)
    "198.51.100.0/24",  # documentation
    "203.0.113.0/24",  # documentation
    "224.0.0.0/4",  # multicast
    "240.0.0.0/4",  # reserved, and 255.255.255.255
)
# Addresses outside of 2000::/3 are not public, and the following networks inside of 2000::/3 are not public.
_GLOBAL_UNICAST = ip_network("2000::/3")
_NOT_PUBLIC_6 = (
    "2001::/23",  # IETF protocols (RFC 2928): Teredo, ORCHID, benchmarks
    "2001:db8::/32",  # documentation (RFC 3849)
    "2002::/16",  # 6to4 (RFC 3056): contains any IPv4 address
    "2620:4f:8000::/48",  # AS112 (RFC 7534)
    "3fff::/20",  # documentation (RFC 9637)
)
_NETWORKS_4 = tuple(map(ip_network, _NOT_PUBLIC_4))
_NETWORKS_6 = tuple(map(ip_network, _NOT_PUBLIC_6))


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Return whether the address is a public unicast address.

    6to4 and Teredo addresses are not public, because they contain an IPv4 address.
    """
    if isinstance(address, IPv4Address):
        return not any(address in each for each in _NETWORKS_4)
    if address.ipv4_mapped is not None:  # an IPv6 socket returns IPv4 addresses as mapped addresses
        return is_public(address.ipv4_mapped)
    return address in _GLOBAL_UNICAST and not any(address in each for each in _NETWORKS_6)
