"""An independent Matrix client (matrix-nio) in a bridged room.

Usage: nio_client.py HOMESERVER USER PASSWORD STORE STEPS
STORE is a folder for the client's encryption keys. STEPS is a JSON list; each
step is done when the one before it is:

  {"enter": [NAME, …]}     the room of one of these names, once invited to it
  {"send_text": BODY}      encrypted, if the room is
  {"send_image": PATH, "mimetype": TYPE, "width": W, "height": H}
                           likewise, and uploaded
  {"expect_text": BODY}    from somebody else
  {"expect_image": BODY, "to": PATH}
                           from somebody else; saved, decrypted
  {"check_device_of": USER}
                           the user's only device is signed by their own keys

After each step one line of JSON tells how it went. The status is 0 if all held.
"""

import asyncio
import json
import os
import sys

import nio
from nio.crypto.attachments import decrypt_attachment

STEPS = ("enter", "send_text", "send_image", "expect_text", "expect_image", "check_device_of")


def tell(**what):
    print(json.dumps(what), flush=True)


def expect(answer, kind):
    if not isinstance(answer, kind):
        sys.exit(f"wanted {kind.__name__}, got {answer}")
    return answer


class Client:
    def __init__(self, homeserver, user, store):
        self.room = None
        self.nio = nio.AsyncClient(homeserver, user, store_path=store)
        self.inbox = asyncio.Queue()
        self.nio.add_event_callback(self.take, (nio.RoomMessage, nio.MegolmEvent))

    async def take(self, room, event):
        if event.sender != self.nio.user_id:
            await self.inbox.put((room.room_id, event))

    async def login(self, password):
        """Logs in, publishes the device's keys and starts to sync."""
        expect(await self.nio.login(password), nio.LoginResponse)
        self.loop = asyncio.create_task(self.nio.sync_forever(timeout=30000, full_state=True))
        await self.synced(lambda: not self.nio.should_upload_keys)
        tell(step="login")

    async def enter(self, step):
        def invited():
            for room in self.nio.invited_rooms.values():
                if room.name in step["enter"]:
                    self.room = room.room_id
            return self.room

        await self.synced(invited)
        expect(await self.nio.join(self.room), nio.JoinResponse)
        await self.synced(lambda: self.room in self.nio.rooms)
        tell(step="enter", room=self.room, encrypted=self.nio.rooms[self.room].encrypted)

    async def synced(self, condition):
        """Waits for a condition, which is looked at after each sync."""
        while not condition():
            await self.until(self.nio.synced.wait())

    async def until(self, what):
        """Waits for something, or for the sync loop to break."""
        task = asyncio.ensure_future(what)
        done, _ = await asyncio.wait({task, self.loop}, return_when=asyncio.FIRST_COMPLETED)
        if task not in done:
            task.cancel()
            self.loop.result()
            sys.exit("syncing ended")
        return task.result()

    async def send(self, content):
        # Nobody is there to compare fingerprints with the bridge.
        answer = await self.nio.room_send(
            self.room, "m.room.message", content, ignore_unverified_devices=True
        )
        return expect(answer, nio.RoomSendResponse).event_id

    async def send_text(self, step):
        tell(step="send_text", event=await self.send({"msgtype": "m.text", "body": step["send_text"]}))

    async def send_image(self, step):
        path = step["send_image"]
        size, name = os.path.getsize(path), os.path.basename(path)
        encrypt = self.nio.rooms[self.room].encrypted
        with open(path, "rb") as image:
            answer, keys = await self.nio.upload(
                image, content_type=step["mimetype"], filename=name, encrypt=encrypt, filesize=size
            )
        uri = expect(answer, nio.UploadResponse).content_uri
        where = {"file": {**keys, "url": uri}} if encrypt else {"url": uri}
        content = {
            "msgtype": "m.image",
            "body": name,
            "info": {"mimetype": step["mimetype"], "size": size, "w": step["width"], "h": step["height"]},
            **where,
        }
        tell(step="send_image", event=await self.send(content))

    async def next(self, match):
        """The next message that matches; what cannot be decrypted is an error."""
        while True:
            room, event = await self.until(self.inbox.get())
            if room != self.room:
                continue
            if isinstance(event, nio.MegolmEvent):
                sys.exit(f"a message of {event.sender} could not be decrypted")
            if match(event):
                return event

    async def expect_text(self, step):
        body = step["expect_text"]
        event = await self.next(lambda e: isinstance(e, nio.RoomMessageText) and e.body == body)
        tell(step="expect_text", sender=event.sender, decrypted=event.decrypted)

    async def expect_image(self, step):
        event = await self.next(
            lambda e: isinstance(e, (nio.RoomEncryptedImage, nio.RoomMessageImage)) and e.body == step["expect_image"]
        )
        answer = expect(await self.nio.download(event.url), nio.MemoryDownloadResponse)
        data = answer.body
        encrypted = isinstance(event, nio.RoomEncryptedImage)
        if encrypted:
            data = decrypt_attachment(data, event.key["k"], event.hashes["sha256"], event.iv)
        with open(step["to"], "wb") as out:
            out.write(data)
        tell(step="expect_image", sender=event.sender, decrypted=event.decrypted, file_encrypted=encrypted)

    async def check_device_of(self, step):
        """Follows the signatures from a user's master key to their device."""
        import olm

        user = step["check_device_of"]
        path = "/_matrix/client/v3/keys/query"
        answer = await self.nio.send(
            "POST",
            path,
            json.dumps({"device_keys": {user: []}}),
            headers={"Authorization": f"Bearer {self.nio.access_token}", "Content-Type": "application/json"},
        )
        keys = await answer.json()

        def signed(thing, key):
            unsigned = {k: v for k, v in thing.items() if k not in ("signatures", "unsigned")}
            canonical = nio.Api.to_canonical_json(unsigned)
            name, public = next(iter(key["keys"].items()))
            olm.ed25519_verify(public, canonical, thing["signatures"][user][name])  # raises if it is wrong

        signed(keys["self_signing_keys"][user], keys["master_keys"][user])
        devices = keys["device_keys"][user]
        if len(devices) != 1:
            sys.exit(f"{len(devices)} devices")
        signed(next(iter(devices.values())), keys["self_signing_keys"][user])
        tell(step="check_device_of", signed=True)


async def main(homeserver, user, password, store, steps):
    client = Client(homeserver, user, store)
    try:
        await client.login(password)
        for step in json.loads(steps):
            await getattr(client, next(name for name in STEPS if name in step))(step)
        client.loop.cancel()
    finally:
        await client.nio.close()


asyncio.run(asyncio.wait_for(main(*sys.argv[1:6]), 540))
