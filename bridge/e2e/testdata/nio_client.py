"""An independent Matrix client (matrix-nio) in a bridged room.

Usage: nio_client.py HOMESERVER USER PASSWORD ROOM SEND EXPECT
Logs in, sends SEND, prints "sent <event id>", waits until somebody else's text
EXPECT is in the room, prints "got <sender>" and ends with status 0.
"""

import asyncio
import sys

from nio import AsyncClient, LoginResponse, RoomMessageText, RoomSendResponse


async def main(homeserver, user, password, room, send, expect):
    client = AsyncClient(homeserver, user)
    found = asyncio.Event()

    async def on_text(_room, event):
        if _room.room_id == room and event.body == expect and event.sender != user:
            print("got", event.sender, flush=True)
            found.set()

    client.add_event_callback(on_text, RoomMessageText)
    try:
        answer = await client.login(password)
        if not isinstance(answer, LoginResponse):
            sys.exit(f"login failed: {answer}")
        await client.sync(full_state=True)
        answer = await client.room_send(
            room, "m.room.message", {"msgtype": "m.text", "body": send}
        )
        if not isinstance(answer, RoomSendResponse):
            sys.exit(f"sending failed: {answer}")
        print("sent", answer.event_id, flush=True)
        while not found.is_set():
            await client.sync(timeout=1000)
    finally:
        await client.close()


asyncio.run(asyncio.wait_for(main(*sys.argv[1:7]), 120))
