"""The far side of vpnpf: a VPN provider made of real packets in network namespaces.

`python -m mock_provider` brings it up for a person; tests use `MockProvider` or the parts.
"""
