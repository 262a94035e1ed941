"""A WebSocket server that sends back whatever it gets: `echo.py PORT`."""

import asyncio
import logging
import sys

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed


async def echo(connection):
    try:
        async for message in connection:
            await connection.send(message)
    except ConnectionClosed:
        pass


async def main(port):
    options = {"max_size": None, "ping_interval": None, "close_timeout": 1}
    async with serve(echo, "127.0.0.1", port, **options) as server:
        await server.serve_forever()


if __name__ == "__main__":
    # Most cases end in a breach of the protocol on purpose.
    logging.getLogger("websockets.server").setLevel(logging.CRITICAL)
    asyncio.run(main(int(sys.argv[1])))
