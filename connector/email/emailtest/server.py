"""A mail server on loopback for tests: aiosmtpd, which shares no code with the bridge.

It prints one line of JSON when it listens, and one for each letter. It ends with its standard input.
"""
import argparse
import asyncio
import email
import email.policy
import json
import ssl
import sys

from aiosmtpd.smtp import AuthResult, SMTP

parser = argparse.ArgumentParser()
parser.add_argument("--tls", choices=["none", "starttls", "implicit"], default="none")
parser.add_argument("--cert")
parser.add_argument("--key")
parser.add_argument("--user")
parser.add_argument("--password")
parser.add_argument("--refuse", default="", help="addresses beginning with this do not exist")
args = parser.parse_args()


def say(**what):
    print(json.dumps(what), flush=True)


class Handler:
    async def handle_RCPT(self, server, session, envelope, address, options):
        if args.refuse and address.startswith(args.refuse):
            return f"550 5.1.1 no such user: {address}"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        letter = email.message_from_bytes(envelope.content, policy=email.policy.default)
        say(
            mail_from=envelope.mail_from,
            to=envelope.rcpt_tos,
            headers={k: str(v) for k, v in letter.items()},
            defects=[str(d) for d in letter.defects],
            text=letter.get_content(),
            tls=session.ssl is not None or args.tls == "implicit",
            login=session.auth_data if isinstance(session.auth_data, str) else "",
        )
        return "250 taken"


def authenticate(server, session, envelope, mechanism, data):
    good = data.login.decode() == args.user and data.password.decode() == args.password
    return AuthResult(success=good, handled=good, auth_data=data.login.decode() if good else None)


context = None
if args.tls != "none":
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(args.cert, args.key)


def connection():
    return SMTP(
        Handler(),
        hostname="mail.test",
        tls_context=context if args.tls == "starttls" else None,
        require_starttls=args.tls == "starttls",
        authenticator=authenticate if args.user else None,
        auth_required=bool(args.user),
        auth_require_tls=args.tls == "starttls",
    )


async def serve():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(connection, "127.0.0.1", 0, ssl=context if args.tls == "implicit" else None)
    say(port=server.sockets[0].getsockname()[1])
    await loop.run_in_executor(None, sys.stdin.read)


asyncio.run(serve())
