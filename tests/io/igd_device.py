"""A gateway on a loopback address of its own, for tests: it answers searches and says what it is told to say."""

import asyncio
import contextlib
import itertools
import os
import re
import socket

from vpnpf.protocol import ssdp

V2, V1, PPP = (
    "urn:schemas-upnp-org:service:WANIPConnection:2",
    "urn:schemas-upnp-org:service:WANIPConnection:1",
    "urn:schemas-upnp-org:service:WANPPPConnection:1",
)
WHAT = ("InternalPort", "InternalClient", "Enabled", "PortMappingDescription", "LeaseDuration")
_numbers = itertools.count(1)


def answer(gateway, port, *, target, path="/desc.xml"):
    """An answer to a search."""
    return f"HTTP/1.1 200 OK\r\nST: {target}\r\nEXT:\r\nLOCATION: http://{gateway}:{port}{path}\r\n\r\n".encode()


def page(body, status="200 OK"):
    """A whole HTTP answer."""
    data = body if isinstance(body, bytes) else body.encode()
    return b"HTTP/1.1 %s\r\ncontent-type: text/xml\r\ncontent-length: %d\r\n\r\n" % (status.encode(), len(data)) + data


def description(*kinds, control="/ctl", more=""):
    """A device description with these services, two devices down as in real ones."""
    services = "".join(
        f"<service><serviceType>{kind}</serviceType><serviceId>urn:upnp-org:serviceId:x</serviceId>"
        f"<SCPDURL>/scpd.xml</SCPDURL><controlURL>{control}</controlURL><eventSubURL>/evt</eventSubURL></service>"
        for kind in kinds
    )
    return (
        '<?xml version="1.0"?><root xmlns="urn:schemas-upnp-org:device-1-0">'
        f"{more}<device><deviceType>urn:schemas-upnp-org:device:InternetGatewayDevice:1</deviceType>"
        "<deviceList><device><deviceType>urn:schemas-upnp-org:device:WANDevice:1</deviceType>"
        f"<serviceList>{services}</serviceList></device></deviceList></device></root>"
    )


def envelope(inside):
    """SOAP around an answer."""
    return (
        '<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" '
        f's:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"><s:Body>{inside}</s:Body></s:Envelope>'
    )


def done(action, kind=V2, **values):
    """The answer to an action that was carried out."""
    inside = "".join(f"<New{name}>{value}</New{name}>" for name, value in values.items())
    return page(envelope(f'<u:{action}Response xmlns:u="{kind}">{inside}</u:{action}Response>'))


def fault(code, text="No"):
    """The answer to an action that was not."""
    return page(
        envelope(
            "<s:Fault><faultcode>s:Client</faultcode><faultstring>UPnPError</faultstring><detail>"
            f'<UPnPError xmlns="urn:schemas-upnp-org:control-1-0"><errorCode>{code}</errorCode>'
            f"<errorDescription>{text}</errorDescription></UPnPError></detail></s:Fault>"
        ),
        "500 Internal Server Error",
    )


class Gateway:
    """Searches and HTTP at one address. What a test sets is said; what comes in is kept."""

    def __init__(self):
        self.address = f"127.{os.getpid() // 250 % 250 + 1}.{os.getpid() % 250}.{next(_numbers) % 250 + 1}"
        self.kind = V2
        self.pages = {"/desc.xml": page(description(V2))}
        """Bytes by path, or a coroutine function of reader and writer."""
        self.act = self.map
        """Function of action and arguments: the answer."""
        self.search = lambda target: [answer(self.address, self.port, target=target)]
        """Function of a target: what is sent back."""
        self.mappings = {}
        self.searches = []
        self.searcher = ("", 0)
        """Where the last search came from."""
        self.requests = []
        self.calls = []
        self.connections = 0

    def map(self, action, said):
        """Do as a gateway does."""
        key = said.get("NewProtocol"), said.get("NewExternalPort")
        match action:
            case "GetExternalIPAddress":
                return done(action, self.kind, ExternalIPAddress="8.8.4.4")
            case "AddPortMapping":
                self.mappings[key] = said
                return done(action, self.kind)
            case "DeletePortMapping":
                return done(action, self.kind) if self.mappings.pop(key, None) else fault(714)
            case "GetSpecificPortMappingEntry":
                held = self.mappings.get(key)
                return done(action, self.kind, **{name: held[f"New{name}"] for name in WHAT}) if held else fault(714)
        return fault(401)

    async def __aenter__(self):
        self._tasks = set()
        self._server = await asyncio.start_server(self._serve, self.address, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind((self.address, ssdp.PORT))
        self._answering = asyncio.create_task(self._answer())
        return self

    async def __aexit__(self, *_):
        self._server.close()
        self._answering.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(self._answering, *self._tasks, return_exceptions=True)
        self._socket.close()

    async def _answer(self):
        loop = asyncio.get_running_loop()
        while True:
            data, self.searcher = await loop.sock_recvfrom(self._socket, 4096)
            target = re.search(rb"\nST: ([^\r]*)", data)[1].decode()
            self.searches.append(target)
            for said in self.search(target):
                await loop.sock_sendto(self._socket, said, self.searcher)

    async def _serve(self, reader, writer):
        self._tasks.add(asyncio.current_task())
        self.connections += 1
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            method, path, _ = head.split(" ", 2)
            self.requests.append((method, path))
            if method == "POST":
                said = self._called(head, (await reader.readexactly(int(re.search(r"(?i)length: (\d+)", head)[1]))))
            else:
                said = self.pages.get(path, page("no", "404 Not Found"))
            if callable(said):
                await said(writer)
            else:
                writer.write(said)
            await writer.drain()
            writer.close()
            await writer.wait_closed()
        writer.transport.abort()

    def _called(self, head, body):
        action = re.search(r'(?i)soapaction: "[^#"]*#(\w+)"', head)[1]
        arguments = dict(re.findall(r"<(New\w+)>([^<]*)</", body.decode()))
        self.calls.append((action, arguments))
        return self.act(action, arguments)
