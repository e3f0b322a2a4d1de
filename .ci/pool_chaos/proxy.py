"""A TCP proxy between one host and the database, for .ci/pool-chaos: it can hold all bytes back, or cut the link."""

import asyncio


class Proxy:
    """`pass`: bytes go through. `freeze`: connections stay, no byte moves. `cut`: all are closed, none is accepted."""

    def __init__(self, port):
        self.target = port
        self.port = None
        self.writers = set()
        self.flowing = None  # an asyncio.Event: set while bytes may move
        self.is_cut = False
        self.bytes = 0

    async def start(self):
        self.flowing = asyncio.Event()
        self.flowing.set()
        server = await asyncio.start_server(self.connection, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]

    def set(self, mode):
        """Must run on the proxy's loop."""
        self.is_cut = mode == "cut"
        if mode == "freeze":
            self.flowing.clear()
        else:
            self.flowing.set()
        if self.is_cut:
            for writer in list(self.writers):
                writer.transport.abort()

    async def connection(self, reader, writer):
        self.writers.add(writer)
        upstream = None
        try:
            await self.flowing.wait()
            if self.is_cut:
                return
            there, upstream = await asyncio.open_connection("127.0.0.1", self.target)
            self.writers.add(upstream)
            await asyncio.gather(self.pump(reader, upstream), self.pump(there, writer))
        except OSError:
            pass
        finally:
            for end in (writer, upstream):
                if end is not None:
                    self.writers.discard(end)
                    end.transport.abort()

    async def pump(self, reader, writer):
        """Moves bytes one way. An end of one direction ends the connection, which suits the database's protocol."""
        while data := await reader.read(65536):
            await self.flowing.wait()
            self.bytes += len(data)
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError
