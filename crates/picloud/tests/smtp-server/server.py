"""A mail server. Prints its port, then each mail that it takes as a line of JSON; ends with its standard input.

Options are an object: `tls` is `starttls` or `tls` with `certificate` and `key`, else there is none; `password` lets
in only the user `picloud`. A recipient `unknown@…` is refused for good, `later@…` for now.
"""

import asyncio
import base64
import email
import email.policy
import json
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult

OPTIONS = json.loads(sys.argv[1])


def part(one):
    content = one.get_payload(decode=True)
    return {
        "type": one.get_content_type(),
        "encoding": one["content-transfer-encoding"],
        "disposition": one.get_content_disposition(),
        "name": one.get_filename(),
        "content": base64.b64encode(content).decode(),
        "text": content.decode("utf-8", "replace"),
    }


class Handler:
    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith("unknown@"):
            return f"550 5.1.1 {address} is not known here"
        if address.startswith("later@"):
            return "451 4.3.0 come again"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        mail = {
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "user": session.auth_data,
            "is_encrypted": bool(session.ssl or server.transport.get_extra_info("ssl_object")),
            "longest_line": max(len(line) for line in envelope.content.split(b"\r\n")),
            "is_ascii": envelope.content.isascii(),
            "headers": {name.lower(): str(value) for name, value in message.items()},
            "types": [one.get_content_type() for one in message.walk()],
            "parts": [part(one) for one in message.walk() if not one.is_multipart()],
        }
        print(json.dumps(mail), flush=True)
        return "250 taken"


def authenticate(server, session, envelope, mechanism, login):
    is_right = login.login == b"picloud" and login.password == OPTIONS["password"].encode()
    return AuthResult(success=is_right, handled=False, auth_data="picloud" if is_right else None)


def context():
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(OPTIONS["certificate"], OPTIONS["key"])
    return made


def smtp():
    options = {}
    if OPTIONS.get("tls") == "starttls":
        options.update(tls_context=context(), require_starttls=True)
    if "password" in OPTIONS:
        # What is encrypted from the first byte does not count for it.
        options.update(authenticator=authenticate, auth_required=True, auth_require_tls="starttls" == OPTIONS.get("tls"))
    return SMTP(Handler(), hostname="mail.example.org", **options)


async def main():
    loop = asyncio.get_running_loop()
    at_once = context() if OPTIONS.get("tls") == "tls" else None
    server = await loop.create_server(smtp, "127.0.0.1", 0, ssl=at_once)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


asyncio.run(main())
